"""From expected electrons to what a detector writes: counting noise, gain, read-out, bad pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.sim.kernels_noise import normal_frames, poisson_frames

Pixels = tuple[tuple[int, int], ...]


def poisson(
    expected: npt.NDArray[Any],
    seed: int = 0,
    first: int = 0,
    out: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """Return Poisson counts for frames of `expected` electrons.

    Parameters
    ----------
    expected
        ``(n, y, x)``; values of 0 or less give no counts.
    seed
        Of the random numbers; together with the frame index it fixes them, however the frames are cut.
    first
        Index of the first frame.
    out
        Where to write, same shape; default: a new int64 array.
    """
    if expected.ndim != 3:
        raise DataError(f"poisson takes frames (n, y, x), got the shape {expected.shape}")
    counts = np.empty(expected.shape, dtype=np.int64) if out is None else out
    poisson_frames(expected, int(seed), int(first), counts)
    return counts


@dataclass(frozen=True)
class Detector:
    """What turns electrons into stored values: ``round(gain * n + offset + readout * normal)``.

    Attributes
    ----------
    gain
        Counts per electron: a number, or an array of the signal shape.
    offset
        Added to every pixel, counts.
    readout
        Standard deviation of the read-out noise, counts.
    hot
        Pixels (y, x) that always show the largest value of the dtype.
    dead
        Pixels (y, x) that always show 0.
    """

    gain: float | npt.NDArray[np.float64] = 1.0
    offset: float = 0.0
    readout: float = 0.0
    hot: Pixels = ()
    dead: Pixels = ()

    def __post_init__(self) -> None:
        if np.any(np.asarray(self.gain) <= 0):
            raise DataError("the gain of a detector must be positive everywhere")
        if self.readout < 0:
            raise DataError(f"readout noise must be >= 0, got {self.readout}")

    @property
    def ideal(self) -> bool:
        """Whether stored values are electrons."""
        return self == Detector() if np.ndim(self.gain) == 0 else False

    def check(self, sig: tuple[int, int]) -> None:
        """Raise `DataError` when gain map or bad pixels do not fit the signal shape."""
        if np.ndim(self.gain) and np.shape(self.gain) != sig:
            raise DataError(f"gain map of shape {np.shape(self.gain)} for a detector of {sig}")
        for y, x in (*self.hot, *self.dead):
            if not (0 <= y < sig[0] and 0 <= x < sig[1]):
                raise DataError(f"bad pixel ({y}, {x}) lies outside the detector {sig}")

    def bad_pixels(self, sig: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """Return the mask of hot and dead pixels, signal shape: what corrections should exclude."""
        mask = np.zeros(sig, dtype=bool)
        for y, x in (*self.hot, *self.dead):
            mask[y, x] = True
        return mask

    def record(
        self,
        electrons: npt.NDArray[Any],
        dtype: npt.DTypeLike = np.uint16,
        seed: int = 0,
        first: int = 0,
        out: npt.NDArray[Any] | None = None,
    ) -> npt.NDArray[Any]:
        """Return what the detector stores for `electrons` ``(n, y, x)``.

        Integer dtypes are rounded to nearest and saturate at their limits.
        """
        self.check(electrons.shape[1:])
        stored = np.empty(electrons.shape, dtype=dtype) if out is None else out
        limits = np.iinfo(stored.dtype) if stored.dtype.kind in "iu" else np.finfo(stored.dtype)
        if self.ideal and electrons.dtype.kind in "iu":
            np.minimum(electrons, limits.max, out=stored, casting="unsafe")
            return stored
        value = electrons * np.asarray(self.gain, dtype=np.float64) + self.offset
        if self.readout:
            noise = np.empty(value.shape)
            # another stream than that of the counts
            normal_frames(value.shape, int(seed) + 0x5EED, int(first), noise)
            value += self.readout * noise
        if stored.dtype.kind in "iu":
            np.rint(value, out=value)
            np.clip(value, limits.min, limits.max, out=value)
        stored[...] = value
        for y, x in self.hot:
            stored[:, y, x] = limits.max
        for y, x in self.dead:
            stored[:, y, x] = 0
        return stored
