"""Compresses images for emulators, as detectors do."""

from __future__ import annotations

import struct
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError

Compression = Literal["none", "lz4", "bslz4"]
_BLOCK = 8192


def compress(array: npt.NDArray[Any], compression: Compression) -> bytes:
    """Return the bytes of `array`, compressed behind a header of its size and that of its blocks.

    Raises
    ------
    StreamError
        If the library is not installed.
    """
    if compression == "none":
        return array.tobytes()
    body = bitshuffled(array) if compression == "bslz4" else _one_block(array.tobytes())
    return struct.pack(">QI", array.nbytes, _BLOCK if compression == "bslz4" else array.nbytes) + body


def bitshuffled(array: npt.NDArray[Any]) -> bytes:
    """Return blocks of bitshuffled elements in LZ4, without a header."""
    try:
        import bitshuffle  # noqa: PLC0415  # optional
    except ImportError as exc:
        raise StreamError("sending bslz4 data needs the package bitshuffle: pip install bitshuffle") from exc
    return bytes(bitshuffle.compress_lz4(np.ascontiguousarray(array).ravel(), _BLOCK // array.itemsize))


def lz4_block(raw: bytes) -> bytes:
    """Return `raw` as one LZ4 block, without a header."""
    try:
        import lz4.block  # type: ignore[import-untyped]  # noqa: PLC0415  # optional
    except ImportError as exc:
        raise StreamError("sending lz4 data needs the package lz4: pip install lz4") from exc
    return bytes(lz4.block.compress(raw, store_size=False))


def _one_block(raw: bytes) -> bytes:
    body = lz4_block(raw)
    body = raw if len(body) >= len(raw) else body  # a block that does not shrink is stored as it is
    return struct.pack(">I", len(body)) + body
