"""How one image is shown: scale, limits, palette, and the way from numbers to bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.plot.colour import SAMPLES, limits

Scale = Literal["linear", "log", "sqrt"]
LimitMode = Literal["auto", "percentile", "manual"]
TINY = 1e-290  # differences below have no reciprocal
LEVELS = 255  # byte 0 stands for pixels without a value


@dataclass(frozen=True)
class Look:
    """What the user chose for one image.

    Attributes
    ----------
    scale
        Of the colours.
    mode
        ``"auto"``: 0.1 % and 99.9 % quantiles; ``"percentile"``: `percent`; ``"manual"``: `manual`.
    percent
        Lower and upper percentile, 0 .. 100.
    manual
        Values of the darkest and the brightest colour.
    symmetric
        Automatic limits ``(-m, m)``.
    mark
        Pixels that are not valid are grey; else their value is shown if there is one.
    """

    scale: Scale = "linear"
    mode: LimitMode = "auto"
    percent: tuple[float, float] = (1.0, 99.0)
    manual: tuple[float, float] = (0.0, 1.0)
    symmetric: bool = False
    mark: bool = True


def limits_of(values: npt.NDArray[Any], valid: npt.NDArray[np.bool_], look: Look) -> tuple[float, float]:
    """Return the values of the darkest and the brightest colour: always finite and ascending.

    A logarithmic scale needs positive limits: where the chosen ones are not, the automatic ones step in.
    """
    positive = look.scale == "log"
    low, high = limits(values, valid, symmetric=look.symmetric, positive=positive)
    if look.mode == "manual":
        low, high = look.manual
    elif look.mode == "percentile":
        step = 1 if values.size <= SAMPLES else (values.size // SAMPLES + 1) | 1
        sample = values.reshape(-1)[::step]
        keep = valid.reshape(-1)[::step] & np.isfinite(sample)
        sample = sample[keep & (sample > 0)] if positive else sample[keep]
        if sample.size:
            low, high = (float(q) for q in np.percentile(sample.astype(np.float64), look.percent))
    if positive and low <= 0:
        low = min(limits(values, valid, positive=True)[0], high / 10 if high > 0 else 0.1)
    if positive:
        low = max(low, TINY)
    if not high - low > max(TINY, 1e-13 * max(abs(low), abs(high))):  # the same but for rounding
        high = low * 10 if positive else low + max(abs(low), 1.0 if abs(low) < TINY else 0.0)
    return low, high


def fraction(values: npt.NDArray[Any], low: float, high: float, scale: Scale) -> npt.NDArray[Any]:
    """Return where `values` lie between the limits on the colour scale, clipped to 0 .. 1; NaN stays."""
    short = values.dtype.itemsize <= 2 or values.dtype == np.float32
    short &= 1e-30 < high - low < 1e30 and (scale != "log" or low > 1e-30)
    part: Any = values.astype(np.float32 if short else np.float64)
    with np.errstate(over="ignore"):  # far beyond the limits is clipped anyway
        if scale == "log":
            np.log(np.maximum(part, low, out=part), out=part)
            part -= math.log(low)
            part /= math.log(high) - math.log(low)
        else:
            part -= low
            part /= high - low
    np.clip(part, 0, 1, out=part)
    return np.sqrt(part, out=part) if scale == "sqrt" else part


def to_bytes(
    values: npt.NDArray[Any], valid: npt.NDArray[np.bool_], low: float, high: float, scale: Scale
) -> npt.NDArray[np.uint8]:
    """Return bytes 1 .. 255 for the values between the limits, and 0 where there is no value.

    Parameters
    ----------
    values
        Real, any shape.
    valid
        Bool, same shape; False also where `values` are not finite.
    low, high
        Limits, ascending; positive with ``scale="log"``.
    """
    part = fraction(values, low, high, scale)
    part *= LEVELS - 1
    part += 1.5  # the cast cuts: this rounds
    if not valid.all():
        part[~valid] = 0
    return part.astype(np.uint8)


def ticks(low: float, high: float, scale: Scale, about: int = 6) -> list[tuple[float, str]]:
    """Return (place, label) on a colour bar that runs from 0 to 1: about `about` round numbers.

    >>> [label for _, label in ticks(0, 1000, "linear")]
    ['0', '200', '400', '600', '800', '1000']
    >>> [label for _, label in ticks(1, 1000, "log")]
    ['1', '10', '100', '1000']
    """
    if scale == "log" and high / low >= 100:
        first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
        every = max(1, -(-(last - first) // about))
        values = [10.0**e for e in range(first, last + 1, every)]
        labels = [f"{v:.6g}" for v in values]
    else:
        rough = (high - low) / about
        size = 10.0 ** math.floor(math.log10(rough))
        step = size * next(m for m in (1, 2, 5, 10) if m * size >= rough * 0.999 or m == 10)
        values = [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
        digits = math.floor(math.log10(max(abs(low), abs(high)))) - math.floor(math.log10(step)) + 1
        labels = [f"{v:.{min(max(digits, 6), 12)}g}" for v in values]
    places = fraction(np.asarray(values, dtype=np.float64), low, high, scale)
    return list(zip(places.tolist(), labels, strict=True))
