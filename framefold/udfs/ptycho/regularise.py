"""What is known of object and probe beside the data: constraints after each iteration, as frozen values."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError, did_you_mean
from framefold.udfcore.namespace import xp_of
from framefold.udfs.ptycho.denominators import illuminated

Array = npt.NDArray[Any]


class Constraint(Protocol):
    """Changes object and probe of a `Ptychography` after an iteration."""

    def apply(self, job: Any) -> None:
        """Change ``job.loop.object`` or ``job.loop.probe``."""
        ...


@dataclass(frozen=True)
class Clip:
    """Keep the modulus of the object between two values: `high` = 1 for samples that only absorb."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high or self.high == 0:
            raise UDFError(f"Clip: low={self.low} and high={self.high} need 0 <= low <= high and high > 0")

    def apply(self, job: Any) -> None:
        """Scale what lies outside onto the nearer limit."""
        job.loop.object = with_modulus(job.loop.object, lambda m: m.clip(self.low, self.high))


@dataclass(frozen=True)
class PhaseOnly:
    """Draw the modulus of the object towards 1, by the share `weight` of the distance."""

    weight: float = 1.0

    def __post_init__(self) -> None:
        _share("PhaseOnly: weight", self.weight)

    def apply(self, job: Any) -> None:
        """Change moduli, keep phases."""
        job.loop.object = with_modulus(job.loop.object, lambda m: m + self.weight * (1 - m))


@dataclass(frozen=True)
class Smooth:
    """A step of diffusion of the object: ``O + weight (mean of the four neighbours - O)``."""

    weight: float = 0.05

    def __post_init__(self) -> None:
        _share("Smooth: weight", self.weight)

    def apply(self, job: Any) -> None:
        """Smooth all modes; borders keep their values."""
        obj = job.loop.object
        new = obj.copy()
        around = obj[:, :-2, 1:-1] + obj[:, 2:, 1:-1] + obj[:, 1:-1, :-2] + obj[:, 1:-1, 2:]
        new[:, 1:-1, 1:-1] += self.weight * (0.25 * around - obj[:, 1:-1, 1:-1])
        job.loop.object = new


@dataclass(frozen=True)
class TotalVariation:
    """Minimise ``|O - O_old|^2 / 2 + weight TV(O)`` in `steps` steps; flat areas stay flat, edges sharp.

    A. Chambolle, J. Math. Imaging Vis. 20 (2004) 89, the gradient of real and imaginary part taken together.
    """

    weight: float = 0.01
    steps: int = 5

    def __post_init__(self) -> None:
        if not self.weight > 0 or self.steps < 1:
            raise UDFError(f"TotalVariation: weight={self.weight} and steps={self.steps} must be positive")

    def apply(self, job: Any) -> None:
        """Denoise each mode by itself."""
        obj = job.loop.object
        modes = [total_variation(o, self.weight, self.steps) for o in obj]
        job.loop.object = xp_of(obj).stack(modes)


@dataclass(frozen=True)
class FlatOutside:
    """Set the object to its median where there is hardly light, which keeps noise from growing there."""

    def apply(self, job: Any) -> None:
        """Replace pixels below a quarter of the median illumination."""
        obj = job.loop.object
        where = illuminated(job.object_denominator())
        if where.any():
            new = obj.copy()
            for mode in new:
                lit, median = mode[where], xp_of(mode).median
                mode[~where] = median(lit.real) + 1j * median(lit.imag)
            job.loop.object = new


