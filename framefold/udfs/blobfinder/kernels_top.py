"""Kernels that refine the top of a correlation as other programs do, for comparison."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

#: samples on either side that an interpolated value is made of
_LOBES = 6


@numba.njit(nogil=True, cache=True, error_model="numpy")
def mass_centre(
    corr: Array, width: int, shifts: int, radius: float, top: Array
) -> tuple[int, float]:  # pragma: no cover - compiled
    """Write the centre of mass about the highest point to ``top[2:4]``; return its reach in px and the mass.

    The mass is what stands above the least value in the circle of `radius` about the point ``top[:2]``; where
    that does not fit into the map the largest that does.
    """
    by, bx = int(top[0]), int(top[1])
    q = max(1, min(int(radius), min(shifts - abs(by), shifts - abs(bx))))
    least = np.inf
    for dy in range(-q, q + 1):
        for dx in range(-q, q + 1):
            if dy * dy + dx * dx <= q * q:
                least = min(least, float(corr[(by + shifts + dy) * width + bx + shifts + dx]))
    mass, my, mx = 0.0, 0.0, 0.0
    for dy in range(-q, q + 1):
        for dx in range(-q, q + 1):
            if dy * dy + dx * dx <= q * q:
                v = corr[(by + shifts + dy) * width + bx + shifts + dx] - least
                mass += v
                my += v * dy
                mx += v * dx
    if mass > 0.0:
        top[2], top[3] = by + my / mass, bx + mx / mass
    else:
        top[2], top[3] = by, bx
    return q, mass


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _lanczos(t: float) -> float:  # pragma: no cover - compiled
    if abs(t) < 1e-9:
        return 1.0
    if abs(t) >= _LOBES:
        return 0.0
    u = math.pi * t
    return _LOBES * math.sin(u) * math.sin(u / _LOBES) / (u * u)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def upsampled(
    corr: Array, width: int, shifts: int, fineness: int, top: Array
) -> None:  # pragma: no cover - compiled
    """Write the highest point of the interpolated correlation within 1 px of ``top[:2]`` to ``top[2:4]``.

    The grid has `fineness` points per px. Values between samples are sums of sinc functions (the
    interpolation of a zero-padded transform), windowed by one lobe of a wider one, without the parts beyond
    the map.
    """
    by, bx = int(top[0]) + shifts, int(top[1]) + shifts
    n, span = 2 * shifts + 1, 2 * _LOBES + 1
    weights = np.empty((2, 2 * fineness + 1, span))
    for axis in range(2):
        at = by if axis == 0 else bx
        for i in range(2 * fineness + 1):
            total = 0.0
            for k in range(span):
                inside = 0 <= at + k - _LOBES < n
                weights[axis, i, k] = _lanczos(i / fineness - 1.0 - (k - _LOBES)) if inside else 0.0
                total += weights[axis, i, k]
            for k in range(span):
                weights[axis, i, k] /= total
    lines = np.zeros((span, 2 * fineness + 1))
    for k in range(span):
        y = by + k - _LOBES
        if 0 <= y < n:
            for i in range(2 * fineness + 1):
                for j in range(span):
                    x = bx + j - _LOBES
                    if 0 <= x < n:
                        lines[k, i] += weights[1, i, j] * corr[y * width + x]
    best, ty, tx = -np.inf, fineness, fineness
    for i in range(2 * fineness + 1):
        for j in range(2 * fineness + 1):
            v = 0.0
            for k in range(span):
                v += weights[0, i, k] * lines[k, j]
            if v > best:
                best, ty, tx = v, i, j
    top[2] = by - shifts + ty / fineness - 1.0
    top[3] = bx - shifts + tx / fineness - 1.0
