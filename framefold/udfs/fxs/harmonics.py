"""Spherical harmonics: Legendre functions, a quadrature on the sphere, expansions of intensities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[Any]


def legendre(l_max: int, x: Array) -> Floats:
    """Return orthonormal ``Y_lm(theta, 0)`` at ``x = cos(theta)``, ``(l_max + 1, l_max + 1, *x.shape)``.

    ``sqrt((2l+1)/(4 pi) (l-m)!/(l+m)!) P_lm(x)`` with the Condon-Shortley phase, 0 for m > l; by recursion in
    l at fixed m, which is stable.
    """
    x = np.asarray(x, dtype=np.float64)
    y = np.zeros((l_max + 1, l_max + 1, *x.shape))
    s = np.sqrt(np.maximum(1 - x * x, 0))
    y[0, 0] = math.sqrt(1 / (4 * math.pi))
    for m in range(1, l_max + 1):
        y[m, m] = -math.sqrt((2 * m + 1) / (2 * m)) * s * y[m - 1, m - 1]
    for m in range(l_max):
        y[m + 1, m] = math.sqrt(2 * m + 3) * x * y[m, m]
        for n in range(m + 2, l_max + 1):
            a = math.sqrt((4 * n * n - 1) / (n * n - m * m))
            b = math.sqrt(((n - 1) ** 2 - m * m) / (4 * (n - 1) ** 2 - 1))
            y[n, m] = a * (x * y[n - 1, m] - b * y[n - 2, m])
    return y


def sphere(l_max: int) -> tuple[Floats, Floats]:
    """Return directions ``(n, 3)`` and weights ``(n,)`` that integrate harmonics up to ``2 l_max`` exactly.

    Gauss-Legendre nodes in cos(theta), ``2 l_max + 2`` angles around; directions run over angles first.
    """
    nodes, w = np.polynomial.legendre.leggauss(l_max + 1)
    n_phi = 2 * l_max + 2
    phi = 2 * np.pi * np.arange(n_phi) / n_phi
    s = np.sqrt(1 - nodes**2)
    directions = np.stack(
        [
            s[:, None] * np.cos(phi),
            s[:, None] * np.sin(phi),
            np.broadcast_to(nodes[:, None], (len(s), n_phi)),
        ],
        axis=-1,
    )
    weights = np.repeat(w * 2 * np.pi / n_phi, n_phi)
    return directions.reshape(-1, 3), weights


def expand(values: Array, l_max: int, band: int) -> npt.NDArray[np.complex128]:
    """Return ``I_lm = int I conj(Y_lm)``, m >= 0, of real functions on the directions of ``sphere(band)``.

    Parameters
    ----------
    values
        ``(n, directions)``.
    l_max
        Largest l; the result is ``(l_max + 1, l_max + 1, n)``.
    band
        With which `sphere` was called.
    """
    nodes, w = np.polynomial.legendre.leggauss(band + 1)
    n_phi = 2 * band + 2
    rings = np.fft.rfft(np.asarray(values).reshape(-1, len(nodes), n_phi), axis=2)[:, :, : l_max + 1]
    y = legendre(l_max, nodes) * w
    return np.einsum("lmt,ntm->lmn", y, rings * (2 * np.pi / n_phi), optimize=True)


def invariants(values: Array, weights: Array, band: int, l_max: int) -> Floats:
    """Return ``B_l(q, q') = sum_m I_lm(q) conj(I_lm(q'))`` for even l, ``(l_max // 2 + 1, n_q, n_q)``.

    Parameters
    ----------
    values
        ``(n_q, directions)``: intensities on shells.
    weights
        Of the directions, from ``sphere(band)``.
    band, l_max
        As in `expand`.
    """
    if values.shape[1] != len(weights):
        raise ValueError(f"{values.shape[1]} values for {len(weights)} directions")
    i = expand(values, l_max, band)
    out = []
    for n in range(0, l_max + 1, 2):
        c = i[n, : n + 1]
        factor = np.where(np.arange(n + 1) > 0, 2.0, 1.0)  # m and -m
        out.append(np.einsum("m,mq,mr->qr", factor, c, c.conj()).real)
    return np.array(out)
