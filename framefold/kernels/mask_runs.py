"""Sparse masks as runs of neighbouring pixels in a row, and sums of frames over them.

Only the pixels of the mask are touched, rows stay vectorisable, and a shifted mask is the same list of runs
clipped to the frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

_FAST = {"reassoc", "contract", "nsz", "arcp"}


@dataclass(frozen=True, eq=False)
class MaskRuns:
    """`k` masks as runs; run `i` covers columns ``col[i] .. col[i] + length[i]`` of row ``row[i]``.

    Attributes
    ----------
    ptr
        int64 ``(k + 1,)``: runs ``ptr[j] .. ptr[j + 1]`` belong to mask `j`.
    row, col, length
        int64, one per run.
    weights
        All weights, run after run; None if every weight is one.
    offset
        int64, where the weights of each run start.
    """

    ptr: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    col: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    offset: npt.NDArray[np.int64]
    weights: npt.NDArray[Any] | None

    @property
    def pixels(self) -> int:
        """Number of pixels in all runs."""
        return int(self.length.sum())

    def starts(self, row_stride: int) -> npt.NDArray[np.int64]:
        """Return where each run starts in a frame whose rows are `row_stride` elements apart."""
        return self.row * row_stride + self.col


def find_runs(
    k: int,
    mask: npt.NDArray[np.int64],
    row: npt.NDArray[np.int64],
    col: npt.NDArray[np.int64],
    weights: npt.NDArray[Any] | None,
) -> MaskRuns:
    """Return the runs of `k` masks given as unique pixels sorted by mask, row and column."""
    n = len(col)
    new = np.ones(n, dtype=bool)
    if n:
        new[1:] = (np.diff(mask) != 0) | (np.diff(row) != 0) | (np.diff(col) != 1)
    first = np.flatnonzero(new).astype(np.int64)
    length = np.diff(np.append(first, n)).astype(np.int64)
    ptr = np.searchsorted(mask[first], np.arange(k + 1)).astype(np.int64)
    return MaskRuns(
        ptr,
        np.ascontiguousarray(row[first], dtype=np.int64),
        np.ascontiguousarray(col[first], dtype=np.int64),
        length,
        first,
        None if weights is None else np.ascontiguousarray(weights),
    )


def runs_of_dense(masks: npt.NDArray[Any], weighted: bool | None = None) -> MaskRuns:
    """Return the runs of dense `masks`, shape ``(k, rows, cols)``.

    `weighted` None keeps weights only if some differ from 1.
    """
    mask, row, col = (i.astype(np.int64) for i in np.nonzero(masks))
    values = masks[mask, row, col]
    if weighted is None:
        weighted = bool(values.dtype.kind != "b" and np.any(values != 1))
    return find_runs(len(masks), mask, row, col, values if weighted else None)


@numba.njit(nogil=True, cache=True, fastmath=_FAST)
def sum_runs(
    data: Any, frame_stride: int, ptr: Any, starts: Any, length: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Add the sum over the runs of each mask to `out`, shape ``(depth, k)``, in the type of `out`."""
    depth, k = out.shape
    t = out.dtype.type
    depth4 = depth - depth % 4
    # Four frames at a time, since short runs wait for memory and not for arithmetic (2x for a small disk).
    # Written out: returning four sums from a function costs what is gained.
    for f in range(0, depth4, 4):
        base = f * frame_stride
        for j in range(k):
            s0 = s1 = s2 = s3 = t(0)
            for i in range(ptr[j], ptr[j + 1]):
                n = length[i]
                p0 = base + starts[i]
                p1 = p0 + frame_stride
                p2 = p1 + frame_stride
                p3 = p2 + frame_stride
                d0, d1, d2, d3 = data[p0 : p0 + n], data[p1 : p1 + n], data[p2 : p2 + n], data[p3 : p3 + n]
                for q in range(n):
                    s0 += t(d0[q])
                    s1 += t(d1[q])
                    s2 += t(d2[q])
                    s3 += t(d3[q])
            out[f, j] += s0
            out[f + 1, j] += s1
            out[f + 2, j] += s2
            out[f + 3, j] += s3
    for f in range(depth4, depth):
        for j in range(k):
            total = t(0)
            for i in range(ptr[j], ptr[j + 1]):
                p = f * frame_stride + starts[i]
                total += _sum(data[p : p + length[i]], t(0))
            out[f, j] += total


