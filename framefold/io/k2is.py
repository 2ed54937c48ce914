"""K2 IS recordings: a ``.gtg`` file, and one ``.bin`` file of packets per sector."""

from __future__ import annotations

import glob
import os
import re
import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.counter import ReadCounter
from framefold.io.format import Format
from framefold.io.identity import file_identity
from framefold.io.output import check_tile, output_for
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import ReadStats
from framefold.udfcore.tile import TileSlice

_SYNC = 0xFFFF0055
_HEADER = np.dtype(
    {
        "names": ["sync", "flags", "width", "height", "frame", "x0", "y0", "x1", "y1", "size"],
        "formats": [">u4", "u1", ">u2", ">u2", ">u4", ">u2", ">u2", ">u2", ">u2", ">u4"],
        "offsets": [0, 9, 20, 22, 24, 28, 30, 32, 34, 36],
        "itemsize": 40,
    }
)
_MAX_PACKET = 1 << 20


@dataclass(frozen=True)
class _Geometry:
    """Of a sector and its packets."""

    width: int
    height: int
    rows: int
    columns: int

    @property
    def size(self) -> int:
        return 40 + self.rows * self.columns * 3 // 2

    @property
    def pieces(self) -> int:
        return (self.width // self.columns) * (self.height // self.rows)


def sniff(path: str, head: bytes) -> str | None:
    """Tell why a file is no part of a K2 IS recording."""
    if path.lower().endswith(".gtg"):
        return None if _bins(path) else "no *_1.bin beside the .gtg file"
    if len(head) < _HEADER.itemsize:
        return "shorter than the header of a packet"
    return None if head[:4] == _SYNC.to_bytes(4, "big") else "does not begin with 0xFFFF0055"


def _bins(path: str) -> list[str]:
    """Return the files of the sectors, in their order."""
    stem = re.sub(r"(_\d+\.bin|\.gtg)$", "", path, flags=re.IGNORECASE)
    found = {}
    for name in glob.glob(glob.escape(stem) + "_*.bin"):
        if match := re.search(r"_(\d+)\.bin$", name):
            found[int(match[1])] = name
    return [found[i] for i in sorted(found)]


def open_k2is_files(path: str, *, mode: str = "scan", strict: bool = False) -> K2ISSource:
    """Open a recording.

    Packets are found by their headers, in one pass: they may be lost, or out of order. The recording begins
    with the first frame that has the flag of the shutter in all sectors, or, if none has, with the first that
    all sectors hold. Frames that lack a packet are not valid.

    Parameters
    ----------
    path
        The ``.gtg`` file, or any of the ``.bin`` files.
    mode
        ``"scan"``: the flag comes one frame late; ``"series"``: it does not.
    strict
        Lost packets are an error instead of a warning.

    Raises
    ------
    DataError
        If files are missing, are no recording, or have no frame in common.
    """
    if mode not in ("scan", "series"):
        raise DataError(f"mode={mode!r} is neither scan nor series")
    files = _bins(path)
    numbers = [int(re.search(r"_(\d+)\.bin$", f)[1]) for f in files]  # type: ignore[index]  # found by it
    if not files or numbers != list(range(1, len(files) + 1)):
        raise DataError(f"{path}: the files *_1.bin to *_8.bin of the sectors are expected, found {numbers}")
    geometry = _geometry(files[0])
    tables = [_packets(f, geometry) for f in files]
    index, first = _index(path, tables, geometry, 1 if mode == "scan" else 0)
    lost = int((index < 0).sum())
    if lost:
        bad = int((index < 0).any(axis=(0, 2)).sum())
        if bad == index.shape[1]:
            raise DataError(f"{path}: no frame is complete, {lost} of {index.size} packets are missing")
        text = f"{path}: {lost} of {index.size} packets are missing, in {bad} frames"
        if strict:
            raise DataError(text)
        warnings.warn(f"{text}, which are not valid", stacklevel=3)
    identity = "+".join(file_identity(f, "k2is", mode=mode) for f in files)
    return K2ISSource(
        files, geometry, index, Metadata(raw={"first_id": first}), identity, (path, mode, strict)
    )


def _geometry(file: str) -> _Geometry:
    try:
        head = np.fromfile(file, _HEADER, 1)
    except OSError as exc:
        raise DataError(f"cannot open {file}: {exc.strerror or exc}") from exc
    if not len(head) or head["sync"][0] != _SYNC:
        raise DataError(f"{file} does not begin with a K2 IS packet")
    h = {name: int(head[name][0]) for name in head.dtype.names or ()}
    g = _Geometry(h["width"], h["height"], h["y1"] - h["y0"] + 1, h["x1"] - h["x0"] + 1)
    if min(g.rows, g.columns) < 1 or g.width % max(1, g.columns) or g.height % max(1, g.rows):
        raise DataError(f"{file}: packets of {g.rows}x{g.columns} do not fill {g.height}x{g.width} pixels")
    if g.size != h["size"] or g.size > _MAX_PACKET or g.rows * g.columns % 2:
        raise DataError(f"{file}: packets of {h['size']} bytes cannot hold {g.rows}x{g.columns} pixels")
    return g


def _packets(file: str, g: _Geometry) -> dict[str, npt.NDArray[Any]]:
    """Return running frame number, piece, place in the file and flag of all packets that are in order."""
    count = os.path.getsize(file) // g.size
    if not count:
        raise DataError(f"{file} holds no packet")
    raw = np.memmap(file, np.uint8, "r", shape=(count, g.size))
    h = np.ascontiguousarray(raw[:, : _HEADER.itemsize]).view(_HEADER)[:, 0]
    x, y = h["x0"].astype(np.int64), h["y0"].astype(np.int64)
    good = (h["sync"] == _SYNC) & (h["width"] == g.width) & (h["height"] == g.height)
    good &= (x % g.columns == 0) & (y % g.rows == 0) & (x < g.width) & (y < g.height)
    if not good.any():
        raise DataError(f"{file}: no packet is as the first one of the recording says")
    at = np.flatnonzero(good)
    ids = h["frame"][at].astype(np.uint32)
    # unwrapped: steps are short, whatever the counter does
    steps = np.diff(ids, prepend=ids[:1]).astype(np.int32).astype(np.int64)
    across = g.width // g.columns
    return {
        "frame": int(ids[0]) + np.cumsum(steps),
        "piece": (y[at] // g.rows) * across + x[at] // g.columns,
        "at": at,
        "flag": (h["flags"][at] & 1) != 0,
    }


def _index(
    path: str, tables: list[dict[str, npt.NDArray[Any]]], g: _Geometry, lag: int
) -> tuple[npt.NDArray[np.int64], int]:
    """Return packet per (sector, frame, piece), -1 where there is none, and the id of the first frame."""
    # sectors may be on different sides of a wrap
    base = int(tables[0]["frame"][0])
    for t in tables:
        t["frame"] = t["frame"] + round((base - int(t["frame"][0])) / 2**32) * 2**32
    begin = max(int(t["frame"].min()) for t in tables)
    if all(t["flag"].any() for t in tables):
        flagged = []
        for t in tables:
            first = int(t["frame"][t["flag"]].min())
            missed = bool(((t["frame"] == first) & ~t["flag"]).any())
            flagged.append(first + missed)
        begin = max(begin, max(flagged) - lag)
    end = min(int(t["frame"].max()) for t in tables) + 1
    if end <= begin:
        raise DataError(f"{path}: the sectors have no frame in common")
    if (end - begin) * g.pieces > 16 * max(len(t["at"]) for t in tables) + 4096:
        raise DataError(f"{path}: the ids of the frames are damaged, they span {end - begin} frames")
    index = np.full((len(tables), end - begin, g.pieces), -1, np.int64)
    for s, t in enumerate(tables):
        inside = (t["frame"] >= begin) & (t["frame"] < end)
        # of packets that came twice the first one counts
        order = np.flatnonzero(inside)[::-1]
        index[s, t["frame"][order] - begin, t["piece"][order]] = t["at"][order]
    return index, begin % 2**32


class K2ISSource:
    """Frames in packets of 12-bit pixels, decoded where they are read."""

    is_view = False

    def __init__(
        self,
        files: list[str],
        geometry: _Geometry,
        index: npt.NDArray[np.int64],
        metadata: Metadata,
        identity: str,
        arguments: tuple[str, str, bool],
    ) -> None:
        self._files, self._geometry, self._index = files, geometry, index
        self._arguments = arguments
        self.path = arguments[0]
        sectors, frames, _ = index.shape
        self.shape = Shape((frames, geometry.height, sectors * geometry.width), sig_dims=2)
        self.dtype = np.dtype(np.uint16)
        self.metadata, self.identity = metadata, identity
        complete = np.asarray((index >= 0).all(axis=(0, 2)), dtype=bool)
        self.valid: npt.NDArray[np.bool_] | None = None if complete.all() else complete
        self.natural_chunks = (1, geometry.rows, geometry.columns)
        self._counter = ReadCounter("decode", "pixels of 12 bits are unpacked")
        self._maps: list[npt.NDArray[np.uint8]] | None = None

    def read(self, tile: TileSlice, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return the values of `tile`; see `Source.read`."""
        from framefold.io.live.kernels_k2is import read_pieces  # noqa: PLC0415  # loads numba

        g = self._geometry
        check_tile(tile, self._index.shape[1], tuple(self.shape.sig), self.path)
        began = time.perf_counter()
        out = output_for(tile, self.dtype, out, self.path)
        if self._maps is None:
            self._maps = [np.memmap(f, np.uint8, "r") for f in self._files]
        rows, cols = tile.sig
        for s, data in enumerate(self._maps):
            left, right = max(cols.start, s * g.width), min(cols.stop, (s + 1) * g.width)
            if left < right:
                read_pieces(
                    data, self._index[s, tile.start : tile.stop], g.size, g.rows, g.columns,
                    g.width // g.columns, rows.start, left - s * g.width, right - left, left - cols.start,
                    out,
                )  # fmt: skip
        self._counter.add(out.nbytes, time.perf_counter() - began)
        return out

    def stats(self) -> ReadStats:
        """Return what was read so far in this process."""
        return self._counter.stats()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, self._arguments

    def __repr__(self) -> str:
        return f"<K2ISSource {self.path} {self.shape} {self.dtype}>"


def _reopen(path: str, mode: str, strict: bool) -> K2ISSource:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said when it was opened first
        return open_k2is_files(path, mode=mode, strict=strict)


FORMAT = Format(
    "k2is", "Gatan K2 IS recording (.gtg and .bin)", sniff, open_k2is_files, (".gtg", ".bin"), gathers=True
)
