"""The kernel that reads parts of K2 IS frames from packets in files."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from framefold.io.live.kernels_packet import unpack12


@numba.njit(nogil=True, cache=True)
def read_pieces(
    data: Any, index: Any, size: int, rows: int, columns: int, across: int, y0: int, x0: int, width: int,
    at: int, out: Any,
) -> None:  # fmt: skip
    """Decode a part of a sector.

    Parameters
    ----------
    data
        uint8, all packets of the sector.
    index
        Packet of each piece, ``(frames, pieces)``; pieces are counted row by row, from the left.
    size, rows, columns
        Bytes and pixels of a packet; its header has 40 bytes.
    across
        Pieces side by side.
    y0, x0, width
        The part, in pixels of the sector: all rows of `out`.
    at
        Its first column in `out`.
    out
        uint16 ``(frames, height, columns)``, C-contiguous.
    """
    height = out.shape[1]
    row_bytes = columns * 3 // 2
    for f in range(out.shape[0]):
        for py in range(y0 // rows, (y0 + height - 1) // rows + 1):
            top, bottom = max(y0, py * rows), min(y0 + height, (py + 1) * rows)
            for px in range(x0 // columns, (x0 + width - 1) // columns + 1):
                left, right = max(x0, px * columns), min(x0 + width, (px + 1) * columns)
                begin = index[f, py * across + px] * size + 40
                column = at + left - x0
                if right - left == columns == out.shape[2]:
                    # rows follow one another here as there
                    part = out[f].reshape(-1)[(top - y0) * columns : (bottom - y0) * columns]
                    first = begin + (top - py * rows) * row_bytes
                    unpack12(data[first : first + (bottom - top) * row_bytes], part)
                    continue
                for y in range(top, bottom):
                    first = begin + (y - py * rows) * row_bytes
                    if right - left == columns:
                        unpack12(data[first : first + row_bytes], out[f, y - y0, column : column + columns])
                        continue
                    for x in range(left - px * columns, right - px * columns):
                        pair = first + (x // 2) * 3
                        low, high = np.uint16(data[pair]), np.uint16(data[pair + 1])
                        if x % 2:
                            low, high = high >> np.uint16(4), np.uint16(data[pair + 2]) << np.uint16(4)
                        else:
                            high = (high & np.uint16(15)) << np.uint16(8)
                        out[f, y - y0, column + x - (left - px * columns)] = low | high