@numba.njit(nogil=True, cache=True, fastmath=_FAST)
def dot_runs(
    data: Any, frame_stride: int, ptr: Any, starts: Any, length: Any, offset: Any, weights: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """As `sum_runs` with weights; products in the type of `weights`, sums over runs in the type of `out`."""
    depth, k = out.shape
    t = weights.dtype.type
    depth4 = depth - depth % 4
    for f in range(0, depth4, 4):
        base = f * frame_stride
        for j in range(k):
            for i in range(ptr[j], ptr[j + 1]):
                for b in range(0, length[i], 4096):
                    n = min(length[i] - b, 4096)
                    at = offset[i] + b
                    w = weights[at : at + n]
                    p0 = base + starts[i] + b
                    p1 = p0 + frame_stride
                    p2 = p1 + frame_stride
                    p3 = p2 + frame_stride
                    d0, d1, d2, d3 = (
                        data[p0 : p0 + n],
                        data[p1 : p1 + n],
                        data[p2 : p2 + n],
                        data[p3 : p3 + n],
                    )
                    s0 = s1 = s2 = s3 = t(0)
                    for q in range(n):
                        v = w[q]
                        s0 += t(d0[q]) * v
                        s1 += t(d1[q]) * v
                        s2 += t(d2[q]) * v
                        s3 += t(d3[q]) * v
                    out[f, j] += s0
                    out[f + 1, j] += s1
                    out[f + 2, j] += s2
                    out[f + 3, j] += s3
    for f in range(depth4, depth):
        for j in range(k):
            total = out.dtype.type(0)
            for i in range(ptr[j], ptr[j + 1]):
                n = length[i]
                p = f * frame_stride + starts[i]
                total += _dot_run(data[p : p + n], weights[offset[i] : offset[i] + n], total)
            out[f, j] += total


@numba.njit(nogil=True, cache=True, fastmath=_FAST)
def sum_runs_shifted(
    data: Any,
    frame_stride: int,
    row_stride: int,
    box: Any,
    shifts: Any,
    ptr: Any,
    row: Any,
    col: Any,
    length: Any,
    out: Any,
) -> None:  # pragma: no cover - compiled
    """As `sum_runs` with the masks of frame `f` moved by ``shifts[f]`` (rows down, columns right).

    Runs are in coordinates of the whole frame; `box` = (first row, first column, rows, columns) of the tile.
    """
    depth, k = out.shape
    y0, x0, rows, cols = box
    for f in range(depth):
        dy, dx = shifts[f, 0] - y0, shifts[f, 1] - x0
        for j in range(k):
            total = out.dtype.type(0)
            for i in range(ptr[j], ptr[j + 1]):
                y = row[i] + dy
                a = max(col[i] + dx, 0)
                e = min(col[i] + dx + length[i], cols)
                if 0 <= y < rows and a < e:
                    p = f * frame_stride + y * row_stride
                    total += _sum(data[p + a : p + e], total)
            out[f, j] += total


@numba.njit(nogil=True, cache=True, fastmath=_FAST)
def dot_runs_shifted(
    data: Any,
    frame_stride: int,
    row_stride: int,
    box: Any,
    shifts: Any,
    ptr: Any,
    row: Any,
    col: Any,
    length: Any,
    offset: Any,
    weights: Any,
    out: Any,
) -> None:  # pragma: no cover - compiled
    """As `sum_runs_shifted`, with weights."""
    depth, k = out.shape
    y0, x0, rows, cols = box
    for f in range(depth):
        dy, dx = shifts[f, 0] - y0, shifts[f, 1] - x0
        for j in range(k):
            total = out.dtype.type(0)
            for i in range(ptr[j], ptr[j + 1]):
                y = row[i] + dy
                left = col[i] + dx
                a = max(left, 0)
                e = min(left + length[i], cols)
                if 0 <= y < rows and a < e:
                    p = f * frame_stride + y * row_stride
                    w = offset[i] - left
                    total += _dot_run(data[p + a : p + e], weights[w + a : w + e], total)
            out[f, j] += total


@numba.njit(nogil=True, cache=True, fastmath=_FAST)
def _sum(d: Any, zero: Any) -> Any:  # pragma: no cover - compiled
    s = zero * 0
    for i in range(d.shape[0]):
        s += d[i]
    return s


@numba.njit(nogil=True, cache=True, fastmath=_FAST)
def _dot_run(d: Any, w: Any, zero: Any) -> Any:  # pragma: no cover - compiled
    t = w.dtype.type
    total = zero * 0
    n = w.shape[0]
    for b in range(0, n, 4096):
        e = min(n, b + 4096)
        db, wb = d[b:e], w[b:e]
        s = t(0)
        for i in range(e - b):
            s += t(db[i]) * wb[i]
        total += s
    return total


def shifted_reference(masks: npt.NDArray[Any], dy: int, dx: int) -> npt.NDArray[Any]:
    """Return `masks` ``(k, rows, cols)`` moved by `dy` (down) and `dx`; what leaves the frame is lost."""
    out = np.zeros_like(masks)
    rows, cols = masks.shape[1:]
    src = masks[:, max(0, -dy) : rows - max(0, dy), max(0, -dx) : cols - max(0, dx)]
    if abs(dy) < rows and abs(dx) < cols:
        out[:, max(0, dy) : rows - max(0, -dy), max(0, dx) : cols - max(0, -dx)] = src
    return out
