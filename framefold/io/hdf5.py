"""The HDF5 source: frames of one dataset, by the fastest path that its storage allows."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.counter import ReadCounter
from framefold.io.format import Format
from framefold.io.hdf5_frames import ReaderCache, locate_frames, natural_chunks, override_axes
from framefold.io.hdf5_layouts import Candidate, choose, find_candidates
from framefold.io.hdf5_mapped import MappedReader
from framefold.io.hdf5_read import damage_named, open_file
from framefold.io.identity import file_identity
from framefold.io.output import check_tile, output_for
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import ReadStats
from framefold.udfcore.tile import TileSlice

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def open_hdf5(
    path: str | os.PathLike[str],
    key: str | None = None,
    *,
    nav_dims: int | None = None,
    transpose: Sequence[int] | None = None,
    allow_missing: bool = False,
    direct: bool = True,
) -> Hdf5Source:
    """Open an image stack in an HDF5 file.

    Parameters
    ----------
    path
        The file; for a DECTRIS series its master file.
    key
        Path of the dataset inside the file, or of the group that holds it. None: the best candidate
        of the conventions that are known (DECTRIS, CXI, NeXus, EMD, Velox, hspy, MAT 7.3), else the
        largest dataset if it stands out.
    nav_dims
        Number of navigation axes. None: as the file states, else all but the last two.
    transpose
        Axes of the stored dataset in the order navigation, signal.
    allow_missing
        Load what is there when data files are missing; their frames are invalid.
    direct
        False reads everything through h5py.

    Returns
    -------
    Hdf5Source

    Raises
    ------
    DataError
        If the file is damaged, no dataset stands out, `key` is wrong (lists the candidates), files
        are missing, or a filter is not installed.
    """
    return Hdf5Source(
        os.fspath(path),
        key,
        nav_dims=nav_dims,
        transpose=None if transpose is None else tuple(int(a) for a in transpose),
        allow_missing=allow_missing,
        direct=direct,
    )


def from_h5py(dataset: h5py.Dataset, **options: Any) -> Hdf5Source:
    """Return the source for an open h5py dataset; `options` are those of `open_hdf5`.

    The source opens the file on its own, so `dataset` may be closed. A dataset that exists in memory only
    cannot be sent to workers and is refused.
    """
    name = dataset.file.filename
    if dataset.file.driver == "core" or isinstance(name, bytes) or not Path(name).is_file():
        raise DataError(
            "the h5py dataset lies in memory, not in a file: load its array, dataset[()], instead"
        )
    if dataset.file.mode != "r":
        dataset.file.flush()
    return open_hdf5(name, key=dataset.name, **options)


class Hdf5Source:
    """Frames of an HDF5 dataset, or of several that follow one another; see `open_hdf5`.

    Attributes
    ----------
    candidate
        The dataset that was chosen, and the convention it was found by.
    """

    def __init__(
        self,
        path: str,
        key: str | None,
        *,
        nav_dims: int | None = None,
        transpose: tuple[int, ...] | None = None,
        allow_missing: bool = False,
        direct: bool = True,
    ) -> None:
        self._path = path
        self._options = {
            "nav_dims": nav_dims,
            "transpose": transpose,
            "allow_missing": allow_missing,
            "direct": direct,
        }
        with damage_named(path), open_file(path) as file:
            candidate = choose(file, key)
            self._metadata = candidate.read_metadata(file)
            if transpose is not None or nav_dims is not None:
                candidate, self._metadata = override_axes(
                    file, candidate, self._metadata, transpose, nav_dims
                )
            self.candidate = candidate
            self._shape = Shape(candidate.shape, sig_dims=len(candidate.shape) - candidate.nav_dims)
            if self._shape.size == 0:
                raise DataError(
                    f"{path}: {candidate.key} has the shape {candidate.shape}, which holds no frame"
                )
            self._dtype = candidate.dtype.newbyteorder("=")
            self._segments, self._valid, notes = locate_frames(file, path, candidate, allow_missing)
        self._starts = np.cumsum([0, *(s.frames for s in self._segments)])
        self._readers = ReaderCache(direct)
        first = next(s for s in self._segments if s.present)
        with damage_named(first.file):
            reader = self._readers.get(first, candidate)
            self._natural = natural_chunks(first, candidate, reader)
        self._counter = ReadCounter(reader.path, "; ".join(filter(None, [reader.reason, *notes])))
        self._identity = file_identity(path, "hdf5", key=candidate.key, **self._options)
        self._view = len(self._segments) == 1 and isinstance(reader, MappedReader) and reader.native

    @property
    def shape(self) -> Shape:
        """Navigation and signal shape."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type in native byte order."""
        return self._dtype

    @property
    def metadata(self) -> Metadata:
        """Calibration and context as the file states them."""
        return self._metadata

    @property
    def natural_chunks(self) -> tuple[int, ...]:
        """``(frames, *sig)`` extents that are cheap to read together."""
        return self._natural

    @property
    def identity(self) -> str:
        """Path, size, modification time, dataset and options."""
        return self._identity

    @property
    def is_view(self) -> bool:
        """True for contiguous datasets: tiles are views of the mapped file."""
        return self._view

    @property
    def valid(self) -> npt.NDArray[np.bool_] | None:
        """Bool per frame, False where a file is missing; None: all there."""
        return self._valid

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Everything in the file that `key` might name, best first."""
        with damage_named(self._path), open_file(self._path) as file:
            return find_candidates(file)

    def read(self, tile: TileSlice, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return the raw values of `tile`; see `Source.read`."""
        check_tile(tile, int(self._starts[-1]), tuple(self._shape.sig), self._path)
        began = time.perf_counter()
        if self._view:
            reader = self._readers.get(self._segments[0], self.candidate)
            assert isinstance(reader, MappedReader)  # what is_view means
            first = self._segments[0].first
            view = reader.view(first + tile.start, first + tile.stop, tile.sig)
            self._counter.add(view.nbytes)
            return view
        out = output_for(tile, self._dtype, out, self._path)
        index = max(0, int(np.searchsorted(self._starts, tile.start, side="right")) - 1)
        at = tile.start
        while at < tile.stop:
            segment, begin = self._segments[index], int(self._starts[index])
            stop = min(tile.stop, int(self._starts[index + 1]))
            if not segment.present:
                raise DataError(f"{self._path}: frames {at}:{stop} are missing: {segment.file}")
            offset = segment.first - begin
            self._readers.get(segment, self.candidate).read(
                at + offset, stop + offset, tile.sig, out[at - tile.start : stop - tile.start]
            )
            at, index = stop, index + 1
        self._counter.add(out.nbytes, time.perf_counter() - began)
        return out

    @property
    def path(self) -> str:
        """The file, as it was given."""
        return self._path

    def stats(self) -> ReadStats:
        """Return what was read so far in this process, and by which path."""
        return self._counter.stats()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._path, self.candidate.key, tuple(self._options.items()), self.identity)

    def __repr__(self) -> str:
        return f"<Hdf5Source {self._path} {self.candidate}>"


