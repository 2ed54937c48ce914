"""CBOR (RFC 8949) from bytes to plain values: bytes are not copied, tags not interpreted, sizes limited."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from framefold.errors import StreamError

MAX_DEPTH = 16
MAX_ITEMS = 100_000
_HEADS = {24: ">B", 25: ">H", 26: ">I", 27: ">Q"}
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}
_BREAK = object()


@dataclass(frozen=True, slots=True)
class Tagged:
    """A value with a tag whose meaning is left to the reader."""

    tag: int
    value: Any


def parse_cbor(data: memoryview) -> Any:
    """Return the value that `data` encodes.

    Byte strings are memory views of `data`, tags are `Tagged`, text is `str`; keys of maps are text or
    integers. No tag is interpreted (peers compile regular expressions and dates).

    Raises
    ------
    StreamError
        If it is damaged, nested deeper than `MAX_DEPTH`, of more than `MAX_ITEMS` items, or followed by
        something.
    """
    reader = _Reader(data)
    try:
        value = reader.item(0)
    except (struct.error, UnicodeDecodeError) as exc:
        raise StreamError(f"damaged CBOR near byte {reader.at}: {exc}") from exc
    if value is _BREAK:
        raise StreamError("damaged CBOR: it begins with a break")
    if reader.at != len(data):
        raise StreamError(f"{len(data) - reader.at} bytes follow the CBOR message")
    return value


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self.data, self.at, self.items = data, 0, 0

    def item(self, depth: int) -> Any:
        """Return the next value, `_BREAK` for the end of one of unknown length."""
        self.items += 1
        if depth > MAX_DEPTH or self.items > MAX_ITEMS:
            raise StreamError(
                f"CBOR message nested deeper than {MAX_DEPTH} or of more than {MAX_ITEMS} items"
            )
        (first,) = self._unpack(">B")
        major, info = first >> 5, first & 31
        if major == 7:
            return self._simple(info)
        length = self._length(info, major)
        if major == 0:
            return length
        if major == 1:
            return -1 - length
        if major in (2, 3):
            return self._string(major, length, depth)
        if major == 4:
            return self._list(length, depth)
        if major == 5:
            return self._map(length, depth)
        return Tagged(length, self._value(depth + 1))

    def _value(self, depth: int) -> Any:
        value = self.item(depth)
        if value is _BREAK:
            raise StreamError(f"damaged CBOR: a break at byte {self.at} where a value should be")
        return value

    def _unpack(self, layout: str) -> tuple[Any, ...]:
        got = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return got

    def _length(self, info: int, major: int) -> int:
        """Return the argument of a head; -1: unknown length."""
        if info < 24:
            return info
        if info in _HEADS:
            return int(self._unpack(_HEADS[info])[0])
        if info == 31 and major in (2, 3, 4, 5):
            return -1
        raise StreamError(f"damaged CBOR: head {info} at byte {self.at - 1}")

    def _simple(self, info: int) -> Any:
        if info in _FLOATS:
            return self._unpack(_FLOATS[info])[0]
        if info == 31:
            return _BREAK
        if info == 24:
            info = self._unpack(">B")[0]
        return {20: False, 21: True}.get(info)

    def _string(self, major: int, length: int, depth: int) -> Any:
        if length < 0:
            parts = list(self._until_break(depth))
            if not all(isinstance(p, str if major == 3 else memoryview) for p in parts):
                raise StreamError("damaged CBOR: a string of parts of another kind")
            return "".join(parts) if major == 3 else memoryview(b"".join(parts))
        if length > len(self.data) - self.at:
            raise StreamError(
                f"damaged CBOR: a string of {length} bytes at byte {self.at} of {len(self.data)}"
            )
        part = self.data[self.at : self.at + length]
        self.at += length
        return str(part, "utf-8") if major == 3 else part

    def _list(self, length: int, depth: int) -> list[Any]:
        if length < 0:
            return list(self._until_break(depth))
        self._check_count(length)
        return [self._value(depth + 1) for _ in range(length)]

    def _map(self, length: int, depth: int) -> dict[str | int, Any]:
        if length < 0:
            flat = list(self._until_break(depth))
            if len(flat) % 2:
                raise StreamError("damaged CBOR: a map with a key that has no value")
            pairs = list(zip(flat[::2], flat[1::2], strict=True))
        else:
            self._check_count(2 * length)
            pairs = [(self._value(depth + 1), self._value(depth + 1)) for _ in range(length)]
        if not all(isinstance(key, str | int) for key, _ in pairs):
            raise StreamError("CBOR map with keys that are neither text nor integers")
        return dict(pairs)

    def _until_break(self, depth: int) -> Any:
        while (value := self.item(depth + 1)) is not _BREAK:
            yield value

    def _check_count(self, items: int) -> None:
        if items > min(MAX_ITEMS, len(self.data) - self.at):
            raise StreamError(f"damaged CBOR: {items} items stated at byte {self.at} of {len(self.data)}")