@dataclass(frozen=True)
class ProbeSupport:
    """Keep the probe within a disk about the middle of its field, with a soft rim of two pixels.

    Attributes
    ----------
    radius
        Pixels: of the object, or of the detector with ``space="fourier"``, where the disk is that of the
        aperture.
    space
        ``"real"`` or ``"fourier"``.
    """

    radius: float = 0.0
    space: Literal["real", "fourier"] = "real"

    def __post_init__(self) -> None:
        if not self.radius > 0 or self.space not in ("real", "fourier"):
            raise UDFError(
                f"ProbeSupport: radius={self.radius} must be positive and space={self.space!r} 'real' or "
                "'fourier'"
            )

    def apply(self, job: Any) -> None:
        """Multiply the probe, or its transform, by the disk."""
        probe = job.loop.probe
        ny, nx = probe.shape[-2:]
        r = np.hypot(np.arange(ny)[:, None] - ny // 2, np.arange(nx)[None, :] - nx // 2)
        xp = xp_of(probe)
        disk = xp.asarray(np.clip((self.radius + 1 - r) / 2, 0, 1))
        if self.space == "fourier":
            new = xp.fft.ifft2(xp.fft.fft2(probe) * xp.fft.ifftshift(disk))
        else:
            new = probe * disk
        job.loop.probe = new.astype(probe.dtype)
        job.probe_changed()


NAMES: dict[str, type[Any]] = {
    "clip": Clip,
    "phase-only": PhaseOnly,
    "smooth": Smooth,
    "tv": TotalVariation,
    "flat-outside": FlatOutside,
    "probe-support": ProbeSupport,
}


def as_constraints(given: str | Sequence[Constraint]) -> tuple[Constraint, ...]:
    """Return constraints from themselves, or from text: ``"clip(0, 1.05); tv(weight=0.01)"``.

    Raises
    ------
    UDFError
        Naming what is not understood, and what there is.

    Examples
    --------
    >>> as_constraints("clip(high=1.1); flat-outside")
    (Clip(low=0.0, high=1.1), FlatOutside())
    """
    if not isinstance(given, str):
        for one in given:
            if not hasattr(one, "apply"):
                raise UDFError(f"regularise: {one!r} is not a constraint; there are {', '.join(NAMES)}")
        return tuple(given)
    return tuple(_one(part.strip()) for part in given.split(";") if part.strip())


def _one(text: str) -> Constraint:
    found = re.fullmatch(r"([A-Za-z-]+)\s*(?:\((.*)\))?", text)
    name = found[1].lower() if found else text
    cls = NAMES.get(name)
    if found is None or cls is None:
        raise UDFError(
            f"regularise: no {text!r}; there are {', '.join(NAMES)}, with options in brackets, "
            f"'clip(0, 1.05); tv(weight=0.01)'.{did_you_mean(name, NAMES)}"
        )
    names = [f.name for f in fields(cls)]
    values: dict[str, Any] = {}
    for place, item in enumerate(o.strip() for o in (found[2] or "").split(",") if o.strip()):
        key, equals, value = (s.strip() for s in item.partition("="))
        if not equals:
            key, value = (names[place] if place < len(names) else item), item
        if key not in names:
            raise UDFError(f"regularise: {name} has no option {key!r}; there are {', '.join(names)}")
        try:
            values[key] = int(value) if key == "steps" else value if key == "space" else float(value)
        except ValueError as exc:
            raise UDFError(f"regularise: {name}: {key}={value!r} is not a number") from exc
    constraint: Constraint = cls(**values)
    return constraint


def _share(what: str, value: float) -> None:
    if not 0 < value <= 1:
        raise UDFError(f"{what}={value} must be in (0, 1]")


def with_modulus(wave: Array, change: Callable[[Array], Array]) -> Array:
    """Return `wave` with another modulus, a function of the one that it has; phases stay, 0 where none is."""
    xp = xp_of(wave)
    modulus = xp.abs(wave)
    wanted = change(modulus)
    scale = wanted / xp.maximum(modulus, 1e-30)
    return xp.where(modulus > 0, wave * scale, wanted).astype(wave.dtype)


def total_variation(wave: Array, weight: float, steps: int) -> Array:
    """Return the complex image `wave` ``(Y, X)`` after `steps` of Chambolle's iteration."""
    xp = xp_of(wave)
    p = xp.zeros((2, *wave.shape), wave.dtype)
    tau = 0.25  # converges up to 1/4 in two dimensions
    for _ in range(steps):
        error = _divergence(p) - wave / weight
        gradient = xp.zeros_like(p)
        gradient[0, :-1] = error[1:] - error[:-1]
        gradient[1, :, :-1] = error[:, 1:] - error[:, :-1]
        size = xp.sqrt((gradient.real**2 + gradient.imag**2).sum(axis=0))
        p = (p + tau * gradient) / (1 + tau * size)
    return (wave - weight * _divergence(p)).astype(wave.dtype)


def _divergence(p: Array) -> Array:
    """Return minus the adjoint of forward differences."""
    out = 0 * p[0]
    out[:-1] += p[0, :-1]
    out[1:] -= p[0, :-1]
    out[:, :-1] += p[1, :, :-1]
    out[:, 1:] -= p[1, :, :-1]
    return out
