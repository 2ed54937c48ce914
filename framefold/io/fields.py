"""Reads binary headers: named fields at given bytes, with an error instead of a short read."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from framefold.errors import DataError

Fields = Sequence[tuple[str, str]]


def read_bytes(path: str, offset: int, size: int) -> bytes:
    """Return bytes of a file.

    Raises
    ------
    DataError
        If there are fewer.
    """
    try:
        with open(path, "rb") as file:
            # a damaged header may state more than fits in memory, or in an integer of the system
            length = os.fstat(file.fileno()).st_size
            file.seek(min(offset, length))
            data = file.read(min(size, length))
    except OSError as exc:
        raise DataError(f"cannot open {path}: {exc.strerror or exc}") from exc
    if len(data) < size:
        raise DataError(
            f"{path}: the header ends at byte {min(offset, length) + len(data)}, {offset + size} are needed"
        )
    return data


def unpack(
    data: bytes, fields: Fields, where: str, *, order: str = "<", offset: int = 0
) -> Mapping[str, Any]:
    r"""Return packed fields as a dict.

    Parameters
    ----------
    data
        The header.
    fields
        Pairs of name and `struct` code; names that begin with ``_`` are skipped.
    where
        File, for messages.
    order
        Byte order.
    offset
        First byte.

    Raises
    ------
    DataError
        If `data` is too short.

    Examples
    --------
    >>> unpack(b"\x01\x02\x00", [("a", "B"), ("b", "H")], "x")
    {'a': 1, 'b': 2}
    """
    layout = struct.Struct(order + "".join(code for _, code in fields))
    if len(data) < offset + layout.size:
        raise DataError(f"{where}: the header has {len(data)} bytes, {offset + layout.size} are needed")
    values = layout.unpack_from(data, offset)
    return {name: v for (name, _), v in zip(fields, values, strict=True) if not name.startswith("_")}
