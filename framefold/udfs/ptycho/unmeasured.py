"""Which values of a detector are no counts, by a sample of frames: gaps, saturation, hot pixels, noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError

Array = npt.NDArray[Any]
Saturation = float | Literal["auto"] | None
FEWEST = 8  # equal values at the top of a sample: fewer may be chance
PIXELS = 4  # that have them: fewer are broken
PILED_UP = 5  # times the values just below
MOST_NEGATIVE = 0.01  # of the values: more come from noise that is not that of counting
HOT = 20.0  # times the brightest neighbour
NEAR_BEAM = 3  # px: the beam itself may be as sharp as a hot pixel


@dataclass(frozen=True, eq=False)
class Unmeasured:
    """What was found.

    Attributes
    ----------
    limit
        Values from here on are not measured in their frame; infinite: all are.
    bad
        Bool, signal shape: pixels that never are.
    notes
        Sentences about both.
    """

    limit: float
    bad: npt.NDArray[np.bool_]
    notes: tuple[str, ...]


def find_unmeasured(sample: Array, good: npt.NDArray[np.bool_], saturation: Saturation) -> Unmeasured:
    """Return the limit of the counts, and the pixels that are bad in all sampled frames.

    Parameters
    ----------
    sample
        ``(k, ny, nx)``, any real dtype.
    good
        Bool ``(ny, nx)``: pixels not masked by anybody.
    saturation
        Given limit; ``"auto"``: the largest number of an integer type, or a value at which counts pile up;
        None: none.

    Raises
    ------
    DataError
        If the limit given is not positive.
    """
    notes: list[str] = []
    limit = np.inf
    if saturation == "auto":
        limit, said = _limit(sample, good)
        notes += said
    elif saturation is not None:
        limit = float(saturation)
        if not limit > 0:
            raise DataError(f"saturation={saturation!r}: a positive number of counts, 'auto' or None")
    bad = np.zeros(good.shape, bool)
    never = ~(sample < limit).any(axis=0) & good  # NaN too
    gap = np.zeros_like(bad)
    if sample.dtype.kind == "i" and len(sample) > 1:
        gap = (sample < 0).all(axis=0) & (sample == sample[0]).all(axis=0) & good
    for which, what in ((never, "saturated, NaN or marked as invalid"), (gap, "marked by a negative number")):
        if which.any():
            notes.append(f"{int(which.sum())} pixels are {what} in all sampled frames: they are masked")
            bad |= which
    hot = _hot(sample, good & ~bad, limit)
    if hot.any():
        y, x = np.argwhere(hot)[0]
        notes.append(
            f"{int(hot.sum())} pixels are {HOT:.0f} times as bright as their neighbours, the first is "
            f"({y}, {x}): they are masked as hot"
        )
        bad |= hot
    return Unmeasured(limit, bad, tuple(notes))


def pedestal_of(values: Array) -> float:
    """Return what to add to counts and model alike where noise makes counts negative; 0: few are.

    Twice the standard deviation of the noise, taken from the negative values. Counts cut off at 0 have a mean
    above that of the model: at a noise of 0.8 counts by 0.3 in each dark pixel, which scatters light all over
    the frame. Amplitudes of both with a pedestal have it right (the square root of counts with Gaussian noise
    of variance s^2 has even noise where s^2 is added: J.-L. Starck et al., Image Processing and Data Analysis
    (1998), eq. 2.18).

    Parameters
    ----------
    values
        Measured ones of a sample of frames.
    """
    negative = values[values < 0].astype(np.float64)
    if negative.size <= MOST_NEGATIVE * values.size:
        return 0.0
    twice = 2 * float(np.sqrt(np.mean(negative**2)))
    return float(np.ceil(twice)) if values.dtype.kind == "i" else twice


def valid_mean(sample: Array, good: npt.NDArray[np.bool_], limit: float) -> npt.NDArray[np.float64]:
    """Return the mean frame over values that are measured, 0 where none is."""
    valid = (sample < limit) & good
    total = np.where(valid, sample, 0).sum(axis=0, dtype=np.float64)
    return np.asarray(total / np.maximum(valid.sum(axis=0), 1))


def _limit(sample: Array, good: npt.NDArray[np.bool_]) -> tuple[float, list[str]]:
    """Return the value at which the sample saturates, and a sentence."""
    values = sample[:, good]
    if values.size == 0:
        return np.inf, []
    if sample.dtype.kind in "iu":
        info = np.iinfo(sample.dtype)
        top = int(values.max())
        if top == info.max:
            return float(top), [f"values of {top}, the largest of {sample.dtype}, are taken as not measured"]
        # marks of narrower counters in wider numbers: 2^12 - 1, 2^16 - 1, 2^32 - 1, ...
        marked = top >= 4095 and (top + 1) & top == 0 and int((values == top).sum()) > 1
    else:
        finite = values[np.isfinite(values)]
        if finite.size == 0:
            return np.inf, []
        top, marked = finite.max(), False
    if not marked:
        near = values[values >= 0.9 * top]
        found, counts = np.unique(near, return_counts=True)
        below = int(counts[:-1].max()) if len(counts) > 1 else 0
        at_top = int(counts[-1]) if found[-1] == top else 0
        marked = top > 50 and at_top >= FEWEST and at_top > PILED_UP * max(below, 1)
        marked = marked and int((values == top).any(axis=0).sum()) >= PIXELS
    if not marked:
        return np.inf, []
    return float(top), [
        f"counts pile up at {top:.6g}: such values are taken as saturated, not measured "
        "(saturation= ; --saturation: another limit, or none)"
    ]


def _hot(sample: Array, good: npt.NDArray[np.bool_], limit: float) -> npt.NDArray[np.bool_]:
    """Return isolated pixels that are much brighter than all their neighbours, frame after frame."""
    from scipy.ndimage import maximum_filter  # noqa: PLC0415  # only where a run begins

    typical = np.median(np.where(sample < limit, sample, 0), axis=0) * good
    ring = np.ones((5, 5), bool)
    ring[2, 2] = False
    around = maximum_filter(typical, footprint=ring, mode="nearest")
    hot = typical > HOT * around + 10
    smooth = np.where(hot, 0, np.maximum(typical, 0))
    total = smooth.sum()
    if not total > 0:
        return np.zeros_like(good)
    y, x = np.indices(good.shape)
    beam = (smooth * y).sum() / total, (smooth * x).sum() / total
    near = np.hypot(y - beam[0], x - beam[1]) <= NEAR_BEAM
    return np.asarray(hot & ~near)
