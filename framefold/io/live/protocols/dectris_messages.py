"""Messages of the DECTRIS stream V2 (CBOR), from bytes: start, image, end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError
from framefold.io.live.cbor import Tagged, parse_cbor
from framefold.io.live.encoded import EncodedArray, checked_dtype, checked_shape
from framefold.io.live.protocols.series import SeriesEnd, SeriesImage, SeriesMessage, SeriesStart

MAX_START = 256 * 2**20
_MULTIDIM, _COMPRESSED, _SELF_DESCRIBED = 40, 56500, 55799
# RFC 8746: 0b010_f_s_e_ll
_TYPED = {
    64: "u1", 65: ">u2", 66: ">u4", 67: ">u8", 68: "u1", 69: "<u2", 70: "<u4", 71: "<u8",
    72: "i1", 73: ">i2", 74: ">i4", 75: ">i8", 77: "<i2", 78: "<i4", 79: "<i8",
    80: ">f2", 81: ">f4", 82: ">f8", 84: "<f2", 85: "<f4", 86: "<f8",
}  # fmt: skip


def parse_message(data: memoryview) -> SeriesMessage:
    """Return what a message says. Arrays are not decoded.

    Raises
    ------
    StreamError
        If it is damaged, or no message of the DECTRIS stream V2.
    """
    if len(data) > MAX_START:
        raise StreamError(f"a message of {len(data)} bytes, at most {MAX_START} are allowed")
    fields = parse_cbor(data)
    while isinstance(fields, Tagged) and fields.tag == _SELF_DESCRIBED:
        fields = fields.value
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        raise StreamError("a message of the DECTRIS stream V2 is a map with a type; this is none")
    kind = fields["type"]
    if kind == "start":
        return _start(fields)
    if kind == "image":
        data_of = fields.get("data")
        if not isinstance(data_of, dict) or not data_of:
            raise StreamError("an image message without data")
        arrays = {str(name): _array(value, str(name)) for name, value in data_of.items()}
        return SeriesImage(_natural(fields, "series_id"), _natural(fields, "image_id"), arrays)
    if kind == "end":
        return SeriesEnd(_natural(fields, "series_id"))
    raise StreamError(f"message of type {kind[:40]!r}: start, image and end are known")


def pixel_mask(start: SeriesStart, channel: str) -> npt.NDArray[np.bool_] | None:
    """Return where the detector calls pixels bad (a nonzero mask), None if it sent no mask.

    Raises
    ------
    StreamError
        If the mask is damaged.
    """
    masks = start.fields.get("pixel_mask")
    value = masks.get(channel) if isinstance(masks, dict) else None
    if not isinstance(value, Tagged):  # switched off, or left out by a simulator
        return None
    return _array(value, f"pixel_mask of {channel}").decode() != 0


def plain_fields(start: SeriesStart) -> dict[str, Any]:
    """Return the fields that are text, numbers, or lists and maps of them: no arrays, no bytes."""
    return {str(k): v for k, v in ((k, _plain(v)) for k, v in start.fields.items()) if v is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Tagged):
        return _plain(value.value) if isinstance(value.value, str | int | float) else None
    if isinstance(value, dict):
        inner = {str(k): v for k, v in ((k, _plain(v)) for k, v in value.items()) if v is not None}
        return inner or None
    if isinstance(value, list):
        return [_plain(v) for v in value] if len(value) <= 64 else None
    return value if isinstance(value, str | int | float) else None


def _start(fields: dict[Any, Any]) -> SeriesStart:
    dtype = fields.get("image_dtype")
    checked = None if dtype is None else checked_dtype(dtype)
    sizes = [fields.get("image_size_y"), fields.get("image_size_x")]
    shape = checked_shape(sizes, checked or np.dtype("u1"))
    channels = fields.get("channels") or []
    if not isinstance(channels, list) or not all(isinstance(c, str) for c in channels) or len(channels) > 64:
        raise StreamError("channels of the series are no short list of names")
    count = fields.get("number_of_images")
    known = isinstance(count, int) and not isinstance(count, bool) and 0 < count < 2**53
    return SeriesStart(
        _natural(fields, "series_id"),
        count if known else None,
        (shape[0], shape[1]),
        checked,
        tuple(channels),
        fields,
    )


def _array(value: Any, what: str) -> EncodedArray:
    if not isinstance(value, Tagged) or value.tag != _MULTIDIM or not _is_pair(value.value):
        raise StreamError(f"{what} is no array (CBOR tag {_MULTIDIM})")
    sizes, typed = value.value
    if not isinstance(typed, Tagged) or typed.tag not in _TYPED:
        raise StreamError(f"{what} is no array of numbers (CBOR tags 64 to 86)")
    dtype = np.dtype(_TYPED[typed.tag])
    shape = checked_shape(sizes, dtype)
    data, codec = typed.value, ""
    if isinstance(data, Tagged) and data.tag == _COMPRESSED:
        codec, data = _compressed(data.value, dtype, what)
    if not isinstance(data, memoryview):
        raise StreamError(f"{what} has no bytes")
    array = EncodedArray(shape, dtype, codec, data)
    if len(data) > 2 * array.nbytes + 65536:
        raise StreamError(f"{what}: {len(data)} bytes for an array of {array.nbytes}")
    return array


def _compressed(value: Any, dtype: np.dtype[Any], what: str) -> tuple[str, Any]:
    if not isinstance(value, list) or len(value) != 3:
        raise StreamError(f"{what}: compressed data is no list of algorithm, element size and bytes")
    codec, itemsize, data = value
    if codec not in ("bslz4", "lz4"):
        raise StreamError(f"{what}: compression {str(codec)[:20]!r} is not one of bslz4, lz4")
    if itemsize != dtype.itemsize:
        raise StreamError(f"{what}: compressed as elements of {itemsize} bytes, they have {dtype.itemsize}")
    return codec, data


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def _natural(fields: Mapping[Any, Any], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise StreamError(f"{name} of a {fields['type']} message is {str(value)[:40]}, no natural number")
    return value
