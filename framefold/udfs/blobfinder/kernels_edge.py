"""Kernel that tells how well a radius and a softness of the edge explain disks."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from framefold.udfs.blobfinder.kernels_subpixel import (
    disk_profile,
    solve_packed,
    sums_plain,
    sums_tilted,
)

Array = npt.NDArray[Any]
_STEPS = 4


@numba.njit(nogil=True, cache=True, error_model="numpy")
def edge_costs(
    counts: Array, good: Array, py: Array, px: Array, start: Array, tilted: bool,
    radius: float, softness: float, costs: Array, spread: Array,
) -> None:  # fmt: skip  # pragma: no cover - compiled
    """Write ``-2 log L`` of disks with this edge, but for a constant, and variance over mean of their counts.

    Parameters
    ----------
    counts, good
        ``(n, k)`` float32: pixels of n disks, and 1 where they count.
    py, px
        ``(k,)`` float32: their places.
    start
        ``(n, 6)``: b, A, By, Bx, cy, cx to begin with.
    tilted
        Fit By and Bx, too.
    radius, softness
        See `disk_profile`.
    costs, spread
        Outputs ``(n,)``.
    """
    k = py.shape[0]
    f, fy, fx = np.empty(k, np.float32), np.empty(k, np.float32), np.empty(k, np.float32)
    S, L, x, p = np.empty(28), np.empty((6, 6)), np.empty(6), np.empty(6)
    n = 6 if tilted else 4
    for i in range(counts.shape[0]):
        d, e = counts[i], good[i]
        p[:] = start[i]
        if not tilted:
            p[2] = p[3] = 0.0
        total, level = 0.0, 0.0
        for j in range(k):
            total += e[j]
            level += e[j] * d[j]
        low = max(1e-3 * level / max(total, 1.0), 1e-30)
        for _ in range(_STEPS):
            disk_profile(py, px, p[4], p[5], radius, softness, f, fy, fx)
            if tilted:
                sums_tilted(d, e, py, px, f, fy, fx, p[4], p[5], 1 / radius, p[1], p[2], p[3], p[0], low, S)
            else:
                sums_plain(d, e, f, fy, fx, p[1], p[0], low, S)
            if not solve_packed(S, n, 1e-4, L, x):
                break
            length = math.hypot(x[n - 2], x[n - 1])
            scale = 1.0 if length <= 0.5 else 0.5 / length
            p[0], p[1] = max(p[0] + x[0], low), max(p[1] + x[1], low)
            if tilted:
                p[2] += x[2]
                p[3] += x[3]
            p[4] += scale * x[n - 2]
            p[5] += scale * x[n - 1]
        disk_profile(py, px, p[4], p[5], radius, softness, f, fy, fx)
        cost, square, mean = 0.0, 0.0, 0.0
        for j in range(k):
            slope = (p[2] * (py[j] - p[4]) + p[3] * (px[j] - p[5])) / radius
            m = max((p[1] + slope) * f[j] + p[0], low)
            cost += 2.0 * e[j] * (m - d[j] * math.log(m))
            square += e[j] * (d[j] - m) ** 2
            mean += e[j] * m
        costs[i] = cost
        # sums before their ratio: single counts on nothing would decide
        spread[i] = square / mean * total / max(total - n, 1.0)
