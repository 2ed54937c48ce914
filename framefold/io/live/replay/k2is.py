"""Encodes frames as a K2 IS sends them; written from the table of the packets, apart from the receiver."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.live.replay.wire import Stamp, Wire

# sync, 4 spare, version, flags, 6 spare, block count, width, height, frame, x0, y0, x1, y1, block size
_HEADER = struct.Struct(">I4xBB6xIHHIHHHHI")
MAX_VALUE = 4095


def encode(
    frames: npt.NDArray[Any], *, sectors: int = 8, piece: tuple[int, ...] = (930, 16), mode: str = "scan"
) -> Wire:
    """Return the datagrams of `frames`.

    Parameters
    ----------
    frames
        ``(n, height, width)``, values 0 to 4095.
    sectors
        Columns of the frame are divided among so many.
    piece
        Rows and columns of a packet.
    mode
        For the URL: ``"scan"``, where the flag comes one frame late, or ``"series"``.

    Raises
    ------
    DataError
        If the frames cannot be divided so.
    """
    n, height, full = frames.shape
    if full % sectors or height % piece[0] or (full // sectors) % piece[1]:
        raise DataError(
            f"frames of {height}x{full} do not divide into {sectors} sectors with packets of "
            f"{piece[0]}x{piece[1]} pixels"
        )
    width = full // sectors
    rows, columns = piece
    nx = width // columns
    size = _HEADER.size + rows * columns * 3 // 2
    places = [
        (s, y, x) for y in range(0, height, rows) for x in range(width - columns, -1, -columns)
        for s in range(sectors)
    ]  # fmt: skip
    one = b"".join(
        _HEADER.pack(0xFFFF0055, 1, 0, i, width, height, 0, x, y, x + columns - 1, y + rows - 1, size)
        for i, (_, y, x) in enumerate(places)
    )
    headers = np.frombuffer(one, np.uint8).reshape(len(places), _HEADER.size)
    payloads = np.empty((n, len(places), size - _HEADER.size), np.uint8)
    for i, (s, y, x) in enumerate(places):
        part = frames[:, y : y + rows, s * width + x : s * width + x + columns]
        payloads[:, i] = pack12(part.reshape(n, -1))
    return Wire(
        np.broadcast_to(headers, (n, *headers.shape)),
        payloads,
        np.array([s for s, _, _ in places], np.int64),
        np.array([y // rows * nx + nx - 1 - x // columns for _, y, x in places]),
        Stamp(24, 4, True),
        (9, 1),
        (0, 4),
        f"k2is://127.0.0.1:0?sectors={sectors}&width={width}&height={height}&piece={rows}x{columns}"
        f"&mode={mode}",
    )


def pack12(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return pairs of 12-bit values as three bytes, the low bits first; the last axis is packed."""
    pairs = np.ascontiguousarray(values, np.uint32).reshape(*values.shape[:-1], -1, 2)
    words = (pairs[..., 0] | pairs[..., 1] << 12).astype("<u4")
    return words.view(np.uint8).reshape(*words.shape, 4)[..., :3].reshape(*values.shape[:-1], -1)
