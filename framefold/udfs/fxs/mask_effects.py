"""What masks do to angular correlations, and how it is undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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
            c = uncentred(values, m, [Pattern(1.0, w[i], w[js], m)], tolerance)
        cm = scipy.fft.rfft(c, axis=1).real / n_phi
        out[:, i, js] = cm.T
        out[:, js, i] = cm.T
        complete[i, js] = complete[js, i] = True
    return out, complete


@dataclass(frozen=True, eq=False)
class Pattern:
    """What subtracting masked ring means does to pairs of one ring and several others, for one mask.

    Attributes
    ----------
    share
        Part of the frames that have this mask.
    w, ws
        Weights of the ring ``(P,)``, and of the others ``(pairs, P)``.
    m
        ``(pairs, P)``: their correlation, symmetrised.
    """

    share: float
    w: Floats
    ws: Floats
    m: Floats

    @cached_property
    def spectra(self) -> tuple[Array, Array]:
        """Transforms of the weights."""
        return scipy.fft.rfft(self.w), scipy.fft.rfft(self.ws, axis=1)

    @cached_property
    def totals(self) -> tuple[Array, Array]:
        """Sums of weights; 1 where there are none, so that nothing is divided by 0."""
        sums = self.w.sum(), self.ws.sum(axis=1)[:, None]
        return np.where(sums[0] > 0, sums[0], 1.0), np.where(sums[1] > 0, sums[1], 1.0)

    def bias(self, cf: Array) -> Floats:
        """Return T[C] of the transform ``(pairs, P/2 + 1)`` of C."""
        n_phi = len(self.w)
        (wf, wfs), (big, bigs) = self.spectra, self.totals
        u = scipy.fft.irfft(wf * cf, n_phi, axis=1)  # (w o C), a function of the angle on ring q'
        v = scipy.fft.irfft(wfs * cf, n_phi, axis=1)
        first = (wf.conj() * scipy.fft.rfft(self.ws * u, axis=1)).real / big
        second = (scipy.fft.rfft(self.w * v, axis=1).conj() * wfs).real / bigs
        constant = (self.ws * u).sum(axis=1, keepdims=True) / (big * bigs)
        t: Floats = scipy.fft.irfft(first + second, n_phi, axis=1) / n_phi - constant * self.m
        return t


def uncentred(values: Floats, m: Floats, patterns: Sequence[Pattern], tolerance: float) -> Floats:
    """Iterate ``C <- (N + T[C]) / M`` for one ring against several, ``(pairs, P)``.

    Where frames have several masks, M and T are means over them.
    """
    c = values / m
    c = c - c.mean(axis=1, keepdims=True)
    for _ in range(100):
        cf = scipy.fft.rfft(c, axis=1).real
        new = (values + sum(p.share * p.bias(cf) for p in patterns)) / m
        new -= new.mean(axis=1, keepdims=True)
        step = np.abs(new - c).max() / max(np.abs(new).max(), 1e-300)
        c = new
        if step < tolerance:
            break
    return c
