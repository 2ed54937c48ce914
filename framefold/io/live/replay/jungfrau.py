"""Encodes frames as Jungfrau modules and Eiger half modules send them; written apart from the receiver."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.live.replay.wire import Stamp, Wire

_HEADER = np.dtype(
    [
        ("frame", "<u8"), ("exposure", "<u4"), ("packet", "<u4"), ("detector_specific_1", "<u8"),
        ("timestamp", "<u8"), ("module", "<u2"), ("row", "<u2"), ("column", "<u2"), ("spec2", "<u2"),
        ("spec3", "<u4"), ("spec4", "<u2"), ("type", "u1"), ("version", "u1"),
    ]
)  # fmt: skip
MAX_VALUE = 65535


def _wire(parts: list[npt.NDArray[Any]], rows: int, kind: int, url: str) -> Wire:
    """Return the datagrams of ports, each with its part ``(n, height, width)`` as it is sent."""
    n, height, width = parts[0].shape
    packets = height // rows
    headers = np.zeros((packets, len(parts)), _HEADER)
    headers["packet"] = np.arange(packets)[:, None]
    headers["module"] = np.arange(len(parts))
    headers["type"], headers["version"] = kind, 2
    payloads = np.empty((n, packets, len(parts), rows * width), "<u2")
    for i, part in enumerate(parts):
        payloads[:, :, i] = part.reshape(n, packets, rows * width)
    flat = headers.view(np.uint8).reshape(-1, _HEADER.itemsize)
    return Wire(
        np.broadcast_to(flat, (n, *flat.shape)),
        payloads.view(np.uint8).reshape(n, packets * len(parts), -1),
        np.tile(np.arange(len(parts)), packets),
        np.repeat(np.arange(packets), len(parts)),
        Stamp(0, 8, False),
        None,
        (46, 2),
        url,
    )


def encode_jungfrau(
    frames: npt.NDArray[Any], *, modules: tuple[int, ...] = (1, 1), interfaces: int = 1, rows: int = 4
) -> Wire:
    """Return the datagrams of `frames` ``(n, height, width)``.

    Parameters
    ----------
    frames
        Values 0 to 65535.
    modules
        Rows and columns of modules that the frame is divided into.
    interfaces
        Network interfaces of a module.
    rows
        In a packet.

    Raises
    ------
    DataError
        If the frames cannot be divided so.
    """
    _, height, width = frames.shape
    down, across = modules
    h, w = height // down, width // across
    if height % down or width % across or h % (interfaces * rows):
        raise DataError(
            f"frames of {height}x{width} are not {down}x{across} modules in packets of {rows} rows"
        )
    half = h // interfaces
    parts = [
        frames[:, my * h + k * half : my * h + (k + 1) * half, mx * w : (mx + 1) * w]
        for my in range(down) for mx in range(across) for k in range(interfaces)
    ]  # fmt: skip
    url = f"jungfrau://127.0.0.1:0?modules={down}x{across}&interfaces={interfaces}&width={w}&height={h}&rows={rows}"
    return _wire(parts, rows, 3, url)


def encode_eiger(
    frames: npt.NDArray[Any], *, modules: tuple[int, ...] = (1, 1), packet_bytes: int = 4096
) -> Wire:
    """Return the datagrams of `frames` ``(n, height, width)`` of Eiger modules, each of two half modules.

    Parameters
    ----------
    frames
        Values 0 to 65535.
    modules
        Rows and columns of modules.
    packet_bytes
        Bytes of pixels in a packet.

    Raises
    ------
    DataError
        If the frames cannot be divided so.
    """
    _, height, width = frames.shape
    down, across = modules
    h, w = height // (2 * down), width // (2 * across)
    rows = packet_bytes // (2 * w) if w else 0
    if height % (2 * down) or width % (2 * across) or not rows or packet_bytes != rows * 2 * w or h % rows:
        raise DataError(
            f"frames of {height}x{width} are not {down}x{across} modules in packets of {packet_bytes} bytes"
        )
    parts = []
    for my in range(down):
        for mx in range(across):
            for lower in range(2):
                for right in range(2):
                    y, x = (2 * my + lower) * h, (2 * mx + right) * w
                    part = frames[:, y : y + h, x : x + w]
                    parts.append(part[:, ::-1] if lower else part)
    size = f"width={2 * w}&height={h}&packet_bytes={packet_bytes}"
    url = f"eiger-udp://127.0.0.1:0?modules={down}x{across}&{size}"
    return _wire(parts, rows, 1, url)
