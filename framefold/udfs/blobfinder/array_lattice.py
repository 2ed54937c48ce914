"""Fits the lattices of all frames of a tile with array operations, as `kernels_lattice.fit_lattices`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from framefold.udfs.blobfinder.kernels_lattice import HUBER
from framefold.udfs.blobfinder.lattice import LatticeFit, Lattices

_REJECT, _RAYLEIGH = 4.0, math.sqrt(2 * math.log(2))  # as in kernels_lattice


def fit_arrays(
    xp: Any, centers: Any, sigma: Any, usable: Any, hk: Any, fit: LatticeFit, out: Lattices
) -> None:
    """Fit ``p = z + h a + k b`` to the disks of each frame, robustly, in the namespace `xp`.

    Parameters
    ----------
    centers, sigma
        ``(n, m, 2)``, y and x.
    usable
        ``(n, m)`` bool.
    hk
        ``(m, 2)`` float64 indices.
    fit
        How; ``match="expected"`` only.
    out
        Room for the lattices.
    """
    least, floor = max(fit.min_peaks, 3), fit.sigma_floor
    finite = xp.isfinite(centers).all(axis=2)
    at = xp.where(finite[..., None], centers, 0).astype(np.float64)
    s2 = 0.5 * (sigma.astype(np.float64) ** 2).sum(axis=2)
    ok = usable & finite & xp.isfinite(s2)
    base = xp.where(ok, 1.0 / xp.maximum(xp.where(ok, s2, 1.0), floor * floor), 0.0)
    basis = xp.concatenate([xp.ones((hk.shape[0], 1)), hk], axis=1)
    w, count = base, (base > 0).sum(axis=1)
    fine, inverse, x = _normal(xp, basis, w, at)
    fine = fine & (count >= least)
    for r in range(fit.rounds):
        length = xp.sqrt(((at - xp.matmul(basis, x)) ** 2).sum(axis=2) * base)
        scale = xp.maximum(1.0, _medians(xp, length, base > 0) / _RAYLEIGH)
        t = length / scale[:, None] / math.sqrt(2.0)
        new = base * xp.where(t <= HUBER, 1.0, HUBER / xp.maximum(t, HUBER))
        if r > 0:
            new = xp.where(t > _REJECT, 0.0, new)
        w = xp.where(fine[:, None], new, w)
        count = (w > 0).sum(axis=1)
        good, inverse, x = _normal(xp, basis, w, at)
        fine = fine & good & (count >= least)
    distance = ((at - xp.matmul(basis, x)) ** 2).sum(axis=2)
    chi, total = (w * distance).sum(axis=1), w.sum(axis=1)
    excess = xp.maximum(1.0, chi / xp.maximum(2.0 * count - 6.0, 1.0))
    residual = xp.sqrt(0.5 * chi / xp.where(total > 0, total, 1.0))
    for i, target in enumerate((out.zero, out.a, out.b)):
        target[...] = xp.where(fine[:, None], x[:, i], np.nan)
    cov = xp.stack([inverse[:, 1, 1], inverse[:, 1, 2], inverse[:, 2, 2]], axis=1) * excess[:, None]
    out.cov[...] = xp.where(fine[:, None], cov, np.nan)
    out.residual[...] = xp.where(fine, residual, np.nan)
    out.used[...] = xp.where(fine, count, 0).astype(out.used.dtype)
    out.selector[...] = fine[:, None] & (w > 0)


def _normal(xp: Any, basis: Any, w: Any, at: Any) -> tuple[Any, Any, Any]:
    """Return which frames determine a lattice, the inverse normal matrices ``(n, 3, 3)``, and z, a, b."""
    products = (basis[:, :, None] * basis[:, None, :]).reshape(-1, 9)
    N = (w @ products).reshape(-1, 3, 3)
    right = xp.matmul(basis.T, w[..., None] * at)
    s0, sh, sk = N[:, 0, 0], N[:, 0, 1], N[:, 0, 2]
    shh, shk, skk = N[:, 1, 1], N[:, 1, 2], N[:, 2, 2]
    c00, c01, c02 = shh * skk - shk * shk, sk * shk - sh * skk, sh * shk - sk * shh
    c11, c12, c22 = s0 * skk - sk * sk, sh * sk - s0 * shk, s0 * shh - sh * sh
    det = s0 * c00 + sh * c01 + sk * c02
    fine = (det > 1e-9 * s0 * shh * skk) & (s0 > 0.0)
    cofactors = xp.stack([c00, c01, c02, c01, c11, c12, c02, c12, c22], axis=1).reshape(-1, 3, 3)
    inverse = cofactors / xp.where(fine, det, 1.0)[:, None, None]
    return fine, inverse, xp.matmul(inverse, right)


def _medians(xp: Any, values: Any, keep: Any) -> Any:
    """Return the median of what is kept of each row; rows without anything give 0."""
    count = keep.sum(axis=1)
    ordered = xp.sort(xp.where(keep, values, np.inf), axis=1)
    low, high = xp.maximum(count - 1, 0) // 2, xp.minimum(count // 2, values.shape[1] - 1)
    pair = [xp.take_along_axis(ordered, i[:, None], axis=1)[:, 0] for i in (low, high)]
    return xp.where(count > 0, 0.5 * (pair[0] + pair[1]), 0.0)
