"""Where the object may be: from the autocorrelation, and from the object as it forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import ConvergenceError, DataError
from framefold.udfcore.namespace import scipy_of, to_host, xp_of
from framefold.udfs.cdi.algebra import Operator
from framefold.udfs.cdi.algorithms import ER
from framefold.udfs.cdi.state import CDI, random_object

Support = npt.NDArray[np.bool_]


@dataclass(frozen=True, repr=False)
class SupportUpdate(Operator):
    """Shrink-wrap: the support is where the blurred modulus exceeds a threshold.

    Marchesini et al., Physical Review B 68 (2003) 140101.

    Parameters
    ----------
    threshold
        Relative to `relative_to` of the modulus.
    relative_to
        ``"rms"`` or ``"mean"`` over the present support, or ``"max"`` of the blurred modulus.
    sigma
        Blur in pixels: a number, or (start, end, n), from start to end over the first n iterations.
    force_shrink
        The support never grows.
    border
        Grown by this many pixels afterwards.
    keep_largest
        Only the largest connected part.
    """

    threshold: float = 0.25
    relative_to: Literal["rms", "mean", "max"] = "rms"
    sigma: float | tuple[float, float, int] = (2.0, 0.7, 600)
    force_shrink: bool = False
    border: int = 0
    keep_largest: bool = False

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise DataError(f"SupportUpdate: threshold={self.threshold} must be positive")
        if self.relative_to not in ("rms", "mean", "max"):
            raise DataError(f"SupportUpdate: relative_to={self.relative_to!r} is not 'rms', 'mean' or 'max'")
        if not isinstance(self.sigma, (int, float)) and len(self.sigma) != 3:
            raise DataError(f"SupportUpdate: sigma={self.sigma} is a number or (start, end, n)")

    def sigma_at(self, cycle: int) -> float:
        """Return the blur at an iteration, pixels."""
        if isinstance(self.sigma, (int, float)):
            return float(self.sigma)
        start, end, n = self.sigma
        return float(start + (end - start) * min(cycle / max(n, 1), 1.0))

    def apply(self, cdi: CDI) -> CDI:
        """Return the state with the new support.

        Raises
        ------
        ConvergenceError
            If nothing is left.
        """
        obj, support = cdi.parts
        xp = xp_of(obj)
        ndimage = scipy_of(xp, "ndimage")
        modulus = xp.abs(obj).astype(cdi.real_dtype)
        smooth = ndimage.gaussian_filter(modulus, self.sigma_at(cdi.cycle), mode="wrap", truncate=3.0)
        inside = (modulus * support).astype(np.float64)
        level = {
            "rms": lambda: xp.sqrt((inside**2).sum() / support.sum()),
            "mean": lambda: inside.sum() / support.sum(),
            "max": lambda: smooth.max(),
        }[self.relative_to]()
        new = smooth > self.threshold * level
        if self.border:
            # CuPy has no other way; it changes nothing but the time
            new = ndimage.binary_dilation(new, iterations=self.border, brute_force=xp is not np)
        if self.force_shrink:
            new &= support
        if self.keep_largest and new.any():
            new = largest_part(new)
        if not new.any():
            raise ConvergenceError(
                f"the support vanished at iteration {cdi.cycle}: lower threshold={self.threshold}"
            )
        return cdi.new(support=new)


def largest_part(support: Support) -> Support:
    """Return the largest connected part, neighbours across corners included."""
    xp = xp_of(support)
    labels, n = scipy_of(xp, "ndimage").label(support, xp.ones((3,) * support.ndim))
    if n < 2:
        return support
    return labels == 1 + xp.argmax(xp.bincount(labels.reshape(-1))[1:])


@dataclass(frozen=True, repr=False)
class AutoCorrelationSupport(Operator):
    """First support and start: where the autocorrelation (the transform of the intensities) is large.

    The object is random anew, by the seed of the state. The autocorrelation is twice as wide as the object:
    shrink it by `SupportUpdate`. Masked pixels count as 0: apply `InterpMask` first where a beam stop hides
    much.

    Parameters
    ----------
    threshold
        Relative to the largest value, that at the origin excepted, which background and noise raise.
    """

    threshold: float = 0.1

    def apply(self, cdi: CDI) -> CDI:
        """Return the state with support and random object."""
        xp = xp_of(cdi.data.intensity)
        correlation = xp.abs(xp.fft.fftshift(xp.fft.ifftn(cdi.data.intensity)))
        at = tuple(n // 2 for n in cdi.shape)
        correlation[at] = 0
        support = correlation > self.threshold * correlation.max()
        support[at] = True
        return cdi.new(support=support, obj=random_object(cdi.data, support, cdi.seed, cdi.complex_dtype))


@dataclass(frozen=True, repr=False)
class Detwin(Operator):
    """Iterations with half of the support, which break the tie between an object and its twin image.

    Parameters
    ----------
    n
        Iterations of error reduction.
    axis
        Along which the support is cut, at its middle.
    """

    n: int = 10
    axis: int = 0

    def apply(self, cdi: CDI) -> CDI:
        """Return the state after `n` iterations, with its former support."""
        _, support = cdi.parts
        if not -support.ndim <= self.axis < support.ndim:
            raise DataError(f"Detwin: axis={self.axis} is not an axis of the {support.ndim}-D support")
        others = tuple(i for i in range(support.ndim) if i != self.axis % support.ndim)
        where = np.flatnonzero(to_host(support.any(axis=others)))
        middle = int(where.mean())
        half = support.copy()
        half[(slice(None),) * (self.axis % support.ndim) + (slice(middle, None),)] = False
        if not half.any():
            return cdi
        return ER().repeat(cdi.new(support=half), self.n).new(support=support)
