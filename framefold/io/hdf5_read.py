"""Frames of one HDF5 dataset through h5py: any layout, any filter that is installed, any axis order."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import h5py
import numpy as np
import numpy.typing as npt

from framefold.errors import DataError

# HDF5 decodes a chunk again for every read that does not find it in its cache; the default of
# 1 MiB is smaller than one chunk of a modern detector
CHUNK_CACHE_BYTES = 32 * 1024**2

Box = tuple[tuple[int, ...], tuple[int, ...]]


class FrameReader(Protocol):
    """Reads flat frame ranges of one dataset."""

    path: str
    reason: str

    def read(self, start: int, stop: int, sig: tuple[slice, ...], out: npt.NDArray[Any]) -> None:
        """Fill `out`, C-contiguous, shape ``(stop - start, *sig part)``."""
        ...


def boxes(start: int, stop: int, shape: Sequence[int]) -> Iterator[Box]:
    """Yield the fewest (origin, extent) boxes of `shape` that cover the flat range in C order.

    >>> list(boxes(3, 9, (3, 4)))
    [((0, 3), (1, 1)), ((1, 0), (1, 4)), ((2, 0), (1, 1))]
    """
    if stop <= start:
        return
    if len(shape) <= 1:
        yield (((start,), (stop - start,)) if shape else ((), ()))
        return
    inner = math.prod(shape[1:])
    (row0, col0), (row1, col1) = divmod(start, inner), divmod(stop, inner)
    if row0 == row1:
        for origin, extent in boxes(col0, col1, shape[1:]):
            yield (row0, *origin), (1, *extent)
        return
    if col0:
        for origin, extent in boxes(col0, inner, shape[1:]):
            yield (row0, *origin), (1, *extent)
        row0 += 1
    if row1 > row0:
        yield (row0, *(0 for _ in shape[1:])), (row1 - row0, *shape[1:])
    if col1:
        for origin, extent in boxes(0, col1, shape[1:]):
            yield (row1, *origin), (1, *extent)


def open_file(path: str) -> h5py.File:
    """Open an HDF5 file for reading, or raise `DataError` that says why it cannot be."""
    try:
        return h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE_BYTES)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a directory, not an HDF5 file") from None
    except OSError as exc:
        text = str(exc)
        if "truncated file" in text:
            raise DataError(f"{path} is truncated: HDF5 says {text}. Copy the file again.") from exc
        raise DataError(f"{path} cannot be opened as HDF5: {text}") from exc


class H5Reader:
    """Reads through h5py, under its global lock.

    Parameters
    ----------
    file, key
        Where the dataset is.
    transpose
        Axes of the dataset in the order nav, sig; None: as stored.
    nav_dims
        Number of navigation axes, after `transpose`.
    reason
        Why no faster path is taken.
    """

    path = "h5py"

    def __init__(
        self, file: str, key: str, nav_dims: int, transpose: tuple[int, ...] | None = None, reason: str = ""
    ) -> None:
        self.file, self.key, self.reason = file, key, reason
        self._handle = open_file(file)
        self._dataset = self._handle[key]
        order = tuple(range(self._dataset.ndim)) if transpose is None else transpose
        self._order = order
        self._in_order = order == tuple(range(self._dataset.ndim))
        self._shape = tuple(self._dataset.shape[a] for a in order)
        self._nav = self._shape[:nav_dims]
        self._lock = threading.Lock()

    def read(self, start: int, stop: int, sig: tuple[slice, ...], out: npt.NDArray[Any]) -> None:
        """Fill `out` with the frames; see `FrameReader`."""
        done = 0
        for origin, extent in boxes(start, stop, self._nav):
            n = math.prod(extent)
            full_origin = (*origin, *(s.start for s in sig))
            full_extent = (*extent, *(s.stop - s.start for s in sig))
            part = out[done : done + n].reshape(full_extent)
            try:
                self._read_box(full_origin, full_extent, part)
            except (OSError, RuntimeError) as exc:
                raise self._blame(start + done, start + done + n, sig, exc) from exc
            done += n

    def _read_box(self, origin: tuple[int, ...], extent: tuple[int, ...], out: npt.NDArray[Any]) -> None:
        if self._in_order:
            self._hyperslab(origin, extent, out)
            return
        back = np.argsort(self._order)
        stored = tuple(extent[a] for a in back)
        block = np.empty(stored, out.dtype)
        self._hyperslab(tuple(origin[a] for a in back), stored, block)
        out[...] = block.transpose(self._order)

    def _hyperslab(self, origin: tuple[int, ...], extent: tuple[int, ...], out: npt.NDArray[Any]) -> None:
        file_space = self._dataset.id.get_space()
        if extent:
            file_space.select_hyperslab(origin, extent)
        memory = h5py.h5s.create_simple(extent) if extent else h5py.h5s.create(h5py.h5s.SCALAR)
        self._dataset.id.read(memory, file_space, out)

    def _blame(self, start: int, stop: int, sig: tuple[slice, ...], exc: Exception) -> DataError:
        """Return the error for the first frame of the range that cannot be read on its own."""
        frame = start
        one = np.empty((1, *(s.stop - s.start for s in sig)), self._dataset.dtype.newbyteorder("="))
        for frame in range(start, stop):
            (origin, extent), *_ = boxes(frame, frame + 1, self._nav)
            try:
                self._read_box(
                    (*origin, *(s.start for s in sig)),
                    (*extent, *one.shape[1:]),
                    one.reshape(*extent, *one.shape[1:]),
                )
            except (OSError, RuntimeError):
                break
        return DataError(
            f"{self.file}, dataset {self.key}: frame {frame}{self._chunk_of(frame)} cannot be read: {exc}"
            f"{describe_filters(self._dataset)}"
        )

    def _chunk_of(self, frame: int) -> str:
        if self._dataset.chunks is None or not self._nav or not self._in_order:
            return ""
        index = np.unravel_index(frame, self._nav)
        corner = tuple(int(i) // c * c for i, c in zip(index, self._dataset.chunks, strict=False))
        return f" (chunk at {(*corner, *(0 for _ in self._shape[len(self._nav) :]))})"


def filters_of(dataset: h5py.Dataset) -> list[tuple[int, tuple[int, ...], str]]:
    """Return (id, cd_values, name) per filter of the pipeline, in the order of writing."""
    plist = dataset.id.get_create_plist()
    found = []
    for i in range(plist.get_nfilters()):
        code, _flags, values, name = plist.get_filter(i)
        found.append((int(code), tuple(int(v) for v in values), name.decode(errors="replace").split(";")[0]))
    return found


def describe_filters(dataset: h5py.Dataset) -> str:
    """Return ``"; filters: 32008 (bitshuffle)"``, or an empty string where there are none."""
    named = [f"{code} ({name})" if name else str(code) for code, _, name in filters_of(dataset)]
    return f"; filters: {', '.join(named)}" if named else ""


def missing_filter(dataset: h5py.Dataset) -> str:
    """Return why HDF5 itself cannot decode `dataset`, empty if it can; loads hdf5plugin if that helps."""
    unknown = [f for f in filters_of(dataset) if not h5py.h5z.filter_avail(f[0])]
    if unknown:
        with contextlib.suppress(ImportError):
            import hdf5plugin  # noqa: F401  # registers its filters with HDF5
        unknown = [f for f in unknown if not h5py.h5z.filter_avail(f[0])]
    if not unknown:
        return ""
    code, _, name = unknown[0]
    return (
        f"{dataset.file.filename}, dataset {dataset.name}: filter {code}{f' ({name})' if name else ''} "
        "is not available. Install it: pip install 'framefold[formats]' (hdf5plugin has most filters)."
    )
