"""Numbered files as one dataset: directories, globs and lists."""

from __future__ import annotations

import glob
import math
import os
import re
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, did_you_mean
from framefold.io.counter import ReadCounter
from framefold.io.output import check_tile, output_for
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import ReadStats, Source
from framefold.udfcore.tile import TileSlice

_OPEN_FILES = 32  # a series of a million files must not exhaust file descriptors


def find_files(pattern: str) -> list[str]:
    """Return the files of a directory or glob in the order of their numbers.

    Of a directory, the files with the ending that most of them have.

    Raises
    ------
    DataError
        If there is none.
    """
    if os.path.isdir(pattern):
        names = [e.path for e in os.scandir(pattern) if e.is_file() and not e.name.startswith(".")]
        if not names:
            raise DataError(f"{pattern} is an empty directory")
        endings = Counter(os.path.splitext(n)[1].lower() for n in names)
        ending = max(endings, key=lambda e: (endings[e], e))
        return sorted((n for n in names if os.path.splitext(n)[1].lower() == ending), key=_natural)
    found = sorted((p for p in glob.glob(pattern) if os.path.isfile(p)), key=_natural)
    if not found:
        folder, name = os.path.split(pattern)
        near = ""
        if os.path.isdir(folder or "."):
            near = did_you_mean(name, os.listdir(folder or "."))
        raise DataError(f"no file {pattern}.{near}")
    return found


