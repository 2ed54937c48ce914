"""pnCCD frames (.frms6): each stored row holds one of the upper half, and one of the lower half backwards."""

from __future__ import annotations

import configparser
import functools
import glob
import math
import os
import re
import time
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.counter import ReadCounter
from framefold.io.fields import read_bytes, unpack
from framefold.io.format import Format
from framefold.io.identity import file_identity
from framefold.io.memmap import FrameLayout, MemmapSource, checked_shape, frames_present
from framefold.io.output import check_tile, output_for
from framefold.io.series import find_files, open_series
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import ReadStats, Source
from framefold.udfcore.tile import TileSlice, full_sig

_HEADER, _FRAME_HEADER = 1024, 64
_FIELDS = (
    ("size", "H"), ("frame_header", "H"), ("_pad", "3s"), ("version", "B"), ("comment", "80s"),
    ("width", "H"), ("height", "H"), ("_more", "928s"), ("frames", "I"),
)  # fmt: skip
_MAX_INI = 2**16


def sniff(path: str, head: bytes) -> str | None:
    """Tell why a file is not FRMS6, nor the .hdr file of such a scan."""
    if len(head) >= 8 and head[:4] == b"\x00\x04\x40\x00" and head[7] == 6:
        return None
    return None if b"[measurementInfo]" in head else "no header of 1024 bytes, version 6"


def open_frms6(path: str, *, strict: bool = False) -> Source:
    """Open a scan.

    Parameters
    ----------
    path
        The ``.hdr`` file: its first data file (``*_000.frms6``) holds dark frames, whose mean becomes
        ``metadata.dark``; the others are the scan. Or one of its data files; without a ``.hdr`` file
        beside it that is all there is.
    strict
        A truncated file is an error.

    Raises
    ------
    DataError
        If headers are damaged or files are missing.
    """
    if read_bytes(path, 0, 4) == b"\x00\x04\x40\x00":
        beside = re.sub(r"_\d+\.frms6$", ".hdr", path, flags=re.IGNORECASE)
        if beside == path or not os.path.isfile(beside):
            return _open_file(path, Metadata(), strict)
        path = beside
    info = _read_hdr(path)
    stem = os.path.splitext(path)[0]
    files = find_files(glob.escape(stem) + "_*.frms6")
    if len(files) < 2:
        raise DataError(f"{path}: needs {stem}_000.frms6 with dark frames and at least one more file")
    nav = _scan_size(info)
    metadata = Metadata(nav_shape=nav, dark=_dark(files[0]), raw=dict(info))
    opener = functools.partial(_open_file, metadata=metadata, strict=strict)
    source = open_series(files[1:], opener, "frms6", consecutive=True)
    if isinstance(source, Frms6Source) and nav is not None and source.shape.nav.size == math.prod(nav):
        return source.with_nav(nav)
    return source


class Frms6Source:
    """Frames of one file, unfolded; see `open_frms6`."""

    is_view = False

    def __init__(self, stored: MemmapSource) -> None:
        self._stored = stored
        height, width = stored.layout.sig_shape
        self._half = height
        self.shape = Shape((*stored.layout.nav_shape, 2 * height, width // 2), sig_dims=2)
        self.dtype = stored.dtype
        self.natural_chunks = (1, 1, width // 2)
        self._counter = ReadCounter("mmap", "rows are unfolded while copying")

    @property
    def path(self) -> str:
        """The file."""
        return self._stored.path

    @property
    def metadata(self) -> Metadata:
        """What the .hdr file states, and the mean of the dark frames."""
        return self._stored.metadata

    @property
    def identity(self) -> str:
        """Path, size, modification time."""
        return self._stored.identity

    @property
    def valid(self) -> npt.NDArray[np.bool_] | None:
        """False for frames that the file lacks."""
        return self._stored.valid

    def with_nav(self, nav_shape: tuple[int, ...]) -> Frms6Source:
        """Return the same frames in another scan shape."""
        layout = replace(self._stored.layout, nav_shape=nav_shape)
        return Frms6Source(MemmapSource(layout, self.metadata, self.identity))

    def read(self, tile: TileSlice, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return the values of `tile`; see `Source.read`."""
        check_tile(tile, self._stored.layout.present, tuple(self.shape.sig), self.path)
        began = time.perf_counter()
        stored = self._stored.read(TileSlice(tile.start, tile.stop, full_sig(self._stored.layout.sig_shape)))
        out = output_for(tile, self.dtype, out, self.path)
        rows, cols = tile.sig
        width = self.shape.sig[1]
        top = max(0, min(rows.stop, self._half) - rows.start)
        out[:, :top] = stored[:, rows.start : rows.start + top, :width][:, :, cols]
        begin = max(rows.start, self._half) - self._half
        bottom = stored[:, ::-1, width:][:, :, ::-1]
        out[:, top:] = bottom[:, begin : begin + out.shape[1] - top, cols]
        self._counter.add(out.nbytes, time.perf_counter() - began)
        return out

    def stats(self) -> ReadStats:
        """Return what was read so far in this process."""
        return self._counter.stats()

    def __reduce__(self) -> tuple[Any, ...]:
        return Frms6Source, (self._stored,)

    def __repr__(self) -> str:
        return f"<Frms6Source {self.path} {self.shape}>"


def _open_file(path: str, metadata: Metadata, strict: bool) -> Frms6Source:
    head = unpack(read_bytes(path, 0, _HEADER), _FIELDS, path)
    if head["size"] != _HEADER or head["frame_header"] != _FRAME_HEADER or head["version"] != 6:
        raise DataError(f"{path}: no FRMS6 header (1024, 64, version 6) but {dict(head)}")
    stored = checked_shape(path, (head["height"], head["width"]), "frames of")
    if stored[1] % 2:
        raise DataError(f"{path}: rows of {stored[1]} pixels cannot hold two halves: the header is damaged")
    size = 2 * stored[0] * stored[1]
    offset, stride = _HEADER + _FRAME_HEADER, _FRAME_HEADER + size
    # old files state 0 frames
    frames, present = frames_present(path, offset, stride, size, head["frames"] or None, strict=strict)
    layout = FrameLayout(path, (frames,), stored, np.dtype("<u2"), offset, stride, present)
    return Frms6Source(MemmapSource(layout, metadata, file_identity(path, "frms6")))


def _dark(path: str) -> npt.NDArray[np.float32]:
    """Return the mean of the dark frames."""
    source = _open_file(path, Metadata(), strict=True)
    sig = tuple(source.shape.sig)
    total = np.zeros(sig, np.float64)
    for frame in range(source.shape.nav.size):
        total += source.read(TileSlice(frame, frame + 1, full_sig(sig)))[0]
    return (total / source.shape.nav.size).astype(np.float32)


def _read_hdr(path: str) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            parser.read_string(file.read(_MAX_INI))
        return dict(parser["measurementInfo"])
    except (OSError, configparser.Error, KeyError) as exc:
        raise DataError(f"{path}: no [measurementInfo] can be read: {exc}") from exc


def _scan_size(info: dict[str, str]) -> tuple[int, ...] | None:
    size = re.fullmatch(r"\s*(\d{1,6})\s*x\s*(\d{1,6})\s*", info.get("stemimagesize", ""))
    return (int(size[1]), int(size[2])) if size and int(size[1]) and int(size[2]) else None


FORMAT = Format("frms6", "pnCCD frames with .hdr", sniff, open_frms6, (".frms6", ".hdr"), gathers=True)
