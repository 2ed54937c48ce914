"""Weighted sums over each frame."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.kernels.formula import flat_frames, or_formula
from framefold.kernels.rows import as_real, as_rows
from framefold.kernels.unit_stride import contiguous


def weighted_sum_sig_reference(
    tile: npt.NDArray[Any], weights: npt.NDArray[np.float64], out: npt.NDArray[Any]
) -> None:
    """Do what `weighted_sum_sig` does, by numpy."""
    rows = flat_frames(tile)
    out += np.where(weights != 0, rows, 0).astype(out.dtype) @ weights


@or_formula(weighted_sum_sig_reference)
def weighted_sum_sig(tile: npt.NDArray[Any], weights: npt.NDArray[np.float64], out: npt.NDArray[Any]) -> None:
    """Add the sum of pixel times weight of each frame of `tile`, ``(depth, *part)``, to `out`, ``(depth,)``.

    `weights` is flat, one number per pixel of the part; a pixel with weight 0 is not looked at, so that its
    NaN does no harm. `out`: float64, or complex128 for complex data, C-contiguous.
    """
    rows = as_rows(tile)
    if weights.shape != (rows.shape[1],) or out.shape != (len(rows),):
        raise DataError(f"tile {tile.shape}: weights {weights.shape} or output {out.shape} have another size")
    if rows.dtype.kind == "b":
        rows = as_rows(rows.view(np.uint8))
    elif rows.dtype == np.float16:
        rows = as_rows(rows.astype(np.float32))
    if rows.dtype.kind != "c":
        _weighted(rows, weights, out)
        return
    pairs = np.repeat(weights, 2)
    for part, first in ((out.real, 0), (out.imag, 1)):
        chosen = np.zeros_like(pairs)
        chosen[first::2] = weights
        sums = np.zeros(len(rows))
        _weighted(as_real(rows), chosen, sums)
        part += sums


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract"})
def _weighted(rows, weights, out):  # type: ignore[no-untyped-def]
    depth, pixels = rows.shape
    i = 0
    while i + 4 <= depth:  # the weights are eight bytes a pixel: load them for four frames
        a = contiguous(rows[i])
        b = contiguous(rows[i + 1])
        c = contiguous(rows[i + 2])
        d = contiguous(rows[i + 3])
        s = 0.0
        t = 0.0
        u = 0.0
        v = 0.0
        for j in range(pixels):
            w = weights[j]
            used = w != 0.0
            s += w * np.float64(a[j]) if used else 0.0
            t += w * np.float64(b[j]) if used else 0.0
            u += w * np.float64(c[j]) if used else 0.0
            v += w * np.float64(d[j]) if used else 0.0
        out[i] += s
        out[i + 1] += t
        out[i + 2] += u
        out[i + 3] += v
        i += 4
    while i < depth:
        a = contiguous(rows[i])
        s = 0.0
        for j in range(pixels):
            w = weights[j]
            s += w * np.float64(a[j]) if w != 0.0 else 0.0
        out[i] += s
        i += 1
