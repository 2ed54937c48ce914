"""TVIPS camera series (.tvips): one or several files, the first with a header."""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from framefold.errors import DataError
from framefold.io.fields import read_bytes, unpack
from framefold.io.format import Format
from framefold.io.identity import file_identity
from framefold.io.memmap import FrameLayout, MemmapSource, checked_shape, frames_present
from framefold.io.series import find_files, open_series
from framefold.udfcore.metadata import Metadata, electron_wavelength
from framefold.udfcore.source import Source

_HEADER = 256
_FIELDS = (
    ("size", "i"), ("version", "i"), ("width", "i"), ("height", "i"), ("bits", "i"), ("offset_x", "i"),
    ("offset_y", "i"), ("binning_x", "i"), ("binning_y", "i"), ("pixel_nm", "i"), ("high_tension_kv", "i"),
    ("magnification", "i"), ("frame_header", "i"),
)  # fmt: skip
# of a frame header of version 2; byte 68 from its counter, time stamp, stage and so on
_SCAN = (("x", "f"), ("y", "f"))
_SCAN_AT = 68
_MAX_LINE = 4096
_Q_E = 1.602176634e-19


@dataclass(frozen=True)
class _Kind:
    """What all files of a series share."""

    sig: tuple[int, ...]
    dtype: np.dtype[Any]
    frame_header: int
    strict: bool


def sniff(path: str, head: bytes) -> str | None:
    """Tell why a file is not a TVIPS series."""
    if len(head) < _HEADER:
        return "shorter than the header of 256 bytes"
    h = unpack(head, _FIELDS, path)
    if h["size"] == _HEADER and h["version"] in (1, 2) and h["bits"] in (8, 16):
        return None
    return "no header of 256 bytes, version 1 or 2"


def open_tvips(path: str, *, strict: bool = False) -> Source:
    """Open a series.

    Parameters
    ----------
    path
        The first file, ``*_000.tvips``; the others are found beside it.
    strict
        A truncated file is an error.

    Raises
    ------
    DataError
        If the header is damaged, or a file of the series is missing.
    """
    head = dict(unpack(read_bytes(path, 0, _HEADER), _FIELDS, path))
    sig = checked_shape(path, (head["height"], head["width"]), "frames of")
    before = 12 if head["version"] == 1 else head["frame_header"]
    if head["size"] != _HEADER or head["bits"] not in (8, 16) or not 0 <= before <= 65536:
        raise DataError(f"{path}: the TVIPS header is damaged: {head}")
    kind = _Kind(sig, np.dtype(f"<u{head['bits'] // 8}"), before, strict)
    series = re.search(r"^(.*_)0*\.tvips$", path, re.IGNORECASE)
    files = find_files(_pattern(series[1])) if series else [path]
    volts = 1000 * head["high_tension_kv"]
    nm = head["pixel_nm"]
    metadata = Metadata(
        energy=volts * _Q_E if volts > 0 else None,
        wavelength=electron_wavelength(volts) if volts > 0 else None,
        pixel_size=(nm * 1e-9, nm * 1e-9) if nm > 0 else None,
        raw=head,
    )
    first = _open_part(path, path, kind, metadata)
    if head["version"] == 2 and before >= _SCAN_AT + 8:
        head["scan_begins_at"], head["scan_line"] = _find_scan(path, first.layout)
    if len(files) == 1:
        return first
    opener = functools.partial(_open_part, first=path, kind=kind, metadata=metadata)
    return open_series(files, opener, "tvips", consecutive=True)


def _pattern(stem: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in stem) + "[0-9]*.tvips"


def _open_part(path: str, first: str, kind: _Kind, metadata: Metadata) -> MemmapSource:
    size = kind.sig[0] * kind.sig[1] * kind.dtype.itemsize
    stride = kind.frame_header + size
    begin = _HEADER if os.path.basename(path) == os.path.basename(first) else 0
    offset = begin + kind.frame_header
    frames, present = frames_present(path, offset, stride, size, None, strict=kind.strict)
    layout = FrameLayout(path, (frames,), kind.sig, kind.dtype, offset, stride, present)
    return MemmapSource(layout, metadata, file_identity(path, "tvips"))


def _find_scan(path: str, layout: FrameLayout) -> tuple[int | None, int | None]:
    """Return the frame at which the scan begins, and the length of its lines, from the frame headers.

    Before the beam scans, frames state the position (0, 0); the last of those is the first of the scan.
    """
    header = layout.stride - layout.frame_bytes
    begins, line, last = None, None, -1
    for frame in range(min(layout.present, _MAX_LINE)):
        at = layout.offset - header + frame * layout.stride + _SCAN_AT
        point = unpack(read_bytes(path, at, 8), _SCAN, path)
        x, y = point["x"], point["y"]
        if not (np.isfinite(x) and np.isfinite(y)):
            return None, None
        if begins is None and (x, y) == (1, 0) and last == 0:
            begins = frame - 1
        if begins is not None and x < last:
            line = int(last) + 1
            break
        last = x
    return begins, line


FORMAT = Format("tvips", "TVIPS camera series", sniff, open_tvips, (".tvips",), gathers=True)
