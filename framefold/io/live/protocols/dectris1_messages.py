"""Messages of the DECTRIS stream V1 (JSON and blobs in parts), from bytes: header, frame, end."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError
from framefold.io.live.encoded import EncodedArray, checked_dtype, checked_shape
from framefold.io.live.protocols.series import SeriesEnd, SeriesImage, SeriesMessage, SeriesStart

MAX_PART = 256 * 2**20
MAX_JSON = 2**20
MAX_CONFIG = 16 * 2**20
CHANNEL = "image"
_ENCODING = re.compile(r"(?:(bs(?:8|16|32|64)-)?(lz4))?([<>])")
_PIXELS = frozenset(("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32"))


class Dectris1Parser:
    """Messages one after the other: some servers send header and configuration as two messages."""

    def __init__(self) -> None:
        self._header: memoryview | None = None

    def parse(self, parts: list[memoryview]) -> tuple[SeriesMessage, ...]:
        """Return what a message says; nothing for a header whose configuration is still to come.

        Raises
        ------
        StreamError
            If it is damaged, or no message of the DECTRIS stream V1.
        """
        header, self._header = self._header, None
        head = parse_json(parts[0], MAX_CONFIG if header is not None else MAX_JSON)
        if header is not None:
            if "htype" not in head:
                return (parse_parts([header, *parts]),)
            return (parse_parts([header]), *self.parse(parts))
        if head.get("htype") == "dheader-1.0" and len(parts) == 1 and head.get("header_detail") != "none":
            self._header = parts[0]
            return ()
        return (parse_parts(parts),)


def parse_parts(parts: list[memoryview]) -> SeriesMessage:
    """Return what a message says. The image is not decoded.

    Raises
    ------
    StreamError
        If it is damaged, or no message of the DECTRIS stream V1.
    """
    head = parse_json(parts[0], MAX_JSON)
    kind = head.get("htype")
    if kind == "dheader-1.0":
        return _header(head, parts)
    if kind == "dimage-1.0":
        return _image(head, parts)
    if kind == "dseries_end-1.0":
        return SeriesEnd(_natural(head, "series"))
    raise StreamError(
        f"a message of type {str(kind)[:40]!r}; dheader-1.0, dimage-1.0 and dseries_end-1.0 are known"
    )


def parse_json(data: memoryview, most: int) -> dict[str, Any]:
    """Return the JSON object that `data` holds.

    Raises
    ------
    StreamError
        If it is none, or longer than `most` bytes.
    """
    if len(data) > most:
        raise StreamError(f"JSON of {len(data)} bytes, at most {most} are allowed")
    try:
        value = json.loads(bytes(data))
    except (ValueError, RecursionError) as exc:  # deep nesting exhausts the stack of the parser
        raise StreamError(f"a message that is no JSON: {str(exc)[:80]}") from exc
    if not isinstance(value, dict):
        raise StreamError("a message whose JSON is no object")
    return value


def pixel_mask(start: SeriesStart) -> npt.NDArray[np.bool_] | None:
    """Return where the detector calls pixels bad, None if the header brought no mask.

    Raises
    ------
    StreamError
        If the mask is damaged.
    """
    mask = start.fields.get("pixel_mask")
    return None if mask is None else mask.decode() != 0


def _header(head: dict[str, Any], parts: list[memoryview]) -> SeriesStart:
    fields: dict[str, Any] = {"header_detail": head.get("header_detail")}
    if len(parts) > 1:
        fields |= parse_json(parts[1], MAX_CONFIG)
    fields.pop("pixel_mask", None)  # of the configuration: whether it is applied
    for at in range(2, len(parts) - 1, 2):
        if len(parts[at]) <= MAX_JSON and b"dpixelmask-1.0" in bytes(parts[at]):
            about = parse_json(parts[at], MAX_JSON)
            dtype = checked_dtype(about.get("type"), _PIXELS)
            fields["pixel_mask"] = EncodedArray(_shape(about, dtype), dtype, "", parts[at + 1])
    count = 1
    for name in ("nimages", "ntrigger"):
        n = fields.get(name, 1)
        count *= n if isinstance(n, int) and 0 < n < 2**53 else 0
    known = "nimages" in fields and 0 < count < 2**53
    return SeriesStart(_natural(head, "series"), count if known else None, None, None, (CHANNEL,), fields)


def _image(head: dict[str, Any], parts: list[memoryview]) -> SeriesImage:
    if len(parts) < 3:
        raise StreamError(f"an image message of {len(parts)} parts, four belong to it")
    about = parse_json(parts[1], MAX_JSON)
    match = _ENCODING.fullmatch(str(about.get("encoding")))
    if about.get("htype") not in ("dimage_d-1.0", "dimage_d-1.1") or match is None:
        raise StreamError(
            f"image of type {str(about.get('htype'))[:20]!r}, encoding {str(about.get('encoding'))[:20]!r}: "
            "dimage_d-1.0 in bs16-lz4<, lz4< or < is known"
        )
    dtype = checked_dtype(about.get("type"), _PIXELS).newbyteorder(">" if match[3] == ">" else "<")
    bits = match[1]
    if bits and int(bits[2:-1]) != 8 * dtype.itemsize:
        raise StreamError(f"image of {dtype} in the encoding {about['encoding']}: element sizes differ")
    codec = "bslz4" if bits else ("lz4-block" if match[2] else "")
    array = EncodedArray(_shape(about, dtype), dtype, codec, parts[2])
    if len(parts[2]) > 2 * array.nbytes + 65536:
        raise StreamError(f"{len(parts[2])} bytes for an image of {array.nbytes}")
    return SeriesImage(_natural(head, "series"), _natural(head, "frame"), {CHANNEL: array})


def _shape(about: dict[str, Any], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """Return rows first: the stream states x first."""
    return checked_shape(about.get("shape"), dtype)[::-1]


def _natural(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise StreamError(
            f"{name} of a {fields.get('htype')} message is {str(value)[:40]}, no natural number"
        )
    return value
