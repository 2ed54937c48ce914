"""Tiles in another dtype."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from framefold.kernels.rows import as_rows
from framefold.kernels.unit_stride import contiguous


def convert_reference(tile: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Do what `convert` does, by numpy."""
    np.copyto(out, tile, casting="unsafe")


def convert(tile: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Write `tile`, ``(depth, *part)``, to `out` of the same shape, C-contiguous.

    Integers and floats to float32 and float64 are read four frames at a time: 1.5 to 2 times the speed of
    numpy on parts of frames in a memory map, where each frame is another stream for the prefetcher.
    """
    if tile.dtype.kind not in "uif" or tile.dtype == np.float16 or out.dtype.char not in "fd" or not out.size:
        convert_reference(tile, out)
    else:
        _convert(as_rows(tile), out.reshape(len(out), -1))


@numba.njit(nogil=True, cache=True)
def _convert(rows, out):  # type: ignore[no-untyped-def]
    depth, pixels = rows.shape
    real = out.dtype.type
    i = 0
    while i + 4 <= depth:
        a = contiguous(rows[i])
        b = contiguous(rows[i + 1])
        c = contiguous(rows[i + 2])
        d = contiguous(rows[i + 3])
        o = out[i]
        p = out[i + 1]
        q = out[i + 2]
        r = out[i + 3]
        for j in range(pixels):
            o[j] = real(a[j])
            p[j] = real(b[j])
            q[j] = real(c[j])
            r[j] = real(d[j])
        i += 4
    while i < depth:
        a = contiguous(rows[i])
        o = out[i]
        for j in range(pixels):
            o[j] = real(a[j])
        i += 1
