"""Sums over blocks of neighbouring pixels."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from framefold.kernels.flat import flat_tile


def bin_frames(tile: npt.NDArray[Any], ny: int, nx: int, out: npt.NDArray[Any]) -> None:
    """Write sums of blocks of `ny` x `nx` pixels of `tile` to `out`.

    Parameters
    ----------
    tile
        ``(depth, rows * ny, columns * nx)``.
    out
        C-contiguous ``(depth, rows, columns)`` in the type to sum in.
    """
    if not out.size:
        return
    flat = flat_tile(tile)
    stride = tile.shape[2] if flat.rows == 1 else flat.row_stride
    block_sums(flat.data, flat.frame_stride, stride, ny, nx, out)


@numba.njit(nogil=True, cache=True)
def block_sums(
    data: Any, frame_stride: int, row_stride: int, ny: int, nx: int, out: Any
) -> None:  # pragma: no cover - compiled
    """Write block sums of the strided frames in `data` to `out`, ``(depth, rows, columns)``."""
    depth, rows, cols = out.shape
    t = out.dtype.type
    for f in range(depth):
        for y in range(rows):
            line = out[f, y]
            line[:] = t(0)
            for j in range(ny):
                p = f * frame_stride + (y * ny + j) * row_stride
                source = data[p : p + cols * nx]
                if nx == 2:  # a constant the compiler can vectorise over
                    for x in range(cols):
                        line[x] += t(source[2 * x]) + t(source[2 * x + 1])
                else:
                    for x in range(cols):
                        s = t(0)
                        for i in range(nx):
                            s += t(source[x * nx + i])
                        line[x] += s


def bin_reference(tile: npt.NDArray[Any], ny: int, nx: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return the block sums of `tile` in `dtype`."""
    d, h, w = tile.shape
    return np.asarray(tile.reshape(d, h // ny, ny, w // nx, nx).sum(axis=(2, 4), dtype=dtype))
