"""Choose how a stack of masks is applied to tiles of one part of the detector, and apply it.

Three paths, by mask: runs of ones (`sum_runs`), weighted runs (`dot_runs`), dense blocks (`dense_dot`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.kernels.dense_masks import BLOCK, dense_dot
from framefold.kernels.flat import FlatTile, flat_tile
from framefold.kernels.mask_runs import (
    MaskRuns,
    dot_runs,
    dot_runs_shifted,
    find_runs,
    sum_runs,
    sum_runs_shifted,
)

# below this fill the touched cache lines of a mask cost less than all of them
SPARSE_FILL = 0.2
# runs of ones beat dense products at any fill as long as they are long enough to vectorise
_LONG_RUN = 16


@dataclass(frozen=True, eq=False)
class Mask:
    """One mask as a list of pixels (`index`, flat and sorted, and `values`) or as a dense array.

    Attributes
    ----------
    shape
        Signal shape.
    dense
        The array, or None.
    index, values
        int64 flat pixel indices and their weights, or None.
    """

    shape: tuple[int, ...]
    dense: npt.NDArray[Any] | None = None
    index: npt.NDArray[np.int64] | None = None
    values: npt.NDArray[Any] | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of the weights."""
        source = self.values if self.dense is None else self.dense
        assert source is not None
        return source.dtype

    def pixels(self, part: Sequence[slice]) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
        """Return flat indices inside `part` (row-major) and weights of the non-zero pixels."""
        if self.dense is not None:
            flat = self.dense[tuple(part)].reshape(-1)
            index = np.flatnonzero(flat).astype(np.int64)
            return index, flat[index]
        assert self.index is not None
        assert self.values is not None
        where = np.unravel_index(self.index, self.shape)
        inside = np.ones(len(self.index), dtype=bool)
        for axis, s in zip(where, part, strict=True):
            inside &= (axis >= s.start) & (axis < s.stop)
        local = [axis[inside] - s.start for axis, s in zip(where, part, strict=True)]
        extents = tuple(s.stop - s.start for s in part)
        index = np.ravel_multi_index(local, extents).astype(np.int64) if inside.any() else _NONE
        return index, self.values[inside]

    def array(self, part: Sequence[slice]) -> npt.NDArray[Any]:
        """Return the dense mask of `part`."""
        if self.dense is not None:
            return self.dense[tuple(part)]
        index, values = self.pixels(part)
        out = np.zeros(tuple(s.stop - s.start for s in part), dtype=values.dtype)
        out.reshape(-1)[index] = values
        return out


_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class _Group:
    """Masks that share a path: `ids` are their columns in the (real) stack."""

    ids: npt.NDArray[np.int64]
    dense: npt.NDArray[Any] | None = None
    runs: MaskRuns | None = None
    starts: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PartMasks:
    """Masks prepared for one part of the detector and one input dtype; apply with `apply_masks`."""

    k: int
    part: tuple[slice, ...]
    work: np.dtype[Any]
    sums: np.dtype[Any]
    split: bool
    groups: tuple[_Group, ...]


def result_dtype(data: npt.DTypeLike, masks: npt.DTypeLike) -> np.dtype[Any]:
    """Return the dtype of mask sums: int64 (exact) for integers, else the joint one, at least float32."""
    data, masks = np.dtype(data), np.dtype(masks)
    if data.kind in "biu" and masks.kind in "biu":
        return np.dtype(np.int64)
    return np.result_type(data, masks, np.float32)


def sum_dtype(data: npt.DTypeLike, masks: npt.DTypeLike) -> np.dtype[Any]:
    """Return the dtype to add parts of a frame in: int64, float64 or complex128."""
    kind = result_dtype(data, masks).kind
    return np.dtype({"i": np.int64, "f": np.float64, "c": np.complex128}[kind])


def work_dtype(data: np.dtype[Any], masks: np.dtype[Any], largest: float, pixels: int) -> np.dtype[Any]:
    """Return the dtype for products: the fastest exact one for integers, else that of the result.

    Parameters
    ----------
    data, masks
        dtypes of frames and (real) masks.
    largest
        Largest absolute weight, which decides up to which type integers stay exact.
    pixels
        Pixels in a frame.
    """
    result = result_dtype(data, masks)
    if result.kind != "i":
        return result
    top = (1.0 if data.kind == "b" else 2.0 ** (8 * data.itemsize)) * max(largest, 1.0)
    if top * min(BLOCK, pixels) <= 2**24:
        return np.dtype(np.float32)
    return np.dtype(np.float64 if top * pixels <= 2**53 else np.int64)