def _natural(path: str) -> tuple[Any, ...]:
    """Return a key that sorts a2 before a10."""
    return tuple((0, int(p), p) if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", path))


def require_no_gap(paths: Sequence[str], *, consecutive: bool = False) -> None:
    """Refuse a series with a missing number.

    The number is the group of digits in which the names differ. Unless files are known to be numbered
    `consecutive`, names that count something else (time stamps, steps of 10) pass.

    Raises
    ------
    DataError
        Naming what is missing.
    """
    parts = [re.split(r"(\d+)", os.path.basename(p)) for p in paths]
    if len(paths) < 2 or len({len(p) for p in parts}) > 1 or len({tuple(p[::2]) for p in parts}) > 1:
        return
    varying = [i for i in range(1, len(parts[0]), 2) if len({int(p[i]) for p in parts}) > 1]
    if len(varying) != 1:
        return  # several counters (rows and columns): their product need not be full
    numbers = [int(p[varying[0]]) for p in parts]
    missing = (
        sorted(set(range(min(numbers), max(numbers) + 1)) - set(numbers))
        if consecutive or _dense(numbers)
        else []
    )
    if missing:
        shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise DataError(
            f"the series {paths[0]} .. {os.path.basename(paths[-1])} lacks number {shown} "
            f"({len(missing)} in all): "
            "restore the files, or give the list of files that are meant"
        )


def _dense(numbers: Sequence[int]) -> bool:
    """Tell a counter with gaps from numbers that count something else (time stamps, steps of 10)."""
    ordered = np.sort(numbers)
    steps = np.diff(ordered)
    return bool(len(steps)) and bool(np.median(steps) == 1)


def open_series(
    paths: Sequence[str],
    opener: Callable[[str], Source],
    format_name: str,
    *,
    listed: bool = False,
    consecutive: bool = False,
) -> Source:
    """Open files that follow one another as one source; a single file is opened as such.

    Parameters
    ----------
    paths
        In order.
    opener
        Opens one of them; picklable.
    format_name
        For messages.
    listed
        The user gave the list: gaps in the numbers are meant.
    consecutive
        Files of this format are numbered without steps.

    Raises
    ------
    DataError
        If a number is missing, or frames differ in shape or dtype.
    """
    if len(paths) == 1:
        return opener(paths[0])
    if not listed:
        require_no_gap(paths, consecutive=consecutive)
    first = opener(paths[0])
    per_file = first.shape.nav.size
    # files of single frames are checked when they are read: opening all would take minutes
    counts = [1] * len(paths) if per_file == 1 else [opener(p).shape.nav.size for p in paths]
    size = sum(os.path.getsize(p) for p in (paths[0], paths[-1]))
    span = f"{os.path.abspath(paths[0])}..{os.path.basename(paths[-1])}"
    identity = f"series:{format_name}:{span}:{len(paths)} files:{size}"
    total = sum(counts)
    natural = (min(first.natural_chunks[0], total), *first.natural_chunks[1:])
    scan = first.metadata.nav_shape
    nav = scan if scan is not None and math.prod(scan) == total else (total,)
    shape = Shape((*nav, *first.shape.sig), sig_dims=first.shape.sig.dims)
    return SeriesSource(
        tuple(paths), tuple(counts), opener, identity, shape, first.dtype, first.metadata, natural
    )


class SeriesSource:
    """Frames of several files; see `open_series`."""

    is_view = False

    def __init__(
        self, paths: tuple[str, ...], counts: tuple[int, ...], opener: Callable[[str], Source], identity: str,
        shape: Shape, dtype: np.dtype[Any], metadata: Metadata, natural_chunks: tuple[int, ...],
    ) -> None:  # fmt: skip
        self._paths, self._counts, self._opener, self.identity = paths, counts, opener, identity
        self._sig, self.dtype, self.metadata = tuple(shape.sig), dtype, metadata
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self.shape = shape
        self.natural_chunks = natural_chunks
        self._sources: OrderedDict[int, Source] = OrderedDict()
        self._lock = threading.Lock()
        self._counter = ReadCounter("series", f"{len(paths)} files: frames are copied")

    @property
    def path(self) -> str:
        """The first file."""
        return self._paths[0]

    @property
    def valid(self) -> npt.NDArray[np.bool_] | None:
        """Every file holds its frames, or reading it is an error."""
        return None

    def read(self, tile: TileSlice, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return the values of `tile`; see `Source.read`."""
        check_tile(tile, int(self._starts[-1]), self._sig, self.identity)
        began = time.perf_counter()
        out = output_for(tile, self.dtype, out, self.identity)
        at = tile.start
        index = int(np.searchsorted(self._starts, at, side="right")) - 1
        while at < tile.stop:
            begin, end = int(self._starts[index]), int(self._starts[index + 1])
            stop = min(tile.stop, end)
            block = out[at - tile.start : stop - tile.start]
            source = self._source(index)
            got = source.read(TileSlice(at - begin, stop - begin, tile.sig), block)
            if got is not block:
                block[...] = got
            at, index = stop, index + 1
        self._counter.add(out.nbytes, time.perf_counter() - began)
        return out

    def stats(self) -> ReadStats:
        """Return what was read so far in this process."""
        return self._counter.stats()

    def __reduce__(self) -> tuple[Any, ...]:
        return SeriesSource, (
            self._paths, self._counts, self._opener, self.identity, self.shape, self.dtype, self.metadata,
            self.natural_chunks,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<SeriesSource {len(self._paths)} files, {self.shape} {self.dtype}>"

    def _source(self, index: int) -> Source:
        with self._lock:
            source = self._sources.get(index)
            if source is not None:
                self._sources.move_to_end(index)
                return source
        path = self._paths[index]
        source = self._opener(path)
        if tuple(source.shape.sig) != self._sig or source.dtype != self.dtype:
            raise DataError(
                f"{path} has frames of {tuple(source.shape.sig)} {source.dtype}, "
                f"{self._paths[0]} has {self._sig} {self.dtype}"
            )
        if source.shape.nav.size != self._counts[index]:
            raise DataError(
                f"{path} has {source.shape.nav.size} frames, "
                f"{self._counts[index]} are expected as in the other files"
            )
        if source.valid is not None:
            raise DataError(f"{path} is truncated: a series needs all frames of all files")
        with self._lock:
            self._sources[index] = source
            while len(self._sources) > _OPEN_FILES:
                self._sources.popitem(last=False)
        return source
