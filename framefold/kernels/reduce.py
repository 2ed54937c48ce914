"""Exact sums of frames, per pixel and per frame."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.kernels.rows import as_real, as_rows, contiguous

# pixels that are summed over all frames of a tile before the next ones: scratch and eight rows stay in L2.
_BLOCK = 8192
# integers of 16 bits summed in 32: 65535 * 32768 < 2**31 holds for signed and unsigned
_FLUSH = 32768
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


def sum_frames(tile: npt.NDArray[Any], acc: npt.NDArray[Any]) -> None:
    """Add the frames of `tile`, shape ``(depth, *part)``, to `acc`, shape ``part``, C-contiguous.

    `acc` has the dtype `wide_dtype`, so that integer sums are exact; float64 is accepted for integers, too.
    """
    rows, out = _prepare(tile, acc)
    if out.size != rows.shape[1]:
        raise DataError(f"tile {tile.shape} and accumulator {acc.shape} differ in their signal part")
    if rows.itemsize <= 2 and rows.dtype.kind in "ui":
        scratch = np.empty(min(_BLOCK, out.size), np.uint32 if rows.dtype.kind == "u" else np.int32)
        _sum_frames_narrow(rows, out, scratch)
    else:
        _sum_frames(rows, out)


def sum_sig_reference(tile: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Do what `sum_sig` does, by numpy."""
    out += as_rows(tile).sum(axis=1, dtype=out.dtype)


def sum_sig(tile: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Add the sum of each frame of `tile`, ``(depth, *part)``, to `out`, shape ``(depth,)``, C-contiguous.

    `out` has the dtype `wide_dtype`.
    """
    if out.size != tile.shape[0]:
        raise DataError(f"tile {tile.shape} and output {out.shape} differ in their number of frames")
    rows, acc = _prepare(tile, out)
    if rows.dtype.kind == "f":
        _sum_sig_float(rows, acc, 2 if out.dtype.kind == "c" else 1)
    elif rows.itemsize <= 2:
        _sum_sig_narrow(rows, acc, np.zeros(1, np.uint32 if rows.dtype.kind == "u" else np.int32))
    else:
        _sum_sig(rows, acc)


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


@numba.njit(nogil=True, cache=True)
def _sum_frames_narrow(rows, acc, scratch):  # type: ignore[no-untyped-def]
    """8- and 16-bit integers: eight frames at a time in 32 bits, emptied into `acc` before they overflow."""
    depth, pixels = rows.shape
    block = scratch.size
    for j0 in range(0, pixels, block):
        m = min(block, pixels - j0)
        acc_j = acc[j0 : j0 + m]
        part = scratch[:m]
        for i0 in range(0, depth, _FLUSH):
            stop = min(i0 + _FLUSH, depth)
            part[:] = 0
            i = i0
            while i + 8 <= stop:
                a = contiguous(rows[i])[j0 : j0 + m]
                b = contiguous(rows[i + 1])[j0 : j0 + m]
                c = contiguous(rows[i + 2])[j0 : j0 + m]
                d = contiguous(rows[i + 3])[j0 : j0 + m]
                e = contiguous(rows[i + 4])[j0 : j0 + m]
                f = contiguous(rows[i + 5])[j0 : j0 + m]
                g = contiguous(rows[i + 6])[j0 : j0 + m]
                h = contiguous(rows[i + 7])[j0 : j0 + m]
                for j in range(m):
                    part[j] += (np.int32(a[j]) + np.int32(b[j]) + np.int32(c[j]) + np.int32(d[j])) + (
                        np.int32(e[j]) + np.int32(f[j]) + np.int32(g[j]) + np.int32(h[j])
                    )
                i += 8
            while i < stop:
                a = contiguous(rows[i])[j0 : j0 + m]
                for j in range(m):
                    part[j] += np.int32(a[j])
                i += 1
            for j in range(m):
                acc_j[j] += part[j]


@numba.njit(nogil=True, cache=True)
def _sum_frames(rows, acc):  # type: ignore[no-untyped-def]
    """All other types: four frames at a time, straight into the accumulator."""
    depth, pixels = rows.shape
    wide = acc.dtype.type
    for j0 in range(0, pixels, _BLOCK):
        m = min(_BLOCK, pixels - j0)
        acc_j = acc[j0 : j0 + m]
        i = 0
        while i + 4 <= depth:
            a = contiguous(rows[i])[j0 : j0 + m]
            b = contiguous(rows[i + 1])[j0 : j0 + m]
            c = contiguous(rows[i + 2])[j0 : j0 + m]
            d = contiguous(rows[i + 3])[j0 : j0 + m]
            for j in range(m):
                acc_j[j] += (wide(a[j]) + wide(b[j])) + (wide(c[j]) + wide(d[j]))
            i += 4
        while i < depth:
            a = contiguous(rows[i])[j0 : j0 + m]
            for j in range(m):
                acc_j[j] += wide(a[j])
            i += 1


@numba.njit(nogil=True, cache=True)
def _sum_sig_narrow(rows, out, zero):  # type: ignore[no-untyped-def]
    """8- and 16-bit integers: 32-bit partial sums of at most 32768 pixels."""
    depth, pixels = rows.shape
    narrow = zero.dtype.type
    for i in range(depth):
        row = contiguous(rows[i])
        for j0 in range(0, pixels, _FLUSH):
            part = row[j0 : min(j0 + _FLUSH, pixels)]
            s = narrow(0)
            for j in range(part.size):
                s = narrow(s + narrow(part[j]))
            out[i] += s


@numba.njit(nogil=True, cache=True)
def _sum_sig(rows, out):  # type: ignore[no-untyped-def]
    """32- and 64-bit integers."""
    depth, pixels = rows.shape
    wide = out.dtype.type
    for i in range(depth):
        row = contiguous(rows[i])
        s = wide(0)
        for j in range(pixels):
            s += wide(row[j])
        out[i] += s


# reassociation lets a sum vectorise: eight partial sums are also more accurate than one
@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "nsz"})
def _sum_sig_float(rows, out, step):  # type: ignore[no-untyped-def]
    """Floats, and complex numbers as (re, im) pairs with ``step=2``."""
    depth, pixels = rows.shape
    for i in range(depth):
        row = contiguous(rows[i])
        if step == 1:
            s = 0.0
            for j in range(pixels):
                s += np.float64(row[j])
            out[i] += s
        else:
            re = 0.0
            im = 0.0
            for j in range(pixels // 2):
                re += np.float64(row[2 * j])
                im += np.float64(row[2 * j + 1])
            out[2 * i] += re
            out[2 * i + 1] += im
