"""Sum of the logarithms of frames."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from framefold.kernels.formula import or_formula
from framefold.kernels.minmax import highest, min_sig
from framefold.kernels.rows import as_rows
from framefold.kernels.unit_stride import contiguous


def add_logs_reference(tile: npt.NDArray[Any], acc: npt.NDArray[np.float64], table: Any = None) -> None:
    """Do what `add_logs` does, by numpy; needs no table."""
    if not tile.size:
        return
    frames = tile.astype(np.float64)
    low = frames.reshape(tile.shape[0], -1).min(axis=1).reshape(-1, *(1,) * (tile.ndim - 1))
    acc += np.log(frames - low + 1).sum(axis=0)


@or_formula(add_logs_reference)
def add_logs(tile: npt.NDArray[Any], acc: npt.NDArray[np.float64], table: npt.NDArray[np.float64]) -> None:
    """Add ``log(frame - min(frame) + 1)`` of each whole frame of `tile` to `acc`, float64, C-contiguous.

    `table` is ``log(1), log(2), ..., log(65536)`` for integers of up to 16 bits (see `log_table`).
    """
    rows = as_rows(tile)
    out = acc.reshape(-1)
    if rows.dtype.kind == "b":
        rows = as_rows(rows.view(np.uint8))
    if rows.dtype.kind in "ui" and rows.itemsize <= 2:
        low = np.full(len(rows), highest(rows.dtype), rows.dtype)
        min_sig(rows, low)
        _add_by_table(rows, low, table, out)
        return
    # numpy's logarithm is vectorised, numba's is not without Intel's library
    work = np.empty(rows.shape[1])
    for row in rows:
        np.subtract(row, row.min() if row.size else 0, out=work, dtype=np.float64)
        work += 1
        np.log(work, out=work)
        out += work


def log_table() -> npt.NDArray[np.float64]:
    """Return ``log(1 + k)`` for k = 0 ... 65535."""
    return np.log1p(np.arange(65536, dtype=np.float64))


@numba.njit(nogil=True, cache=True)
def _add_by_table(rows, low, table, acc):  # type: ignore[no-untyped-def]
    depth, pixels = rows.shape
    for i in range(depth):
        a = contiguous(rows[i])
        base = np.int64(low[i])
        for j in range(pixels):
            acc[j] += table[np.int64(a[j]) - base]
