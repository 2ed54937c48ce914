"""Exact sums of frames, per pixel and per frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.kernels.formula import flat_frames, or_formula
from framefold.kernels.rows import as_real, as_rows
from framefold.kernels.warm import by_numpy

_WIDE = {k: np.dtype(v) for k, v in (("b", "u8"), ("u", "u8"), ("i", "i8"), ("f", "f8"), ("c", "c16"))}


def wide_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return the accumulator type in which sums of `dtype` are exact (integers) or double (floats).

    >>> wide_dtype("u2"), wide_dtype("f4")
    (dtype('uint64'), dtype('float64'))
    """
    try:
        return _WIDE[np.dtype(dtype).kind]
    except KeyError:
        raise DataError(f"cannot sum {np.dtype(dtype)}: it takes bool, integer, float or complex") from None


def sum_frames_reference(tile: npt.NDArray[Any], acc: npt.NDArray[Any]) -> None:
    """Do what `sum_frames` does, by numpy."""
    acc += tile.sum(axis=0, dtype=acc.dtype)


@or_formula(sum_frames_reference)
def sum_frames(tile: npt.NDArray[Any], acc: npt.NDArray[Any]) -> None:
    """Add the frames of `tile`, shape ``(depth, *part)``, to `acc`, shape ``part``, C-contiguous.

    `acc` has the dtype `wide_dtype`, so that integer sums are exact; float64 is accepted for integers, too.
    """
    rows, out = _prepare(tile, acc)
    if out.size != rows.shape[1]:
        raise DataError(f"tile {tile.shape} and accumulator {acc.shape} differ in their signal part")
    if rows.dtype.kind in "ui" and by_numpy(tile.nbytes):
        sum_frames_reference(tile, acc)
        return
    from framefold.kernels import reduce_loops as loops  # noqa: PLC0415  # loads numba

    if rows.itemsize <= 2 and rows.dtype.kind in "ui":
        scratch = np.empty(min(loops.BLOCK, out.size), np.uint32 if rows.dtype.kind == "u" else np.int32)
        loops.sum_frames_narrow(rows, out, scratch)
    else:
        loops.sum_frames(rows, out)


def sum_sig_reference(tile: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Do what `sum_sig` does, by numpy."""
    out += flat_frames(tile).sum(axis=1, dtype=out.dtype)


@or_formula(sum_sig_reference)
def sum_sig(tile: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Add the sum of each frame of `tile`, ``(depth, *part)``, to `out`, shape ``(depth,)``, C-contiguous.

    `out` has the dtype `wide_dtype`.
    """
    if out.size != tile.shape[0]:
        raise DataError(f"tile {tile.shape} and output {out.shape} differ in their number of frames")
    rows, acc = _prepare(tile, out)
    if rows.dtype.kind in "ui" and by_numpy(tile.nbytes):
        sum_sig_reference(tile, out)
        return
    from framefold.kernels import reduce_loops as loops  # noqa: PLC0415  # loads numba

    if rows.dtype.kind == "f":
        loops.sum_sig_float(rows, acc, 2 if out.dtype.kind == "c" else 1)
    elif rows.itemsize <= 2:
        loops.sum_sig_narrow(rows, acc, np.zeros(1, np.uint32 if rows.dtype.kind == "u" else np.int32))
    else:
        loops.sum_sig(rows, acc)


def _prepare(tile: npt.NDArray[Any], acc: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return tile and accumulator as rows and flat view of the types that the loops know."""
    wide = wide_dtype(tile.dtype)
    if acc.dtype != wide and not (acc.dtype == np.float64 and wide.kind != "c"):
        raise DataError(f"sums of {tile.dtype} accumulate in {wide}, the accumulator is {acc.dtype}")
    if not acc.flags.c_contiguous:
        raise DataError("the accumulator must be C-contiguous")
    rows = as_rows(tile)
    out = acc.reshape(-1)
    if rows.dtype.kind == "b":
        rows = rows.view(np.uint8)
    elif rows.dtype == np.float16:
        rows = as_rows(rows.astype(np.float32))
    elif rows.dtype.kind == "c":
        rows = as_real(rows)
        out = out.view(np.float64)
    return rows, out
