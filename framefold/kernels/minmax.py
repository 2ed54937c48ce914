"""Extreme values of frames, per pixel and per frame; a NaN wins over every number, as in numpy."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.kernels.formula import flat_frames, or_formula
from framefold.kernels.rows import as_rows
from framefold.kernels.unit_stride import contiguous

_BLOCK = 8192
# one frame is compared in lanes of this many bytes: a running extreme with NaN rules does not vectorise
# otherwise; one vector (64) waits for itself with 1-byte pixels: 7 GB/s instead of 22
_LANE_BYTES = 256


def lowest(dtype: npt.DTypeLike) -> Any:
    """Return the smallest value of `dtype`: where a maximum starts."""
    return _limit(dtype, -1)


def highest(dtype: npt.DTypeLike) -> Any:
    """Return the largest value of `dtype`: where a minimum starts."""
    return _limit(dtype, 1)


def _limit(dtype: npt.DTypeLike, sign: int) -> Any:
    dt = np.dtype(dtype)
    if dt.kind in "ui":
        info = np.iinfo(dt)
        return dt.type(info.max if sign > 0 else info.min)
    if dt.kind == "f":
        return np.asarray(sign * np.inf, dt)[()]
    if dt.kind == "b":
        return np.bool_(sign > 0)
    raise DataError(f"{dt} has no order: maximum and minimum need bool, integer or float data")


def max_frames_reference(tile: npt.NDArray[Any], acc: npt.NDArray[Any]) -> None:
    """Do what `max_frames` does, by numpy."""
    if tile.size:
        np.maximum(acc, tile.max(axis=0), out=acc)


def min_frames_reference(tile: npt.NDArray[Any], acc: npt.NDArray[Any]) -> None:
    """Do what `min_frames` does, by numpy."""
    if tile.size:
        np.minimum(acc, tile.min(axis=0), out=acc)


@or_formula(max_frames_reference)
def max_frames(tile: npt.NDArray[Any], acc: npt.NDArray[Any]) -> None:
    """Raise `acc`, shape ``part``, to the largest value per pixel of `tile`, shape ``(depth, *part)``.

    `acc` is C-contiguous, has the dtype of the tile and starts at `lowest`.
    """
    rows, out = _prepare(tile, acc, tile.shape[1:])
    if rows.dtype == np.float16:  # numba knows no half floats
        np.maximum(out, rows.max(axis=0, initial=lowest(rows.dtype)), out=out)
        return
    _extreme_frames(rows, out, True)


@or_formula(min_frames_reference)
def min_frames(tile: npt.NDArray[Any], acc: npt.NDArray[Any]) -> None:
    """Lower `acc`, shape ``part``, to the smallest value per pixel of `tile`; see `max_frames`."""
    rows, out = _prepare(tile, acc, tile.shape[1:])
    if rows.dtype == np.float16:  # numba knows no half floats
        np.minimum(out, rows.min(axis=0, initial=highest(rows.dtype)), out=out)
        return
    _extreme_frames(rows, out, False)


def max_sig_reference(tile: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Do what `max_sig` does, by numpy."""
    if tile.size:
        np.maximum(out, flat_frames(tile).max(axis=1), out=out)


