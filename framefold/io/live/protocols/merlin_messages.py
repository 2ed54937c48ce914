"""Messages of a Merlin data socket, from bytes: a text header, then frames, each behind its length."""

from __future__ import annotations

import re
from dataclasses import dataclass

from framefold.errors import DataError, StreamError
from framefold.io.mib_header import MibHeader, parse_hdr, parse_header

PREFIX = 15  # MPX,%010d,
MAX_TEXT = 2**20
MAX_MESSAGE = 2**30
_PREFIX = re.compile(rb"MPX,(\d{10}),")
_BEGIN = re.compile(rb"MPX,(\d{10}),(?:HDR,|MQ1,)")
_FRAME = re.compile(rb"MPX,\d{10},MQ1,(\d{6}),")
NUMBERS = 10**6


@dataclass(frozen=True, slots=True)
class MerlinFrame:
    """The header of a frame message.

    Attributes
    ----------
    header
        As in files.
    message
        Bytes of the message, its prefix included.
    same_to
        Byte of the message before which it is like those of the other frames, but for the number.
    """

    header: MibHeader
    message: int
    same_to: int


def message_size(data: memoryview) -> int | None:
    """Return the bytes of the message at the beginning of `data`, its prefix included; None: more is needed.

    Raises
    ------
    StreamError
        If no message begins there, or its length is impossible.
    """
    if len(data) < PREFIX:
        return None
    match = _PREFIX.match(data)
    if match is None:
        raise StreamError(f"no Merlin message (MPX,) begins where one should, but {bytes(data[:16])!r}")
    size = PREFIX - 1 + int(match[1])  # the number counts the comma, which is the last byte of the prefix
    if not PREFIX + 4 <= size <= MAX_MESSAGE:
        raise StreamError(f"a Merlin message states {size - PREFIX} bytes, at most {MAX_MESSAGE} are allowed")
    return size


def find_message(data: memoryview) -> int:
    """Return where the first message begins, or how much of `data` is surely garbage."""
    match = _BEGIN.search(data)
    if match is not None:
        return match.start()
    return max(0, len(data) - PREFIX - 3)


def is_text(data: memoryview) -> bool:
    """Tell whether the message at the beginning of `data` is the text header of an acquisition."""
    return bytes(data[PREFIX : PREFIX + 4]) == b"HDR,"


def parse_text(data: memoryview) -> dict[str, str]:
    """Return the fields of the text header whose message is `data`.

    Raises
    ------
    StreamError
        If it is longer than `MAX_TEXT`.
    """
    if len(data) > MAX_TEXT:
        raise StreamError(f"the Merlin header has {len(data)} bytes, at most {MAX_TEXT} are allowed")
    return parse_hdr(bytes(data[PREFIX:]).decode("latin-1").replace("\r\n", "\n"))


def frame_count(fields: dict[str, str]) -> int | None:
    """Return how many frames the acquisition has, None if the header does not say."""
    text = fields.get("Frames in Acquisition (Number)", "")
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text[:18]) < 2**53 else None


def scan_shape(fields: dict[str, str]) -> tuple[int, int] | None:
    """Return ``(ScanY, ScanX)``, None if the header lacks them. Frames per trigger tell nothing for sure."""
    x, y = (fields.get(name, "") for name in ("ScanX", "ScanY"))
    if all(t.isascii() and t.isdigit() and 0 < int(t[:12]) < 2**31 for t in (x, y)):
        return int(y), int(x)
    return None


def parse_frame(data: memoryview, size: int) -> MerlinFrame | None:
    """Return what the message at the beginning of `data` says of its frame; None: more is needed.

    Parameters
    ----------
    data
        At least the header of the frame.
    size
        Bytes of the message.

    Raises
    ------
    StreamError
        If it is no frame, or the header does not fit the length.
    """
    payload = data[PREFIX:size]
    fields = bytes(payload[:64]).split(b",")
    if len(payload) < min(64, size - PREFIX):
        return None
    if fields[0] != b"MQ1" or len(fields) < 8 or len(fields[1]) != 6 or not fields[2].isdigit():
        raise StreamError(f"a Merlin message is neither HDR nor a frame (MQ1), but {bytes(payload[:16])!r}")
    offset = min(int(fields[2]), 65536)
    if len(payload) < min(offset, size - PREFIX):
        return None
    try:
        header = parse_header(bytes(payload[:offset]), "Merlin stream")
    except DataError as exc:
        raise StreamError(str(exc)) from exc
    if header.stride != size - PREFIX:
        raise StreamError(
            f"Merlin frame {header.sequence}: its header describes {header.stride} bytes, "
            f"its message has {size - PREFIX}"
        )
    return MerlinFrame(header, size, PREFIX + len(b",".join(fields[:7])))


def frame_number(data: memoryview) -> int | None:
    """Return the six digits of the frame whose message begins at `data`, None if they are not there."""
    match = _FRAME.match(data)
    return None if match is None else int(match[1])


def unwrap(number: int, last: int) -> int:
    """Return the number that ends in the six digits of `number` and is nearest to `last`.

    >>> unwrap(1, 999_999), unwrap(999_999, 1_000_001)
    (1000001, 999999)
    """
    return last + (number - last + NUMBERS // 2) % NUMBERS - NUMBERS // 2
