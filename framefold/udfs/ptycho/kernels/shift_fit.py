"""How far the positions of frames are off: Gauss-Newton on amplitudes."""

from __future__ import annotations

from typing import Any

import numpy as np


def object_slopes(obj: Any, xp: Any = np) -> Any:
    """Return the central differences of an object ``(L, Y, X)`` along y and x: ``(2, L, Y, X)``."""
    out = xp.zeros((2, *obj.shape), obj.dtype)
    out[0, :, 1:-1] = 0.5 * (obj[:, 2:] - obj[:, :-2])
    out[1, :, :, 1:-1] = 0.5 * (obj[:, :, 2:] - obj[:, :, :-2])
    return out


def solve_shifts(xp: Any, wave: Any, slopes: Any, target: Any, good: Any, background: Any) -> Any:
    """Return the steps (y, x) that move the modelled amplitudes of frames towards the measured ones.

    ``A_a = sum_k Re(F_k* D(P_k d_a O)) / sqrt(sum |F_k|^2 + b)``,
    ``<A_a, A_b> delta_b = <A_a, sqrt I - |F|>``.

    Parameters
    ----------
    xp
        Namespace of the arrays.
    wave
        ``(n, modes, ny, nx)``: F.
    slopes
        ``(2, n, modes, ny, nx)``: the transforms of P d_a O.
    target, good
        ``(n, ny, nx)``: sqrt I, and the weight of each pixel.
    background
        ``(ny, nx)``, counts.

    Returns
    -------
    float64 ``(n, 2)``; 0 where the object is flat, or varies along one line only.
    """
    amplitude = xp.sqrt((wave.real**2 + wave.imag**2).sum(axis=1) + background)
    a = (wave.real * slopes.real + wave.imag * slopes.imag).sum(axis=2) / (amplitude + 1e-6)

    def dot(u: Any, v: Any) -> Any:
        return (good * u * v).sum(axis=(-2, -1), dtype=np.float64)

    yy, yx, xx = dot(a[0], a[0]), dot(a[0], a[1]), dot(a[1], a[1])
    rest = target - amplitude
    ry, rx = dot(a[0], rest), dot(a[1], rest)
    determinant = yy * xx - yx * yx
    known = determinant > 1e-6 * (yy + xx) ** 2
    scale = xp.where(known, 1 / xp.where(known, determinant, 1), 0)
    return xp.stack([(xx * ry - yx * rx) * scale, (yy * rx - yx * ry) * scale], axis=-1)