def prepare_part(
    masks: Sequence[Mask],
    part: Sequence[slice],
    data_dtype: npt.DTypeLike,
    sparse: bool | None = None,
    shifted: bool = False,
) -> PartMasks:
    """Sort `masks` into paths for tiles of `part`.

    Parameters
    ----------
    masks
        All of one signal shape.
    part
        One slice per signal axis, step 1.
    data_dtype
        dtype of the tiles.
    sparse
        True: runs for every mask; False: dense; None: by fill.
    shifted
        Prepare for `apply_shifted`: runs in coordinates of the whole frame.
    """
    part = tuple(part)
    data = np.dtype(data_dtype)
    joint = np.result_type(*(m.dtype for m in masks)) if masks else np.dtype(np.float32)
    split = joint.kind == "c"
    real_masks = joint if not split else np.dtype(f"f{joint.itemsize // 2}")
    shape = masks[0].shape if masks else tuple(s.stop - s.start for s in part)
    region = tuple(slice(0, n) for n in shape) if shifted else part
    size = int(np.prod([s.stop - s.start for s in region], dtype=np.int64))
    cols = region[-1].stop - region[-1].start if region else 1

    pixels: dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[Any]]] = {}
    dense: dict[int, npt.NDArray[Any]] = {}
    largest = 0.0
    for j, mask in enumerate(masks):
        index, values = mask.pixels(region)
        largest = max(largest, float(np.abs(values).max(initial=0)))
        for column, v in ((j, values.real), (j + len(masks), values.imag)) if split else ((j, values),):
            keep = v != 0
            i, v = (index, v) if keep.all() else (index[keep], v[keep])
            if shifted or _as_runs(i, v, size, cols, sparse):
                pixels[column] = (i, v)
            else:
                full = np.zeros(size, dtype=v.dtype)
                full[i] = v
                dense[column] = full
    work = work_dtype(data, real_masks, largest, int(np.prod(shape, dtype=np.int64)))
    ones = {j: p for j, p in pixels.items() if np.all(p[1] == 1)}
    weighted = {j: p for j, p in pixels.items() if j not in ones}
    groups = []
    if dense:
        ids = np.array(sorted(dense), dtype=np.int64)
        groups.append(_Group(ids, dense=np.stack([dense[int(j)].astype(work) for j in ids])))
    for chosen, weights in ((ones, False), (weighted, True)):
        if chosen:
            groups.append(_run_group(chosen, cols, work if weights else None))
    columns = len(masks) * (2 if split else 1)
    return PartMasks(columns, part, work, sum_dtype(data, real_masks), split, tuple(groups))


def _as_runs(
    index: npt.NDArray[np.int64], values: npt.NDArray[Any], size: int, cols: int, sparse: bool | None
) -> bool:
    if sparse is not None:
        return sparse
    if len(index) < SPARSE_FILL * size:
        return True
    if not np.all(values == 1):
        return False
    runs = 1 + np.count_nonzero((np.diff(index) != 1) | (index[1:] % cols == 0))
    return bool(len(index) >= _LONG_RUN * runs)


def _run_group(
    pixels: dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[Any]]], cols: int, work: np.dtype[Any] | None
) -> _Group:
    ids = np.array(sorted(pixels), dtype=np.int64)
    index = np.concatenate([pixels[int(j)][0] for j in ids])
    mask = np.repeat(np.arange(len(ids)), [len(pixels[int(j)][0]) for j in ids])
    weights = None if work is None else np.concatenate([pixels[int(j)][1] for j in ids]).astype(work)
    return _Group(ids, runs=find_runs(len(ids), mask, index // cols, index % cols, weights))


def apply_masks(masks: PartMasks, tile: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Add the weighted sums of `tile`, shape ``(depth, *part)``, to `out`, shape ``(depth, masks)``."""
    flat = flat_tile(tile)
    cols = tile.shape[-1] if tile.ndim > 1 else 1
    stride = cols if flat.rows == 1 else flat.row_stride
    sums = np.zeros((flat.depth, masks.k), dtype=masks.sums)
    if not sums.size or not tile.size:
        return
    for group in masks.groups:
        acc = sums if len(group.ids) == masks.k else np.zeros((flat.depth, len(group.ids)), sums.dtype)
        if group.dense is not None:
            dense_dot(flat.data, flat.frame_stride, flat.row_stride, flat.rows, flat.cols, group.dense, acc)
        elif group.runs is not None:
            starts = group.starts.get(stride)
            if starts is None:
                starts = group.starts[stride] = group.runs.starts(stride)
            _add_runs(flat, group.runs, starts, acc)
        if acc is not sums:
            sums[:, group.ids] += acc
    _add(masks, sums, out)


def _add_runs(flat: FlatTile, runs: MaskRuns, starts: npt.NDArray[np.int64], acc: npt.NDArray[Any]) -> None:
    if runs.weights is None:
        sum_runs(flat.data, flat.frame_stride, runs.ptr, starts, runs.length, acc)
    else:
        dot_runs(flat.data, flat.frame_stride, runs.ptr, starts, runs.length, runs.offset, runs.weights, acc)


def apply_shifted(
    masks: PartMasks, tile: npt.NDArray[Any], shifts: npt.NDArray[np.int64], out: npt.NDArray[Any]
) -> None:
    """As `apply_masks` with masks moved by ``shifts[f]`` = (down, right); prepared with ``shifted=True``.

    `tile` has shape ``(depth, rows, columns)``; what leaves the frame does not count.
    """
    flat = flat_tile(tile)
    stride = tile.shape[-1] if flat.rows == 1 else flat.row_stride
    box = (masks.part[0].start, masks.part[1].start, tile.shape[1], tile.shape[2])
    shifts = np.ascontiguousarray(np.broadcast_to(shifts, (flat.depth, 2)), dtype=np.int64)
    sums = np.zeros((flat.depth, masks.k), dtype=masks.sums)
    if not sums.size or not tile.size:
        return
    for group in masks.groups:
        runs = group.runs
        assert runs is not None
        acc = np.zeros((flat.depth, len(group.ids)), sums.dtype)
        where = (flat.data, flat.frame_stride, stride, box, shifts, runs.ptr, runs.row, runs.col, runs.length)
        if runs.weights is None:
            sum_runs_shifted(*where, acc)
        else:
            dot_runs_shifted(*where, runs.offset, runs.weights, acc)
        sums[:, group.ids] += acc
    _add(masks, sums, out)


def _add(masks: PartMasks, sums: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    if masks.split:
        k = masks.k // 2
        out += sums[:, :k] + 1j * sums[:, k:]
    else:
        out += sums
