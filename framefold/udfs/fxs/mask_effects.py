"""What masks do to angular correlations, and how it is undone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def mask_correlation(weight: Array) -> Floats:
    """Return ``M(q, q', D) = 1/P sum_p w(q, p) w(q', p + D)``, symmetrised in D; ``(n_q, n_q, P)``."""
    n_phi = weight.shape[1]
    w = scipy.fft.rfft(weight.astype(np.float64), axis=1)
    return np.stack([scipy.fft.irfft((row.conj() * w).real, n_phi, axis=1) for row in w]) / n_phi


def corrected(
    numerator: Array, weight: Array, *, centred: bool, min_pairs: float = 0.02, tolerance: float = 1e-9
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return C_m that an unmasked detector would have given, and which pairs of rings are complete.

    The estimate is a ratio of sums, ``[N(D) + N(-D)] / [M(D) + M(-D)]``. Where ring means were subtracted,
    each mean was itself taken over the unmasked bins of one noisy frame: ``E[N] = M C - T[C]`` with

    ``T[C](D) = 1/P {w * [w' (w o C) / W] + [w (w' o C) / W'] * w'} - c M,  c = sum_p w' (w o C) / (W W')``,

    where o is the circular convolution, * the correlation, symmetrised, and W = sum w. ``C <- (N + T[C]) /
    M`` is iterated, the mean over D removed.

    Parameters
    ----------
    numerator
        ``Re N_m``, all orders, ``(P/2 + 1, n_q, n_q)``; order 0 is ignored if `centred`.
    weight
        ``(n_q, P)``.
    centred
        Whether ring means were subtracted.
    min_pairs
        Angles D with less than this part of pairs have no estimate; a pair of rings with such angles is not
        complete, and its orders are NaN.
    tolerance
        Of the iteration, relative to the largest value.
    """
    n_q = numerator.shape[1]
    n_phi = weight.shape[1]
    w = weight.astype(np.float64)
    spectra = scipy.fft.rfft(w, axis=1)
    total = w.sum(axis=1)
    out = np.full(numerator.shape, np.nan)
    complete = np.zeros((n_q, n_q), bool)
    for i in range(n_q):
        pairs = scipy.fft.irfft((spectra[i].conj() * spectra[: i + 1]).real, n_phi, axis=1) / n_phi
        good = (pairs >= min_pairs).all(axis=1) & (total[: i + 1] > 0) & (total[i] > 0)
        if not good.any():
            continue
        js = np.flatnonzero(good)
        n = numerator[:, i, js].T.copy()
        if centred:
            n[:, 0] = 0
        values = n_phi * scipy.fft.irfft(n, n_phi, axis=1)
        m = pairs[js]
        c = values / m
        if centred:
            c = _uncentred(c, values, m, spectra[i], spectra[js], w[i], w[js], tolerance)
        cm = scipy.fft.rfft(c, axis=1).real / n_phi
        out[:, i, js] = cm.T
        out[:, js, i] = cm.T
        complete[i, js] = complete[js, i] = True
    return out, complete


def _uncentred(
    c: Floats, values: Floats, m: Floats, wf: Array, wfs: Array, w: Floats, ws: Floats, tolerance: float
) -> Floats:
    """Iterate ``C <- (N + T[C]) / M`` for one ring against several, ``(pairs, P)``."""
    n_phi = c.shape[1]
    big, bigs = w.sum(), ws.sum(axis=1)[:, None]
    c = c - c.mean(axis=1, keepdims=True)
    for _ in range(100):
        cf = scipy.fft.rfft(c, axis=1).real
        u = scipy.fft.irfft(wf * cf, n_phi, axis=1)  # (w o C), a function of the angle on ring q'
        v = scipy.fft.irfft(wfs * cf, n_phi, axis=1)
        first = (wf.conj() * scipy.fft.rfft(ws * u, axis=1)).real / big
        second = (scipy.fft.rfft(w * v, axis=1).conj() * wfs).real / bigs
        constant = (ws * u).sum(axis=1, keepdims=True) / (big * bigs)
        t = scipy.fft.irfft(first + second, n_phi, axis=1) / n_phi - constant * m
        new = (values + t) / m
        new -= new.mean(axis=1, keepdims=True)
        step = np.abs(new - c).max() / max(np.abs(new).max(), 1e-300)
        c = new
        if step < tolerance:
            break
    return c