def min_sig_reference(tile: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Do what `min_sig` does, by numpy."""
    if tile.size:
        np.minimum(out, flat_frames(tile).min(axis=1), out=out)


@or_formula(max_sig_reference)
def max_sig(tile: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Raise `out`, shape ``(depth,)``, to the largest value of each frame of `tile`.

    `out` has the dtype of the tile and starts at `lowest`.
    """
    rows, acc = _prepare(tile, out, tile.shape[:1])
    if rows.dtype == np.float16:
        np.maximum(acc, rows.max(axis=1, initial=lowest(rows.dtype)), out=acc)
        return
    _extreme_sig(rows, acc, np.full(_LANE_BYTES // rows.itemsize, lowest(rows.dtype), rows.dtype), True)


@or_formula(min_sig_reference)
def min_sig(tile: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Lower `out`, shape ``(depth,)``, to the smallest value of each frame of `tile`; see `max_sig`."""
    rows, acc = _prepare(tile, out, tile.shape[:1])
    if rows.dtype == np.float16:
        np.minimum(acc, rows.min(axis=1, initial=highest(rows.dtype)), out=acc)
        return
    _extreme_sig(rows, acc, np.full(_LANE_BYTES // rows.itemsize, highest(rows.dtype), rows.dtype), False)


def _prepare(
    tile: npt.NDArray[Any], acc: npt.NDArray[Any], shape: tuple[int, ...]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    lowest(tile.dtype)  # refuses what has no order
    if acc.dtype != tile.dtype or acc.shape != shape or not acc.flags.c_contiguous:
        raise DataError(
            f"extremes of a tile of {tile.dtype} {tile.shape} need a C-contiguous array of {tile.dtype} "
            f"{shape}, not {acc.dtype} {acc.shape}"
        )
    rows = as_rows(tile)
    out = acc.reshape(-1)
    if rows.dtype.kind == "b":
        return rows.view(np.uint8), out.view(np.uint8)
    return rows, out


@numba.njit(nogil=True, cache=True, inline="always")
def _wins(value, best, upwards):  # type: ignore[no-untyped-def]
    """Tell whether `value` replaces `best`. A NaN does, and stays: nothing compares true with it."""
    return (value > best if upwards else value < best) | (value != value)


@numba.njit(nogil=True, cache=True)
def _extreme_frames(rows, acc, upwards):  # type: ignore[no-untyped-def]
    depth, pixels = rows.shape
    for j0 in range(0, pixels, _BLOCK):
        m = min(_BLOCK, pixels - j0)
        acc_j = acc[j0 : j0 + m]
        i = 0
        while i + 4 <= depth:
            a = contiguous(rows[i])[j0 : j0 + m]
            b = contiguous(rows[i + 1])[j0 : j0 + m]
            c = contiguous(rows[i + 2])[j0 : j0 + m]
            d = contiguous(rows[i + 3])[j0 : j0 + m]
            if upwards:
                for j in range(m):
                    best = acc_j[j]
                    best = a[j] if (a[j] > best) | (a[j] != a[j]) else best
                    best = b[j] if (b[j] > best) | (b[j] != b[j]) else best
                    best = c[j] if (c[j] > best) | (c[j] != c[j]) else best
                    best = d[j] if (d[j] > best) | (d[j] != d[j]) else best
                    acc_j[j] = best
            else:
                for j in range(m):
                    best = acc_j[j]
                    best = a[j] if (a[j] < best) | (a[j] != a[j]) else best
                    best = b[j] if (b[j] < best) | (b[j] != b[j]) else best
                    best = c[j] if (c[j] < best) | (c[j] != c[j]) else best
                    best = d[j] if (d[j] < best) | (d[j] != d[j]) else best
                    acc_j[j] = best
            i += 4
        while i < depth:
            a = contiguous(rows[i])[j0 : j0 + m]
            if upwards:
                for j in range(m):
                    best = acc_j[j]
                    acc_j[j] = a[j] if (a[j] > best) | (a[j] != a[j]) else best
            else:
                for j in range(m):
                    best = acc_j[j]
                    acc_j[j] = a[j] if (a[j] < best) | (a[j] != a[j]) else best
            i += 1


@numba.njit(nogil=True, cache=True)
def _extreme_sig(rows, out, lanes, upwards):  # type: ignore[no-untyped-def]
    depth, pixels = rows.shape
    start = lanes[0]
    n = lanes.size
    whole = pixels - pixels % n
    for i in range(depth):
        row = contiguous(rows[i])
        best = out[i]
        if whole:
            lanes[:] = start
            for j0 in range(0, whole, n):
                part = row[j0 : j0 + n]
                if upwards:
                    for k in range(n):
                        old = lanes[k]
                        lanes[k] = part[k] if (part[k] > old) | (part[k] != part[k]) else old
                else:
                    for k in range(n):
                        old = lanes[k]
                        lanes[k] = part[k] if (part[k] < old) | (part[k] != part[k]) else old
            for k in range(n):
                if _wins(lanes[k], best, upwards):
                    best = lanes[k]
        for j in range(whole, pixels):
            if _wins(row[j], best, upwards):
                best = row[j]
        out[i] = best
