"""Kernels that fit a disk to counts by maximum likelihood: Gauss-Newton steps with the Fisher matrix.

Model: ``m = [A + By (y - cy) / R + Bx (x - cx) / R] f + b``. The parameters stand in the order b, A, (By,
Bx), cy, cx: the errors of the centre are then in the last corner of the Cholesky factor.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

#: least expected count per unit of gain in the weights
FLOOR = 0.05
_RIDGE = 1e-4

F1 = np.float32(1.0)
F0 = np.float32(0.0)
FH = np.float32(0.5)
TINY = np.float32(1e-6)


@numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def disk_profile(
    py: Array, px: Array, cy: float, cx: float, radius: float, softness: float, f: Array, fy: Array, fx: Array
) -> None:  # pragma: no cover - compiled
    """Write the share `f` of each pixel inside a disk, and its derivatives with respect to the centre.

    The edge is taken as straight within a pixel: along its normal ``n`` a pixel is the convolution of two
    boxes of widths ``|n_x|`` and ``|n_y|``, widened by a Gaussian blur of `softness` px, so that the share
    is a quadratic spline of the distance ``t = R - r``. All arrays float32.
    """
    # the curved edge takes 1 / 24 R less of a pixel than its tangent, on average over the pixel
    big = np.float32(radius - 1.0 / (24.0 * radius))
    y0, x0, wide = np.float32(cy), np.float32(cx), np.float32(6.0 * softness**2)
    # past the widest edge nothing changes, and squares lose digits
    end = F1 + math.sqrt(F1 + wide)
    for k in range(py.shape[0]):
        dy, dx = py[k] - y0, px[k] - x0
        r = F1 / (math.sqrt(dy * dy + dx * dx) + TINY)
        ny, nx = dy * r, dx * r
        u, v = math.sqrt(nx * nx + wide), math.sqrt(ny * ny + wide)
        t = min(max(big - F1 / r, -end), end)
        h, g = FH * (u + v), FH * (u - v)
        a, b, c, d = max(t + h, F0), max(t + g, F0), max(t - g, F0), max(t - h, F0)
        scale = F1 / (u * v)
        slope = scale * (a - b - c + d)
        f[k] = FH * scale * (a * a - b * b - c * c + d * d)
        fy[k] = slope * ny
        fx[k] = slope * nx


@numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def table_profile(
    py: Array, px: Array, cy: float, cx: float, table: Array, origin: float, step: float,
    f: Array, fy: Array, fx: Array,
) -> None:  # fmt: skip  # pragma: no cover - compiled
    """Write the profile of a measured disk and its derivatives, bilinear from an oversampled table.

    `table` is ``(3, N, N)``: values, d/dcy, d/dcx, on a grid of `step` px that begins at `origin`.
    """
    y0, x0 = np.float32(cy + origin), np.float32(cx + origin)
    inv = np.float32(1.0 / step)
    last = table.shape[1] - 2
    for k in range(py.shape[0]):
        v = min(max((py[k] - y0) * inv, F0), np.float32(last))
        u = min(max((px[k] - x0) * inv, F0), np.float32(last))
        j, i = int(v), int(u)
        t, s = v - np.float32(j), u - np.float32(i)
        a, b, c, d = (F1 - t) * (F1 - s), (F1 - t) * s, t * (F1 - s), t * s
        f[k] = (
            a * table[0, j, i] + b * table[0, j, i + 1] + c * table[0, j + 1, i] + d * table[0, j + 1, i + 1]
        )
        fy[k] = (
            a * table[1, j, i] + b * table[1, j, i + 1] + c * table[1, j + 1, i] + d * table[1, j + 1, i + 1]
        )
        fx[k] = (
            a * table[2, j, i] + b * table[2, j, i + 1] + c * table[2, j + 1, i] + d * table[2, j + 1, i + 1]
        )


@numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def linear_start(d: Array, e: Array, f: Array) -> tuple[float, float]:  # pragma: no cover - compiled
    """Return A and b of the least-squares fit of ``A f + b`` to `d` where `e` is 1."""
    n, sf, sff, sd, sfd = F0, F0, F0, F0, F0
    for k in range(d.shape[0]):
        ef = e[k] * f[k]
        n += e[k]
        sf += ef
        sff += ef * f[k]
        sd += e[k] * d[k]
        sfd += ef * d[k]
    det = float(n) * sff - float(sf) * sf
    if det <= 1e-3:
        return 0.0, 0.0
    return float((float(n) * sfd - float(sf) * sd) / det), float((float(sff) * sd - float(sf) * sfd) / det)


@numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def sums_plain(
    d: Array, e: Array, f: Array, fy: Array, fx: Array, A: float, b: float, floor: float, S: Array
) -> None:  # pragma: no cover - compiled
    """Write Fisher matrix (lower triangle, row by row), gradient and chi2 of 4 parameters to `S` (15,)."""
    amp, back, low = np.float32(A), np.float32(b), np.float32(floor)
    s00, s10, s11, s20, s21, s22, s30, s31, s32, s33 = F0, F0, F0, F0, F0, F0, F0, F0, F0, F0
    g0, g1, g2, g3, chi = F0, F0, F0, F0, F0
    for k in range(d.shape[0]):
        j1, j2, j3 = f[k], amp * fy[k], amp * fx[k]
        m = amp * j1 + back
        w = e[k] / max(m, low)
        res = d[k] - m
        w1, w2, w3, wr = w * j1, w * j2, w * j3, w * res
        s00 += w
        s10 += w1
        s11 += w1 * j1
        s20 += w2
        s21 += w2 * j1
        s22 += w2 * j2
        s30 += w3
        s31 += w3 * j1
        s32 += w3 * j2
        s33 += w3 * j3
        g0 += wr
        g1 += wr * j1
        g2 += wr * j2
        g3 += wr * j3
        chi += wr * res
    S[0], S[1], S[2], S[3], S[4], S[5] = s00, s10, s11, s20, s21, s22
    S[6], S[7], S[8], S[9] = s30, s31, s32, s33
    S[10], S[11], S[12], S[13], S[14] = g0, g1, g2, g3, chi


@numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def sums_tilted(
    d: Array, e: Array, py: Array, px: Array, f: Array, fy: Array, fx: Array,
    cy: float, cx: float, inverse_radius: float,
    A: float, By: float, Bx: float, b: float, floor: float, S: Array,
) -> None:  # fmt: skip  # pragma: no cover - compiled
    """Write Fisher matrix (lower triangle, row by row), gradient and chi2 of 6 parameters to `S` (28,)."""
    amp, ty, tx, back = np.float32(A), np.float32(By), np.float32(Bx), np.float32(b)
    low, y0, x0, inv = np.float32(floor), np.float32(cy), np.float32(cx), np.float32(inverse_radius)
    s00, s10, s11, s20, s21, s22, s30, s31, s32, s33 = F0, F0, F0, F0, F0, F0, F0, F0, F0, F0
    s40, s41, s42, s43, s44, s50, s51, s52, s53, s54, s55 = F0, F0, F0, F0, F0, F0, F0, F0, F0, F0, F0
    g0, g1, g2, g3, g4, g5, chi = F0, F0, F0, F0, F0, F0, F0
    for k in range(d.shape[0]):
        u, v = (py[k] - y0) * inv, (px[k] - x0) * inv
        level = amp + ty * u + tx * v
        j1 = f[k]
        j2, j3 = j1 * u, j1 * v
        j4, j5 = level * fy[k] - ty * inv * j1, level * fx[k] - tx * inv * j1
        m = level * j1 + back
        w = e[k] / max(m, low)
        res = d[k] - m
        w1, w2, w3, w4, w5, wr = w * j1, w * j2, w * j3, w * j4, w * j5, w * res
        s00 += w
        s10 += w1
        s11 += w1 * j1
        s20 += w2
        s21 += w2 * j1
        s22 += w2 * j2
        s30 += w3
        s31 += w3 * j1
        s32 += w3 * j2
        s33 += w3 * j3
        s40 += w4
        s41 += w4 * j1
        s42 += w4 * j2
        s43 += w4 * j3
        s44 += w4 * j4
        s50 += w5
        s51 += w5 * j1
        s52 += w5 * j2
        s53 += w5 * j3
        s54 += w5 * j4
        s55 += w5 * j5
        g0 += wr
        g1 += wr * j1
        g2 += wr * j2
        g3 += wr * j3
        g4 += wr * j4
        g5 += wr * j5
        chi += wr * res
    S[0], S[1], S[2], S[3], S[4], S[5] = s00, s10, s11, s20, s21, s22
    S[6], S[7], S[8], S[9] = s30, s31, s32, s33
    S[10], S[11], S[12], S[13], S[14] = s40, s41, s42, s43, s44
    S[15], S[16], S[17], S[18], S[19], S[20] = s50, s51, s52, s53, s54, s55
    S[21], S[22], S[23], S[24], S[25], S[26], S[27] = g0, g1, g2, g3, g4, g5, chi


@numba.njit(nogil=True, cache=True, error_model="numpy")
def solve_packed(S: Array, n: int, ridge: float, L: Array, x: Array) -> bool:  # pragma: no cover - compiled
    """Solve ``F x = g`` by Cholesky for packed `S`: lower triangle of F, then g. False: F is singular.

    `L` ``(n, n)`` receives the factor of F with its diagonal times ``1 + ridge``.
    """
    for i in range(n):
        row = i * (i + 1) // 2
        for j in range(i + 1):
            s = float(S[row + j])
            if i == j:
                s *= 1.0 + ridge
            for k in range(j):
                s -= L[i, k] * L[j, k]
            if i == j:
                if not s > 1e-9 * S[row + i] or not S[row + i] > 0.0:
                    return False
                L[i, i] = math.sqrt(s)
            else:
                L[i, j] = s / L[j, j]
    g = n * (n + 1) // 2
    for i in range(n):
        s = float(S[g + i])
        for k in range(i):
            s -= L[i, k] * x[k]
        x[i] = s / L[i, i]
    for i in range(n - 1, -1, -1):
        s = x[i]
        for k in range(i + 1, n):
            s -= L[k, i] * x[k]
        x[i] = s / L[i, i]
    return True


@numba.njit(nogil=True, cache=True, error_model="numpy")
def last_variances(L: Array, n: int) -> tuple[float, float]:  # pragma: no cover - compiled
    """Return the last two diagonal elements of ``inverse(L L^T)``."""
    a, b, c = L[n - 2, n - 2], L[n - 1, n - 2], L[n - 1, n - 1]
    return (1.0 + (b / c) ** 2) / (a * a), 1.0 / (c * c)


def profile_reference(
    y: npt.NDArray[np.float64],
    x: npt.NDArray[np.float64],
    cy: float,
    cx: float,
    radius: float,
    points: int = 40,
) -> npt.NDArray[np.float64]:
    """Return the share of the pixels at `y`, `x` inside a disk, by counting points of a grid."""
    sub = (np.arange(points) + 0.5) / points - 0.5
    dy = (y - cy)[..., None, None] + sub[:, None]
    dx = (x - cx)[..., None, None] + sub
    return np.asarray((dy**2 + dx**2 <= radius**2).mean(axis=(-1, -2)))


def fisher_reference(J: npt.NDArray[np.float64], m: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the Fisher matrix of Poisson counts with expectation `m` ``(n,)`` and derivatives ``(p, n)``."""
    return np.asarray((J / np.maximum(m, FLOOR)) @ J.T)
