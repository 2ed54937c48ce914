"""Messages of the Karabo bridge, protocol 2.2, from bytes: the arrays of each source of a train."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError
from framefold.io.live.encoded import EncodedArray, checked_dtype, checked_shape

MAX_HEADER = 2**20
MAX_PART = 2**30
MAX_SOURCES = 4096
_MAX_PARTS = 64 * MAX_SOURCES
IDS = ("image.pulseId", "image.cellId", "data.memoryCell")


@dataclass(frozen=True, slots=True)
class TrainData:
    """What one source sent of a train: its arrays by key."""

    source: str
    train: int
    arrays: dict[str, EncodedArray]


def parse_train(parts: list[memoryview]) -> list[TrainData]:
    """Return what the sources of a message sent. Properties that are no arrays are not looked at.

    Raises
    ------
    StreamError
        If it is damaged, of protocol 1.0 (which can carry code), or above the limits.
    """
    if len(parts) == 1:
        raise StreamError(
            "a message of one part: this server speaks protocol 1.0, whose arrays (msgpack-numpy) can carry "
            "code, so it is refused. Start the server with protocol 2.2"
        )
    if len(parts) % 2 or len(parts) > _MAX_PARTS:
        raise StreamError(f"a message of {len(parts)} parts: pairs of header and data belong to it")
    found: dict[str, TrainData] = {}
    for head, data in zip(parts[::2], parts[1::2], strict=True):
        header = _header(head)
        source, content = header.get("source"), header.get("content")
        if not isinstance(source, str):
            raise StreamError("a header without the name of a source")
        if content == "msgpack":
            if len(found) >= MAX_SOURCES:
                raise StreamError(f"more than {MAX_SOURCES} sources in a message")
            found[source] = TrainData(source, _train(header, source), {})
        elif content in ("array", "ImageData"):
            if source not in found:
                raise StreamError(f"an array of {source[:80]!r} before the header of this source")
            dtype = checked_dtype(header.get("dtype"))
            shape = checked_shape(header.get("shape"), dtype)
            found[source].arrays[str(header.get("path"))] = EncodedArray(shape, dtype, "", data)
        else:
            raise StreamError(f"content {str(content)[:40]!r}: msgpack, array and ImageData are known")
    return list(found.values())


def choose_sources(data: Sequence[TrainData], patterns: Sequence[str], key: str) -> list[str]:
    """Return the sources with `key` that fit one of the patterns (``*DET/*CH0*``), in order of numbers."""
    names = [
        d.source
        for d in data
        if key in d.arrays and (not patterns or any(fnmatch.fnmatchcase(d.source, p) for p in patterns))
    ]
    return sorted(names, key=lambda name: [int(t) if t.isdecimal() else t for t in re.split(r"(\d+)", name)])


def pulse_ids(data: TrainData, n: int) -> npt.NDArray[np.int64] | None:
    """Return the ids of the `n` pulses or memory cells, None if the source sends none that differ."""
    for key in IDS:
        array = data.arrays.get(key)
        if array is not None and array.dtype.kind in "ui" and int(np.prod(array.shape)) == n:
            ids = array.decode().reshape(n).astype(np.int64)
            if len(np.unique(ids)) == n:
                return ids
    return None


def _header(part: memoryview) -> dict[Any, Any]:
    import msgpack  # noqa: PLC0415  # optional

    if len(part) > MAX_HEADER:
        raise StreamError(f"a header of {len(part)} bytes, at most {MAX_HEADER} are allowed")
    try:
        value = msgpack.unpackb(part, raw=False)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as exc:
        raise StreamError(f"a header that is no msgpack: {str(exc)[:80]}") from exc
    if not isinstance(value, dict):
        raise StreamError("a header that is no map")
    return value


def _train(header: dict[Any, Any], source: str) -> int:
    metadata = header.get("metadata")
    value = metadata.get("timestamp.tid") if isinstance(metadata, dict) else None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise StreamError(f"source {source[:80]!r} states the train id {str(value)[:40]}, no natural number")
    return value
