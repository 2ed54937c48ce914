"""How far a frame's position is off: Gauss-Newton on amplitudes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def object_slopes(obj: Array) -> Array:
    """Return the central differences of an object ``(L, Y, X)`` along y and x: ``(2, L, Y, X)``."""
    out = np.zeros((2, *obj.shape), obj.dtype)
    out[0, :, 1:-1] = 0.5 * (obj[:, 2:] - obj[:, :-2])
    out[1, :, :, 1:-1] = 0.5 * (obj[:, :, 2:] - obj[:, :, :-2])
    return out


def solve_shift(wave: Array, slopes: Array, target: Array, good: Array, background: Array) -> Array:
    """Return the step (y, x) that moves the modelled amplitudes towards the measured ones.

    ``A_a = sum_k Re(F_k* D(P_k d_a O)) / sqrt(sum |F_k|^2 + b)``,
    ``<A_a, A_b> delta_b = <A_a, sqrt I - |F|>``.

    Parameters
    ----------
    wave
        ``(modes, ny, nx)``: F.
    slopes
        ``(2, modes, ny, nx)``: the transforms of P d_a O.
    target
        ``(ny, nx)``: sqrt I.
    """
    amplitude = np.sqrt((wave.real**2 + wave.imag**2).sum(axis=0) + background)
    a = (wave.real * slopes.real + wave.imag * slopes.imag).sum(axis=1) / (amplitude + 1e-6)
    weighted = (a * good).reshape(2, -1).astype(np.float64)
    flat = a.reshape(2, -1).astype(np.float64)
    matrix = weighted @ flat.T
    right = weighted @ (target - amplitude).reshape(-1)
    determinant = matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]
    if determinant <= 1e-6 * (matrix[0, 0] + matrix[1, 1]) ** 2:
        return np.zeros(2)  # the object is flat here, or varies along one line only
    return np.asarray(np.linalg.solve(matrix, right))
