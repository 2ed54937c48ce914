"""Loops over one frame: ring means, saturated pixels, sums for the variance."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract"})
def ring_means(polar: Any, weight: Any, weight_sums: Any, out: Any) -> None:
    """Write the weighted mean of each ring to `out` (n_q,), 0 where it has no weight; NaN goes through."""
    n_q, n_phi = polar.shape
    for i in range(n_q):
        total = polar.dtype.type(0)
        for p in range(n_phi):
            total += weight[i, p] * polar[i, p]
        out[i] = total / weight_sums[i] if weight_sums[i] > 0 else 0.0


@numba.njit(nogil=True, cache=True)
def saturated_share(frame: Any, good: Any, level: Any) -> Any:
    """Return which part of the good pixels of a flat frame is at `level` or above."""
    n, hit = 0, 0
    for i in range(len(frame)):
        n += good[i]
        hit += good[i] and frame[i] >= level
    return hit / max(n, 1)


@numba.njit(nogil=True, cache=True)
def add_scaled(frame: Any, factor: Any, out: Any) -> None:
    """Add ``factor * frame`` to the flat float64 frame `out`; values that are not finite count as 0."""
    for i in range(len(frame)):
        value = factor * frame[i]
        if np.isfinite(value):
            out[i] += value


def ring_means_reference(polar: Any, weight: Any) -> Any:
    """Return what `ring_means` computes."""
    return (polar * weight).sum(axis=1) / weight.sum(axis=1)
