"""A tile as one contiguous run of memory with a frame stride and a row stride, without a copy.

Numba only vectorises arrays whose last axis is known to be contiguous. Tiles are often views (a row range
of a memory map, a cropped frame), so kernels take the memory between the first and the last element as a 1-D
array and walk it with strides counted in elements.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_WIDEN: dict[np.dtype[Any], np.dtype[Any]] = {
    np.dtype(np.float16): np.dtype(np.float32),
    np.dtype(np.longdouble): np.dtype(np.float64),
}


class FlatTile(NamedTuple):
    """``tile[f, r, c] == data[f * frame_stride + r * row_stride + c]`` ."""

    data: npt.NDArray[Any]
    depth: int
    rows: int
    cols: int
    frame_stride: int
    row_stride: int


def flat_tile(tile: npt.NDArray[Any]) -> FlatTile:
    """Return the memory of `tile`, shape ``(depth, *sig part)``, read-only.

    Leading signal axes are joined to `rows`; signal parts that are contiguous become one row. bool is seen as
    uint8. Copied are only tiles with other strides, byte orders or floats that numba lacks.
    """
    dtype = tile.dtype
    if dtype.kind == "b":
        tile = tile.view(np.uint8)
    elif dtype in _WIDEN:
        tile = tile.astype(_WIDEN[dtype])
    elif not dtype.isnative:
        tile = tile.astype(dtype.newbyteorder("="))
    depth, part = tile.shape[0], tile.shape[1:]
    size = math.prod(part)
    if not tile.flags.c_contiguous and tile.size:
        strided = _strided(tile)
        if strided is not None:
            return strided
        tile = np.ascontiguousarray(tile)
    flat = tile.reshape(-1)
    # one array type, hence one compiled signature, for writable and read-only tiles
    flat.flags.writeable = False
    return FlatTile(flat, depth, 1, size, size, size)


def _strided(tile: npt.NDArray[Any]) -> FlatTile | None:
    """Return the flat form of a view with contiguous rows, or None if its strides do not allow it."""
    item = tile.itemsize
    part, steps = tile.shape[1:], tile.strides[1:]
    if not part or steps[-1] != item or any(s % item for s in tile.strides) or tile.strides[0] < 0:
        return None
    rows, row_bytes = 1, part[-1] * item
    if len(part) > 1:
        row_bytes = steps[-2]
        rows = part[-2]
        for extent, step in zip(part[-3::-1], steps[-3::-1], strict=True):
            if step != rows * row_bytes:
                return None
            rows *= extent
        if row_bytes < part[-1] * item:
            return None
    cols = part[-1]
    if row_bytes == cols * item:
        rows, cols, row_bytes = 1, rows * cols, rows * row_bytes
    depth = tile.shape[0]
    extent = ((depth - 1) * tile.strides[0] + (rows - 1) * row_bytes) // item + cols
    flat = np.lib.stride_tricks.as_strided(tile, (extent,), (item,), writeable=False)
    return FlatTile(flat, depth, rows, cols, tile.strides[0] // item, row_bytes // item)
