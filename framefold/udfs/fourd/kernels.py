"""Loops of side-band ptychography: pick bright-field pixels, and the weights of trotters."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

BOTH_BANDS = 0  # weak-phase least squares: everywhere
SINGLE_BAND = 1  # only where exactly one of the two overlaps exists


@numba.njit(nogil=True, cache=True)
def pick_pixels(rows, pixels, columns, at, out, total):  # type: ignore[no-untyped-def]
    """Copy ``rows[i, pixels[j]]`` to ``out[at[i], columns[j]]``, and add the row's sum to ``total[i]``."""
    for i in range(rows.shape[0]):
        row, target = rows[i], out[at[i]]
        s = 0.0
        for j in range(pixels.shape[0]):
            v = row[pixels[j]]
            target[columns[j]] = v
            s += v
        total[i] += s


def pick_pixels_reference(rows: Any, pixels: Any, columns: Any, at: Any, out: Any, total: Any) -> None:
    """Do what `pick_pixels` does, on whole arrays of any namespace; `at` is an array of the host."""
    picked = rows[:, pixels].astype(out.dtype)
    if at[-1] - at[0] + 1 == len(at):
        out[int(at[0]) : int(at[-1]) + 1, columns] = picked
    else:
        out[at[:, None], columns] = picked
    total += picked.sum(axis=1, dtype=total.dtype)


@numba.njit(nogil=True, cache=True)
def _aperture(ky, kx, k_max, c):  # type: ignore[no-untyped-def]
    """Return exp(-i chi) inside the aperture, 0 outside; `c`: C1, A1, B2, A2, C3 scaled for frequencies."""
    square = ky * ky + kx * kx
    if square > k_max * k_max:
        return 0j
    w = complex(kx, ky)
    v = w.conjugate()
    chi = (c[0] * square + c[1] * v * v + c[2] * w * square + c[3] * v * v * v + c[4] * square * square).real
    return complex(np.cos(chi), -np.sin(chi))


@numba.njit(nogil=True, cache=True)
def trotters(ky, kx, q_y, q_x, k_max, c, mode, floor, wiener, out):  # type: ignore[no-untyped-def]
    """Write ``conj(W) / (sum_K |W|^2 + wiener)`` to `out`, complex ``(q_x, q_y, K)``.

    0 where the sum is below `floor`.
    ``W = conj(A(K)) A(K - Q) - A(K) conj(A(K + Q))``. `ky`, `kx`: frequencies of the pixels; `c`: see
    `chi_coefficients`.
    """
    n = ky.shape[0]
    center = np.empty(n, dtype=np.complex128)
    for j in range(n):
        center[j] = _aperture(ky[j], kx[j], k_max, c)
    row = np.empty(n, dtype=np.complex128)
    for ix in range(q_x.shape[0]):
        for iy in range(q_y.shape[0]):
            qy, qx = q_y[iy], q_x[ix]
            norm = 0.0
            for j in range(n):
                minus = _aperture(ky[j] - qy, kx[j] - qx, k_max, c)
                plus = _aperture(ky[j] + qy, kx[j] + qx, k_max, c)
                w = center[j].conjugate() * minus - center[j] * plus.conjugate()
                if mode == 1 and (minus != 0j) == (plus != 0j):
                    w = 0j
                row[j] = w
                norm += w.real * w.real + w.imag * w.imag
            scale = 1.0 / (norm + wiener) if norm > floor else 0.0
            for j in range(n):
                out[ix, iy, j] = row[j].conjugate() * scale


def chi_coefficients(aberrations: Any, wavelength: float) -> npt.NDArray[np.complex128]:
    """Return the factors of |k|^2, conj(k)^2, k |k|^2, conj(k)^3 and |k|^4 in chi, for frequencies k."""
    a = aberrations
    terms = ((a.C1 / 2, 2), (a.A1 / 2, 2), (a.B2, 3), (a.A2 / 3, 3), (a.C3 / 4, 4))
    return np.array([2 * np.pi * c * wavelength ** (power - 1) for c, power in terms], dtype=np.complex128)


def trotters_reference(
    ky: npt.NDArray[np.float64], kx: npt.NDArray[np.float64], q_y: float, q_x: float, aperture: Any, mode: int
) -> npt.NDArray[np.complex128]:
    """Return ``W`` of all pixels at one scan frequency; ``aperture(ky, kx)`` is the complex aperture."""
    center, minus, plus = aperture(ky, kx), aperture(ky - q_y, kx - q_x), aperture(ky + q_y, kx + q_x)
    w = center.conj() * minus - center * plus.conj()
    one_band = (minus != 0) != (plus != 0)
    return np.where(one_band, w, 0) if mode == SINGLE_BAND else np.asarray(w)
