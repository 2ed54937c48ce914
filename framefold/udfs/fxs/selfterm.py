"""The photon self-term: noise that bins share because they share pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.sparse

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SelfTerm:
    """``H_m(q, q')`` for the pairs of rings that share pixels.

    Attributes
    ----------
    first, second
        Rings of each pair; both orders of a pair are listed.
    spectra
        ``(pairs, P/2 + 1)``, real.
    """

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    spectra: Floats

    def of_ring(self, ring: int, n_q: int) -> Floats:
        """Return ``H_m`` of one ring with all others, ``(n_q, P/2 + 1)``; 0 in order 0."""
        out = np.zeros((n_q, self.spectra.shape[1]))
        here = self.first == ring
        out[self.second[here]] = self.spectra[here]
        out[:, 0] = 0
        return out

    def subtract(self, c_m: Array, orders: Array) -> None:
        """Subtract from ``C_m`` of the given orders, ``(orders, n_q, n_q)``; order 0 stays."""
        some = np.asarray(orders) > 0
        c_m[np.ix_(np.flatnonzero(some))[0][:, None], self.first, self.second] -= self.spectra[
            :, np.asarray(orders)[some]
        ].T


def self_term(matrix: Any, weight: Array, variance: Floats, *, centred: bool) -> SelfTerm:
    """Return what photon noise adds to the correlations.

    ``H(q, q', k) = 1/P sum_p sum_pix E[(q, p), pix] E[(q', p + k), pix] V_pix``, symmetrised in k, where
    ``E = w (1 - 1 w^T / W) W_op`` is what the frame goes through, centring included.

    Parameters
    ----------
    matrix
        W_op, sparse ``(n_q * P, pixels)``.
    weight
        ``(n_q, P)``.
    variance
        V, of raw counts, flat.
    centred
        Whether ring means are subtracted.
    """
    n_q, n_phi = weight.shape
    w = weight.astype(np.float64)
    op = matrix.astype(np.float64)
    noisy = op @ scipy.sparse.diags(variance)
    pairs = (noisy @ op.T).tocoo()
    qi, pi = np.divmod(pairs.row.astype(np.int64), n_phi)
    qj, pj = np.divmod(pairs.col.astype(np.int64), n_phi)
    key = np.unique(qi * n_q + qj)
    first, second = np.divmod(key, n_q)
    at = np.searchsorted(key, qi * n_q + qj)
    share = pairs.data * w[qi, pi] * w[qj, pj] / n_phi
    lag = (pj - pi) % n_phi
    h = np.bincount(at * n_phi + lag, share, len(key) * n_phi).reshape(len(key), n_phi)
    spectra = scipy.fft.rfft(h, axis=1)
    if centred:
        spectra += _centring(op, noisy, w, first, second)
    return SelfTerm(first, second, spectra.real / n_phi)


def _centring(op: Any, noisy: Any, w: Floats, first: Array, second: Array) -> Array:
    """Return what subtracting ring means adds to the spectra: rank one per ring."""
    n_q, n_phi = w.shape
    total = w.sum(axis=1)
    means = np.divide(w, total[:, None], out=np.zeros_like(w), where=total[:, None] > 0)
    rings = scipy.sparse.csr_matrix(
        (means.reshape(-1), (np.repeat(np.arange(n_q), n_phi), np.arange(n_q * n_phi))),
        shape=(n_q, n_q * n_phi),
    )
    mean_op = rings @ op
    mixed = (noisy @ mean_op.T).toarray().reshape(n_q, n_phi, n_q)  # noise of a bin with that of a ring mean
    both = (mean_op @ noisy.T @ rings.T).toarray()
    wf = scipy.fft.rfft(w, axis=1)
    one = scipy.fft.rfft(w[first] * mixed[first, :, second], axis=1)
    two = scipy.fft.rfft(w[second] * mixed[second, :, first], axis=1)
    mask = wf[first].conj() * wf[second]
    return (-one.conj() * wf[second] - wf[first].conj() * two + both[first, second][:, None] * mask) / n_phi