@functools.lru_cache(maxsize=8)
def _reopen(path: str, key: str, options: tuple[tuple[str, Any], ...], identity: str) -> Hdf5Source:
    """Open a source in a worker; once per process, as every task brings one along."""
    source = Hdf5Source(path, key, **dict(options))
    if source.identity != identity:
        raise DataError(f"{path} is not the file that was loaded: {identity} became {source.identity}")
    return source


def sniff(path: str, head: bytes) -> str | None:
    """Tell whether a file is HDF5: its signature lies at 0, or at 512, 1024, ... after a user block."""
    if head.startswith(_SIGNATURE):
        return None
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            offset = 512
            while offset + len(_SIGNATURE) <= size:
                file.seek(offset)
                if file.read(len(_SIGNATURE)) == _SIGNATURE:
                    return None
                offset *= 2
    except OSError as exc:
        return str(exc)
    return "no HDF5 signature"


FORMAT = Format(
    name="hdf5",
    description="HDF5: DECTRIS master, NeXus, CXI, EMD, Velox, hspy, MAT 7.3, or any dataset by key=",
    sniff=sniff,
    open=open_hdf5,
    extensions=(".h5", ".hdf5", ".nxs", ".cxi", ".emd", ".hspy", ".mat", ".he5", ".hdf"),
)
