"""Headers of Merlin (Medipix3) frames, in files and streams, and the text file beside a scan."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from framefold.errors import DataError

MAX_HEADER = 65536
_PIXELS = {"U08": ">u1", "U16": ">u2", "U32": ">u4", "U64": ">u8"}
_RAW_BITS = {1: 1, 6: 8, 12: 16, 24: 32}
_RAW_DTYPES = {1: "u1", 6: "u1", 12: "u2", 24: "u4"}


@dataclass(frozen=True, slots=True)
class MibHeader:
    """What the header of a frame says.

    Attributes
    ----------
    sequence
        Number of the frame, counted from 1.
    offset
        Bytes of the header.
    chips
        Number of chips.
    stored_shape
        Rows and columns as the header states them.
    pixel
        ``U08``, ``U16``, ``U32``, ``U64``, or ``R64`` for pixels as the chip sends them.
    layout
        Chips in x and y, for instance ``2x2``.
    depth
        Counter depth in bits, 0 if not stated.
    timestamp
        As text.
    exposure
        s.
    """

    sequence: int
    offset: int
    chips: int
    stored_shape: tuple[int, int]
    pixel: str
    layout: str
    depth: int
    timestamp: str
    exposure: float | None

    @property
    def raw(self) -> bool:
        """Whether pixels are stored as the chip sends them."""
        return self.pixel == "R64"

    @property
    def quad(self) -> bool:
        """Whether raw rows of four chips must be put together."""
        return self.raw and self.chips == 4

    @property
    def sig_shape(self) -> tuple[int, int]:
        """Rows and columns of the image."""
        height, width = self.stored_shape
        if self.raw and self.depth == 24:
            width //= 2  # two frames of 12 bits
        return (2 * height, width // 2) if self.quad else (height, width)

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """As stored, with byte order; of the decoded pixels for raw frames."""
        return np.dtype(_RAW_DTYPES[self.depth] if self.raw else _PIXELS[self.pixel])

    @property
    def frame_bytes(self) -> int:
        """Bytes of the pixels of a frame in the file."""
        pixels = math.prod(self.sig_shape)
        return pixels * _RAW_BITS[self.depth] // 8 if self.raw else pixels * self.dtype.itemsize

    @property
    def stride(self) -> int:
        """Bytes from one frame to the next."""
        return self.offset + self.frame_bytes


def parse_header(data: bytes, where: str) -> MibHeader:
    """Return the header at the beginning of `data`.

    Parameters
    ----------
    data
        At least the header; more is ignored.
    where
        File or stream, for messages.

    Raises
    ------
    DataError
        If it is damaged, or of a layout that is not supported.
    """
    text = data[:MAX_HEADER].decode("ascii", errors="replace")
    fields = [f.strip() for f in text.split("\0", 1)[0].split(",")]
    if fields[0] != "MQ1" or len(fields) < 9:
        raise DataError(f"{where}: no Merlin frame header (MQ1, ...) there, but {text[:16]!r}")
    try:
        sequence, offset, chips, width, height = (int(f) for f in fields[1:6])
    except ValueError as exc:
        raise DataError(f"{where}: damaged Merlin frame header {text[:60]!r}: {exc}") from exc
    header = MibHeader(
        sequence, offset, chips, (height, width), fields[6].upper(), fields[7].rstrip("G"),
        _depth(fields), fields[9] if len(fields) > 9 else "", _number(fields, 10),
    )  # fmt: skip
    _require_supported(header, where)
    return header


def _depth(fields: list[str]) -> int:
    """Return the counter depth: behind the time stamp of the MQ1A extension, else the last number."""
    if "MQ1A" in fields and len(fields) > (at := fields.index("MQ1A")) + 3 and fields[at + 3].isdigit():
        return int(fields[at + 3])
    last = next((f for f in reversed(fields) if f), "")
    return int(last) if last in ("1", "6", "12", "24") else 0


def _number(fields: list[str], at: int) -> float | None:
    try:
        value = float(fields[at])
    except (IndexError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _require_supported(h: MibHeader, where: str) -> None:
    if not 64 <= h.offset <= MAX_HEADER or not all(1 <= n <= 65536 for n in h.stored_shape) or h.sequence < 0:
        raise DataError(
            f"{where}: Merlin frame header states {h.offset} bytes of header and {h.stored_shape} pixels: "
            "it is damaged"
        )
    if not h.raw:
        if h.pixel not in _PIXELS:
            raise DataError(f"{where}: pixel type {h.pixel!r} is not one of {', '.join(_PIXELS)}, R64")
        return
    if h.depth not in _RAW_BITS:
        raise DataError(f"{where}: raw frames of {h.depth or 'unknown'} bits: supported are 1, 6, 12 and 24")
    single = h.chips == 1
    if not single and not (h.quad and h.layout == "2x2" and h.depth != 24):
        raise DataError(
            f"{where}: raw frames of {h.chips} chips in the layout {h.layout} with {h.depth} bits are not "
            "supported: one chip, or 2x2 with 1, 6 or 12 bits. Acquire them processed (U08, U16, U32)"
        )
    width = h.stored_shape[1]
    chip_row = width // (2 if h.depth == 24 else 1) // h.chips
    if chip_row % 64 or chip_row == 0 or (h.depth == 24 and width % 2):
        raise DataError(f"{where}: raw rows of {width} pixels are not made of 64-bit words: header damaged")


def parse_hdr(text: str) -> dict[str, str]:
    r"""Return the ``name: value`` lines of a Merlin ``.hdr`` file.

    >>> parse_hdr("HDR,\t\nScanX:\t4\nEnd\t")
    {'ScanX': '4'}
    """
    pairs = (line.split("\t", 1) for line in text.splitlines() if "\t" in line)
    return {k.rstrip(": ").strip(): v.strip() for k, v in pairs if not k.startswith(("HDR", "End"))}


def scan_shape(hdr: dict[str, str], frames: int) -> tuple[int, ...] | None:
    """Return the scan shape that a ``.hdr`` file states, None if it does not.

    ``ScanX`` and ``ScanY`` where they are; else ``Frames per Trigger`` as the length of a line, when it
    divides the number of frames and is neither 1 nor all of them (it is 1 on some scans).

    >>> scan_shape({"ScanX": "4", "ScanY": "2"}, 8), scan_shape({"Frames per Trigger (Number)": "1"}, 8)
    ((2, 4), None)
    """
    x, y = _integer(hdr, "ScanX"), _integer(hdr, "ScanY")
    if x and y:
        return (y, x)
    line = _integer(hdr, "Frames per Trigger (Number)")
    if line and 1 < line < frames and frames % line == 0:
        return (frames // line, line)
    return None


def _integer(hdr: dict[str, str], name: str) -> int | None:
    value = hdr.get(name, "")
    return int(value) if value.isdigit() and 0 < int(value) < 2**31 else None
