"""Mixed states: orthogonal probe modes, their powers, purity, and fidelity to another state."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.namespace import xp_of

Array = npt.NDArray[Any]


def orthogonalise(modes: Array) -> tuple[Array, Array]:
    """Return orthogonal modes of the same mutual intensity, strongest first, and the unitary matrix U.

    ``P'^m = sum_k U_km P^k`` with the eigenvectors U of the Gram matrix ``G_kl = sum conj(P^k) P^l``. The
    phase of each column of U makes the mean of its mode real and positive.
    """
    flat = modes.reshape(len(modes), -1).astype(np.complex128)
    gram = flat.conj() @ flat.T
    xp = xp_of(modes)
    u = xp.linalg.eigh(gram)[1][:, ::-1]  # eigenvalues come in rising order
    mean = (u.T @ flat).sum(axis=1)
    turn = xp.where(xp.abs(mean) > 1e-12 * xp.abs(flat).sum(), xp.exp(-1j * xp.angle(mean)), 1.0)
    u = u * turn
    return rotate(modes, u), u


def rotate(modes: Array, u: Array) -> Array:
    """Return ``P'^m = sum_k U_km P^k``, in the dtype of `modes`."""
    return xp_of(modes).tensordot(u.T, modes.astype(u.dtype), axes=1).astype(modes.dtype)


def powers(modes: Array) -> npt.NDArray[np.float64]:
    """Return the share of each mode in the total power."""
    p = (np.abs(modes) ** 2).sum(axis=(-2, -1), dtype=np.float64)
    return np.asarray(p / p.sum())


def purity(modes: Array) -> float:
    """Return ``sum p_k^2 / (sum p_k)^2`` of orthogonal modes: 1 for a coherent probe."""
    return float((powers(modes) ** 2).sum())


def fidelity(a: Array, b: Array) -> float:
    """Return ``tr(J_a J_b) / sqrt(tr J_a^2 tr J_b^2)`` of the mutual intensities of two sets of modes."""
    x, y = (m.reshape(len(m), -1).astype(np.complex128) for m in (a, b))

    def overlap(u: Array, v: Array) -> float:
        return float((np.abs(u.conj() @ v.T) ** 2).sum())

    return overlap(x, y) / float(np.sqrt(overlap(x, x) * overlap(y, y)))
