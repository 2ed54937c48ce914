"""What a Bragg disk looks like: the templates that frames are correlated with and fitted by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError

Float = npt.NDArray[np.float64]
_OVERSAMPLING = 16
#: as good as sharp: the pixels blur more
SHARP = 0.03


class Pattern(Protocol):
    """A shape of disk.

    Attributes
    ----------
    radius
        Of the disk, px.
    uniform
        Whether the disk is a bare one, for which sub-pixel fits have a closed form.
    softness
        Standard deviation of the blur of the edge of a bare disk, px.

    Methods are ``mask(half)``, the expected intensity, and ``template(half)``, its zero-mean form, both
    ``(2 half + 1, 2 half + 1)`` with the centre in the middle; ``half_width`` is the `half` to take where
    there is room.
    """

    @property
    def radius(self) -> float: ...  # noqa: D102
    @property
    def uniform(self) -> bool: ...  # noqa: D102
    @property
    def softness(self) -> float: ...  # noqa: D102
    @property
    def half_width(self) -> int: ...  # noqa: D102

    def mask(self, half: int) -> Float: ...  # noqa: D102

    def template(self, half: int) -> Float: ...  # noqa: D102


@dataclass(frozen=True)
class Disk:
    """A disk; the template subtracts the mean over the circle around it.

    Parameters
    ----------
    radius
        px.
    softness
        Standard deviation of the blur of its edge, px.
    """

    radius: float
    softness: float = SHARP
    uniform = True

    def __post_init__(self) -> None:
        _check_radius(self.radius, self.softness)

    @property
    def half_width(self) -> int:
        """Reach of the template, px."""
        return _half_width(self.radius)

    def mask(self, half: int) -> Float:
        """Return the share of each pixel inside the disk."""
        return _sampled(half, lambda r: r <= self.radius)

    def template(self, half: int) -> Float:
        """Return the zero-mean template; its positive part sums to about 1."""
        return _zero_mean(self.mask(half))


@dataclass(frozen=True)
class RadialGradient:
    """A disk that brightens from the centre to the edge; for disks whose edge stands out."""

    radius: float
    uniform = False
    softness = 0.0

    def __post_init__(self) -> None:
        _check_radius(self.radius)

    @property
    def half_width(self) -> int:
        """Reach of the template, px."""
        return _half_width(self.radius)

    def mask(self, half: int) -> Float:
        """Return ``r / radius`` inside the disk."""
        return _sampled(half, lambda r: np.where(r <= self.radius, r / self.radius, 0.0))

    def template(self, half: int) -> Float:
        """Return the zero-mean template."""
        return _zero_mean(self.mask(half))


@dataclass(frozen=True)
class BackgroundSubtraction:
    """A disk minus the mean of the ring between `radius` and `outer`: blind to slow backgrounds."""

    radius: float
    outer: float
    softness: float = SHARP
    uniform = True

    def __post_init__(self) -> None:
        _check_radius(self.radius, self.softness)
        if not self.outer > self.radius + 0.5:
            raise DataError(
                f"the ring of the background reaches to {self.outer:g} px, inside the disk of radius "
                f"{self.radius:g} px: outer must be larger than radius + 0.5"
            )

    @property
    def half_width(self) -> int:
        """Reach of the template, px."""
        return math.ceil(self.outer) + 1

    def mask(self, half: int) -> Float:
        """Return the share of each pixel inside the disk."""
        return _sampled(half, lambda r: r <= self.radius)

    def template(self, half: int) -> Float:
        """Return disk minus ring, zero-mean."""
        ring = _sampled(half, lambda r: (r > self.radius) & (r <= self.outer))
        return _balanced(self.mask(half), ring)


@dataclass(frozen=True)
class Bullseye:
    """A bullseye aperture (Zeltmann et al., Ultramicroscopy 209, 112890, 2020): rings and spokes cut out.

    Parameters
    ----------
    radius
        Of the whole aperture, px.
    rings
        Opaque rings, inner and outer radius as shares of `radius`.
    spokes
        Number of opaque bars through the centre.
    spoke_width
        px.
    angle
        Of the first spoke from +x towards +y, degrees.
    """

    radius: float
    rings: Sequence[tuple[float, float]] = ((0.3, 0.42), (0.62, 0.74))
    spokes: int = 2
    spoke_width: float = 1.0
    angle: float = 0.0
    uniform = False
    softness = 0.0

    def __post_init__(self) -> None:
        _check_radius(self.radius)
        if any(not 0 <= a < b <= 1 for a, b in self.rings):
            raise DataError(f"rings are pairs of shares 0 <= inner < outer <= 1, got {tuple(self.rings)}")

    @property
    def half_width(self) -> int:
        """Reach of the template, px."""
        return _half_width(self.radius)

    def mask(self, half: int) -> Float:
        """Return the share of each pixel that is open."""
        y, x = _fine(half)
        r = np.hypot(y, x)
        open_ = r <= self.radius
        for inner, outer in self.rings:
            open_ &= ~((r >= inner * self.radius) & (r < outer * self.radius))
        for k in range(self.spokes):
            a = math.radians(self.angle) + math.pi * k / self.spokes
            open_ &= np.abs(y * math.cos(a) - x * math.sin(a)) > self.spoke_width / 2
        return _coarse(open_, half)

    def template(self, half: int) -> Float:
        """Return the zero-mean template."""
        return _zero_mean(self.mask(half))


class Template:
    """A measured probe: the image of the disk in vacuum.

    Parameters
    ----------
    image
        2-D, any size; it is centred on its centre of mass, and its background (the median of the border)
        is subtracted.

    Attributes
    ----------
    radius
        Of the disk of the same area, px.
    """

    uniform = False
    softness = 0.0

    def __init__(self, image: npt.ArrayLike) -> None:
        given = np.array(image, dtype=np.float64)
        if given.ndim != 2 or min(given.shape) < 5:
            raise DataError(f"a template is a 2-D image of at least 5x5 px, got shape {given.shape}")
        if not np.isfinite(given).all():
            raise DataError("the template holds NaN or infinite pixels: replace them first")
        border = np.concatenate([given[0], given[-1], given[:, 0], given[:, -1]])
        level = np.clip(given - np.median(border), 0, None)
        # single bright pixels do not decide what is inside
        top = float(np.quantile(level[level > 0], 0.9)) if (level > 0).any() else 0.0
        inside = level > 0.5 * top
        if top <= 0 or inside.sum() < 5:
            raise DataError("the template is flat: no disk stands out from its border")
        self._image = np.where(level > 0.05 * top, level, 0.0) / top
        self.image = given
        self.radius = math.sqrt(np.minimum(level / top, 1.0)[level > 0.05 * top].sum() / math.pi)
        y, x = np.mgrid[: given.shape[0], : given.shape[1]]
        weight = self._image / self._image.sum()
        self._centre = (float((weight * y).sum()), float((weight * x).sum()))

    @property
    def half_width(self) -> int:
        """Reach of the template, px."""
        return _half_width(self.radius)

    def mask(self, half: int) -> Float:
        """Return the image, centred by linear interpolation."""
        from scipy.ndimage import map_coordinates  # 30 ms that other patterns need not pay

        y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
        return np.asarray(
            map_coordinates(self._image, [y + self._centre[0], x + self._centre[1]], order=1, cval=0.0)
        )

    def template(self, half: int) -> Float:
        """Return the zero-mean template."""
        return _zero_mean(self.mask(half))

    def __repr__(self) -> str:
        return f"Template({self.image.shape}, radius={self.radius:.2f})"


def as_pattern(given: Pattern | float) -> Pattern:
    """Return a pattern: a number is the radius of a `Disk`."""
    if isinstance(given, (int, float, np.floating, np.integer)):
        return Disk(float(given))
    for name in ("radius", "uniform", "half_width", "mask", "template"):
        if not hasattr(given, name):
            raise DataError(
                f"pattern is a radius in px or one of Disk, RadialGradient, BackgroundSubtraction, Bullseye, "
                f"Template; got {type(given).__name__}"
            )
    return given


def _check_radius(radius: float, softness: float = SHARP) -> None:
    if not (math.isfinite(radius) and radius >= 1):
        raise DataError(f"the radius of a disk is at least 1 px, got {radius!r}")
    if not 0 < softness < radius:
        raise DataError(f"the softness of an edge is between 0 and the radius, px, got {softness!r}")


def _half_width(radius: float) -> int:
    # three pixels beside the edge at least: the fit takes its background from them
    return max(math.ceil(1.5 * radius), math.ceil(radius) + 3)


def _fine(half: int) -> tuple[Float, Float]:
    n = (2 * half + 1) * _OVERSAMPLING
    at = (np.arange(n) + 0.5) / _OVERSAMPLING - half - 0.5
    return at[:, None], at[None, :]


def _coarse(fine: npt.NDArray[np.generic], half: int) -> Float:
    s, n = _OVERSAMPLING, 2 * half + 1
    return np.asarray(fine, dtype=np.float64).reshape(n, s, n, s).mean(axis=(1, 3))


def _sampled(half: int, of_radius: object) -> Float:
    y, x = _fine(half)
    return _coarse(of_radius(np.hypot(y, x)), half)  # type: ignore[operator]


def _zero_mean(mask: Float) -> Float:
    # a circle stays away from neighbours; whole pixels of it keep the template constant in pieces
    half = len(mask) // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    return _balanced(mask, (np.hypot(y, x) < half + 0.5).astype(np.float64))


def _balanced(mask: Float, window: Float) -> Float:
    """Return `mask` per unit sum, minus `window` so that the whole sums to zero."""
    if mask.sum() <= 0:
        raise DataError("the template is empty: no pixel of it is open")
    return mask / mask.sum() - window / window.sum()
