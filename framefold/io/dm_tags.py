"""Parses the tag tree of Gatan DigitalMicrograph files (DM3, DM4); large arrays are left in the file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from framefold.errors import DataError

MAX_DEPTH, MAX_TAGS, MAX_INLINE = 64, 1_000_000, 4096
_SIMPLE = {2: "h", 3: "i", 4: "H", 5: "I", 6: "f", 7: "d", 8: "?", 9: "b", 10: "B", 11: "q", 12: "Q"}
_STRUCT, _STRING, _ARRAY = 15, 18, 20


@dataclass(frozen=True, slots=True)
class ArrayTag:
    """An array in the file: where it begins, how many elements of how many bytes."""

    offset: int
    count: int
    item_bytes: int


class _Cursor:
    """A position in the bytes of a file, which refuses to leave them."""

    def __init__(self, data: Any, path: str) -> None:
        self._data, self._path, self.at, self.tags = data, path, 0, 0
        self.long, self.order = "I", "<"

    def take(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self._data):
            raise DataError(f"{self._path}: a tag at byte {self.at} leaves the file: truncated or damaged")
        data = bytes(self._data[self.at : self.at + size])
        self.at += size
        return data

    def big(self, code: str) -> int:
        """Read a number of the tree itself: always big-endian."""
        return int(struct.unpack(">" + code, self.take(struct.calcsize(">" + code)))[0])

    def skip(self, size: int) -> int:
        """Skip data and return where they begin."""
        begin = self.at
        if size < 0 or self.at + size > len(self._data):
            raise DataError(
                f"{self._path}: an array of {size} bytes at byte {begin} leaves the file: truncated, damaged"
            )
        self.at += size
        return begin

    def count(self) -> None:
        self.tags += 1
        if self.tags > MAX_TAGS:
            raise DataError(f"{self._path}: more than {MAX_TAGS} tags: damaged")


def parse_tags(data: Any, path: str) -> tuple[dict[str, Any], str]:
    """Return the tag tree and the byte order of the values.

    Parameters
    ----------
    data
        The whole file, anything that is sliced like bytes.
    path
        For messages.

    Returns
    -------
    Nested dicts; tags without a name are numbered from 0. Arrays above 4 KiB are `ArrayTag`, as is all that
    is not numbers or text. And ``"<"`` or ``">"``.

    Raises
    ------
    DataError
        If the tree is damaged.
    """
    cursor = _Cursor(data, path)
    version = cursor.big("I")
    if version not in (3, 4):
        raise DataError(f"{path}: version {version} of DigitalMicrograph files is not supported: 3 and 4 are")
    cursor.long = "Q" if version == 4 else "I"
    cursor.big(cursor.long)
    cursor.order = "<" if cursor.big("I") == 1 else ">"
    return _group(cursor, 0, version), cursor.order


def _group(c: _Cursor, depth: int, version: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise DataError(f"{c._path}: tags nested deeper than {MAX_DEPTH}: damaged")
    c.take(2)  # sorted, open
    found: dict[str, Any] = {}
    for index in range(c.big(c.long)):
        c.count()
        kind, length = c.take(1)[0], c.big("H")
        name = c.take(length).decode("latin-1") or str(index)
        if version == 4:
            c.big("Q")  # bytes of the tag
        if kind == 0x14:
            found[name] = _group(c, depth + 1, version)
        elif kind == 0x15:
            found[name] = _value(c)
        else:
            raise DataError(f"{c._path}: tag {name!r} of unknown kind {kind:#x} at byte {c.at}: damaged")
    return found


def _value(c: _Cursor) -> Any:
    if c.take(4) != b"%%%%":
        raise DataError(f"{c._path}: no %%%% before the value at byte {c.at}: damaged")
    n = c.big(c.long)
    if not 0 < n <= 1024:
        raise DataError(f"{c._path}: a description of {n} numbers at byte {c.at}: damaged")
    info = [c.big(c.long) for _ in range(n)]
    kind = info[0]
    if kind in _SIMPLE and n == 1:
        return struct.unpack(c.order + _SIMPLE[kind], c.take(struct.calcsize("=" + _SIMPLE[kind])))[0]
    if kind == _STRING and n == 2:
        return c.take(2 * info[1] if info[1] <= MAX_INLINE else -1).decode("utf-16-le", errors="replace")
    if kind == _STRUCT:
        return _struct(c, info[1:])
    if kind == _ARRAY and n >= 3:
        return _array(c, info[1:])
    raise DataError(f"{c._path}: a value of unknown type {kind} at byte {c.at}: damaged")


def _fields(info: list[int], path: str) -> Iterator[int]:
    """Yield the types of the fields of a struct, described by ``[name, n, (name, type) * n]``."""
    if len(info) < 2 or len(info) < 2 + 2 * info[1]:
        raise DataError(f"{path}: a damaged description of a struct")
    for i in range(info[1]):
        kind = info[3 + 2 * i]
        if kind not in _SIMPLE:
            raise DataError(f"{path}: a struct with a field of type {kind}: damaged")
        yield kind


def _struct(c: _Cursor, info: list[int]) -> tuple[Any, ...]:
    codes = "".join(_SIMPLE[k] for k in _fields(info, c._path))
    return struct.unpack(c.order + codes, c.take(struct.calcsize("=" + codes)))


def _array(c: _Cursor, info: list[int]) -> Any:
    kind, count = info[0], info[-1]
    if kind == _STRUCT:
        size = sum(struct.calcsize("=" + _SIMPLE[k]) for k in _fields(info[1:-1], c._path))
        return ArrayTag(c.skip(size * count), count, size)
    if kind not in _SIMPLE:
        raise DataError(f"{c._path}: an array of type {kind} at byte {c.at}: damaged")
    size = struct.calcsize("=" + _SIMPLE[kind])
    if size * count > MAX_INLINE:
        return ArrayTag(c.skip(size * count), count, size)
    begin = c.at
    data = c.take(size * count)
    if kind == 4:  # text is stored as 16-bit integers
        text = data.decode("utf-16-le" if c.order == "<" else "utf-16-be", errors="replace")
        if text.isprintable() and text:
            return text
    return ArrayTag(begin, count, size)
