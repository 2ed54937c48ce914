"""Kernels of simulated scattering: atoms on a grid, sums over atoms, interpolation at turned points."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def spread(positions: Any, weights: Any, step: float, reach: int, sigma: float, grid: Any) -> None:
    """Add a Gaussian of width `sigma` (grid steps) and sum `weights` per atom to a periodic grid.

    Parameters
    ----------
    positions : (n, 3), grid point 0 is the origin
    weights : (n,)
    step : grid spacing
    reach : grid points on each side
    grid : float32 (m, m, m)
    """
    m = grid.shape[0]
    norm = (1 / (sigma * math.sqrt(2 * math.pi))) ** 3
    g = np.empty((3, 2 * reach + 1))
    base = np.empty(3, np.int64)
    for n in range(len(positions)):
        for d in range(3):
            x = positions[n, d] / step
            base[d] = math.floor(x + 0.5)
            for k in range(-reach, reach + 1):
                u = (base[d] + k - x) / sigma
                g[d, k + reach] = math.exp(-0.5 * u * u)
        for i in range(2 * reach + 1):
            a = (base[0] + i - reach) % m
            for j in range(2 * reach + 1):
                b = (base[1] + j - reach) % m
                w = weights[n] * norm * g[0, i] * g[1, j]
                for k in range(2 * reach + 1):
                    grid[a, b, (base[2] + k - reach) % m] += w * g[2, k]


@numba.njit(nogil=True, cache=True)
def interpolate(coefficients: Any, step: float, points: Any, rotation: Any, scale: float, out: Any) -> None:
    """Add ``scale *`` a cubic spline at turned points to `out`.

    Parameters
    ----------
    coefficients : float32 (m, m, m), B-spline coefficients, the origin in the middle (m // 2)
    step : grid spacing
    points : (n, 3)
    rotation : (3, 3)
    out : (n,), not changed where a point lies outside
    """
    m = coefficients.shape[0]
    half = m // 2
    w = np.empty((3, 4))
    base = np.empty(3, np.int64)
    for n in range(len(points)):
        inside = True
        for d in range(3):
            x = (
                rotation[d, 0] * points[n, 0] + rotation[d, 1] * points[n, 1] + rotation[d, 2] * points[n, 2]
            ) / step + half
            i = math.floor(x)
            if i < 1 or i > m - 3:
                inside = False
                break
            base[d] = i - 1
            t = x - i
            u = 1 - t
            w[d, 0] = u * u * u / 6
            w[d, 1] = 2 / 3 - t * t * (2 - t) / 2
            w[d, 2] = 2 / 3 - u * u * (2 - u) / 2
            w[d, 3] = t * t * t / 6
        if not inside:
            continue
        total = 0.0
        for i in range(4):
            for j in range(4):
                line = coefficients[base[0] + i, base[1] + j]
                k = base[2]
                s = w[2, 0] * line[k] + w[2, 1] * line[k + 1] + w[2, 2] * line[k + 2] + w[2, 3] * line[k + 3]
                total += w[0, i] * w[1, j] * s
        out[n] += scale * max(total, 0.0)


@numba.njit(nogil=True, cache=True, fastmath=True)
def direct_intensity(
    positions: Any, factors: Any, kinds: Any, points: Any, rotation: Any, scale: float, out: Any
) -> None:
    """Add ``scale * |sum_n f_n exp(i q r_n)|^2`` at turned points to `out`.

    Parameters
    ----------
    positions : (n, 3)
    factors : (kinds, points)
    kinds : int (n,)
    points : (k, 3)
    rotation : (3, 3)
    out : (k,)
    """
    turned = positions @ rotation  # q . (R^T r) = (R q) . r
    for k in range(len(points)):
        re, im = 0.0, 0.0
        for n in range(len(positions)):
            phase = points[k, 0] * turned[n, 0] + points[k, 1] * turned[n, 1] + points[k, 2] * turned[n, 2]
            f = factors[kinds[n], k]
            re += f * math.cos(phase)
            im += f * math.sin(phase)
        out[k] += scale * (re * re + im * im)


def direct_reference(positions: Any, amplitudes: Any, points: Any) -> Any:
    """Return ``|sum_n f_n exp(i q r_n)|^2``; `amplitudes` are ``(n, points)``."""
    return np.abs((amplitudes * np.exp(1j * positions @ points.T)).sum(axis=0)) ** 2
