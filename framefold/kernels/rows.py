"""Tiles as rows of pixels: the one array layout that all kernels loop over."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt


def as_rows(tile: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return `tile`, shape ``(depth, *part)``, as a read-only array ``(depth, pixels)``.

    The rows themselves are contiguous, but their distance may be larger than their length: a part of a
    memory-mapped frame is not copied. Only a tile whose pixels are not contiguous within a frame (a column
    part, a transposed view) is.

    Read-only always, so that writable and read-only tiles share one compiled kernel.
    """
    depth = tile.shape[0]
    if tile.flags.c_contiguous and depth:
        rows = tile.reshape(depth, tile.size // depth)
        if rows is tile:
            rows = tile.view()
        rows.flags.writeable = False
        return rows
    pixels = 1
    item = tile.itemsize
    for extent, stride in zip(tile.shape[:0:-1], tile.strides[:0:-1], strict=True):
        if extent != 1 and stride != pixels * item:
            tile = np.ascontiguousarray(tile)
            pixels = math.prod(tile.shape[1:])
            break
        pixels *= extent
    rows = tile.reshape(depth, pixels)
    if rows is tile:
        rows = tile.view()
    rows.flags.writeable = False
    return rows


def as_real(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return complex `rows` as real ones with (re, im) pairs side by side, without a copy."""
    out = rows.view(np.float32 if rows.dtype == np.complex64 else np.float64)
    out.flags.writeable = False
    return out
