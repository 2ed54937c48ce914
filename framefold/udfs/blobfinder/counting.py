"""Gain and pedestal of a camera from the noise of its frames: photon transfer beside and inside disks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfs.blobfinder.kernels_fit import BORDER, NOT_CONVERGED
from framefold.udfs.blobfinder.meter import Peaks

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]

#: variance over mean of the background between these, times the gain, is that of plain counts
_LIKE_COUNTS = (0.7, 1.5)
_SURE = 5.0  # standard errors
_LEAST = 200  # squares of pixels


@dataclass(frozen=True)
class Counting:
    """How counts tell electrons: ``variance = gain (counts - pedestal)``.

    Attributes
    ----------
    gain
        Counts per electron.
    pedestal
        Counts of no electron, less what read-out noise adds: ``offset - read^2 / gain``, for which the
        variance of shot and read-out noise together has the form above.
    """

    gain: float = 1.0
    pedestal: float = 0.0


@dataclass(frozen=True)
class _Level:
    """Mean and variance of pixels of one kind, medians over frames, and the standard error of the latter."""

    mean: float
    variance: float
    error: float


def counting_of(frames: Array, peaks: Peaks, at: Float, radius: float, blur: float, bad: Array,
                gain: float) -> Counting:  # fmt: skip
    """Return gain and pedestal of frames; `gain` and none unless the noise beside the disks refutes it.

    The variance of squares of 2x2 pixels, of whose four the mixed difference knows nothing but noise where
    brightness changes slowly, is compared with their mean, inside disks and far from any
    (Janesick, Photon Transfer, SPIE 2007).

    Parameters
    ----------
    frames
        ``(n, *sig)`` raw.
    peaks
        Their disks.
    at
        ``(m, 2)``: where disks may be, px.
    radius, blur
        Of the disks, px.
    bad
        Bool, signal shape: pixels to leave out.
    gain
        Counts per electron, presumed.
    """
    within, near = radius - 1.0 - 2.0 * blur, radius + 2.0 + 3.0 * blur
    y, x = (v + 0.5 for v in np.mgrid[: bad.shape[0] - 1, : bad.shape[1] - 1].astype(np.float64))
    fine = ~(bad[1:, 1:] | bad[1:, :-1] | bad[:-1, 1:] | bad[:-1, :-1])
    outside: list[tuple[float, float, int]] = []
    inside: list[tuple[float, float, int]] = []
    for i, frame in enumerate(np.asarray(frames, dtype=np.float64)):
        mixed = frame[1:, 1:] - frame[1:, :-1] - frame[:-1, 1:] + frame[:-1, :-1]
        level = 0.25 * (frame[1:, 1:] + frame[1:, :-1] + frame[:-1, 1:] + frame[:-1, :-1])
        variance, usable = 0.25 * mixed**2, fine & np.isfinite(mixed)
        seen = np.isfinite(peaks.centers[i]).all(-1) & ((peaks.flags[i] & (BORDER | NOT_CONVERGED)) == 0)
        drift = np.median(peaks.centers[i][seen] - at[seen], axis=0) if seen.any() else np.zeros(2)
        beside = usable & (_nearest(y, x, at + drift) > near)
        outside.append((level[beside].sum(), variance[beside].sum(), int(beside.sum())))
        if within > 0.8 and seen.any():
            bright = np.flatnonzero(seen)[np.argsort(-peaks.amplitude[i][seen])[:9]]
            on = usable & (_nearest(y, x, peaks.centers[i][bright].astype(np.float64)) < within)
            inside.append((level[on].sum(), variance[on].sum(), int(on.sum())))
    return _decided(_level(outside), _level(inside), gain)


def _decided(low: _Level | None, high: _Level | None, gain: float) -> Counting:
    """Return what explains both levels: plain counts if they do."""
    plain = Counting(gain)
    if low is None or low.variance <= 0:
        return plain
    off = low.variance - gain * low.mean
    few, many = (f * gain * low.mean for f in _LIKE_COUNTS)
    if abs(off) < _SURE * low.error or few <= low.variance <= many:
        return plain
    if high is None or high.mean <= low.mean:
        return plain
    error = math.hypot(low.error, high.error)
    if high.variance - low.variance < _SURE * error:
        return plain
    slope = (high.variance - low.variance) / (high.mean - low.mean)
    return Counting(slope, low.mean - low.variance / slope)


def _level(found: list[tuple[float, float, int]]) -> _Level | None:
    """Return the medians over frames that hold enough pixels."""
    sums = np.array([f for f in found if f[2] > 0]).reshape(-1, 3)
    if sums[:, 2].sum() < _LEAST:
        return None
    mean, variance = np.median(sums[:, 0] / sums[:, 2]), np.median(sums[:, 1] / sums[:, 2])
    # the square of a normal number has the variance 2; neighbouring squares of pixels share two of four
    error = variance * math.sqrt(2 * 1.57 * 2.5 / sums[:, 2].sum())
    return _Level(float(mean), float(variance), float(error))


def _nearest(y: Float, x: Float, at: Float) -> Float:
    """Return the distance of each place from the nearest of `at`."""
    from scipy.spatial import cKDTree  # 50 ms

    if not len(at):
        return np.full(y.shape, np.inf)
    distance, _ = cKDTree(at).query(np.stack([y, x], -1))
    return np.asarray(distance)
