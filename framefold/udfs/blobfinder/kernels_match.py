"""Kernel that gives disks the indices of the nearest lattice points, frame by frame."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from framefold.udfs.blobfinder.kernels_lattice import normal

Array = npt.NDArray[Any]

#: disks that the first guess of the lattice is tried on
_CORE = 5


@numba.njit(nogil=True, cache=True, error_model="numpy")
def match_nearest(
    centers: Array, sigma: Array, usable: Array, start: Array, expected: Array, tolerance: float,
    hk: Array, matched: Array,
) -> None:  # fmt: skip  # pragma: no cover - compiled
    """Index the disks of each frame from the middle outwards, with a lattice that follows them.

    Disks are taken in their order, inner ones first. Each receives the indices of the nearest point of the
    lattice that fits those before it. The first ones tell how far the whole pattern has moved.

    Parameters
    ----------
    centers, sigma
        ``(n, m, 2)``, y and x.
    usable
        ``(n, m)`` bool.
    start
        ``(3, 2)``: expected zero, a, b.
    expected
        ``(m, 2)`` float64: indices of the places where the disks were looked for.
    tolerance
        Disks further from the nearest point, in units of the shorter vector, receive no indices.
    hk
        Output ``(n, m, 2)`` float64.
    matched
        Output ``(n, m)`` bool: disks with indices; of several that share them the surest.
    """
    m = centers.shape[1]
    weight, offset, order = np.empty(m), np.empty((2, _CORE)), np.empty(m, np.int64)
    x, trial, N = np.empty((3, 2)), np.empty((3, 2)), np.empty((3, 3))
    at = np.empty((m, 2))
    limit = tolerance * min(math.hypot(start[1, 0], start[1, 1]), math.hypot(start[2, 0], start[2, 1]))
    for f in range(centers.shape[0]):
        count = 0
        for i in range(m):
            at[i, 0], at[i, 1] = centers[f, i, 0], centers[f, i, 1]
            if usable[f, i] and np.isfinite(at[i, 0] + at[i, 1] + sigma[f, i, 0] + sigma[f, i, 1]):
                if count < _CORE:
                    for j in range(2):
                        place = start[0, j] + expected[i, 0] * start[1, j] + expected[i, 1] * start[2, j]
                        offset[j, count] = at[i, j] - place
                order[count] = i
                count += 1
            weight[i] = 0.0
            hk[f, i, 0] = hk[f, i, 1] = 0.0
            matched[f, i] = False
        if count < _CORE:
            continue
        x[:] = start
        x[0, 0] += np.median(offset[0])
        x[0, 1] += np.median(offset[1])
        for done in range(count):
            # the first ones decide together, and again once they have
            first = 0 if done == _CORE else done
            for j in range(first, done + 1):
                _index(order[j], at, x, limit, hk[f], weight)
            if done + 1 >= _CORE and normal(hk[f], weight, at, N, trial):
                x[:] = trial
        for j in range(count):
            _index(order[j], at, x, limit, hk[f], weight)
            matched[f, order[j]] = weight[order[j]] > 0.0
        for i in range(m):
            for j in range(i):
                same = hk[f, i, 0] == hk[f, j, 0] and hk[f, i, 1] == hk[f, j, 1]
                if same and matched[f, i] and matched[f, j]:
                    worse = i if sigma[f, i, 0] + sigma[f, i, 1] >= sigma[f, j, 0] + sigma[f, j, 1] else j
                    matched[f, worse] = False


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _index(
    i: int, at: Array, x: Array, limit: float, hk: Array, weight: Array
) -> None:  # pragma: no cover - compiled
    """Write the nearest indices of disk `i`, and 1 to its weight if it is near enough, else 0."""
    dy, dx = at[i, 0] - x[0, 0], at[i, 1] - x[0, 1]
    det = x[1, 0] * x[2, 1] - x[1, 1] * x[2, 0]
    h = np.rint((dy * x[2, 1] - dx * x[2, 0]) / det)
    k = np.rint((dx * x[1, 0] - dy * x[1, 1]) / det)
    ry, rx = dy - h * x[1, 0] - k * x[2, 0], dx - h * x[1, 1] - k * x[2, 1]
    hk[i, 0], hk[i, 1] = h, k
    weight[i] = 1.0 if math.hypot(ry, rx) <= limit else 0.0
