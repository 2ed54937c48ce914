"""Frames of one HDF5 dataset through h5py: any layout, any filter that is installed, any axis order."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import Any, Protocol

import h5py
import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.rectangles import rectangles

# HDF5 decodes a chunk again for every read that does not find it in its cache; the default of
# 1 MiB is smaller than one chunk of a modern detector
CHUNK_CACHE_BYTES = 32 * 1024**2


class FrameReader(Protocol):
    """Reads flat frame ranges of one dataset."""

    path: str
    reason: str

    def read(self, start: int, stop: int, sig: tuple[slice, ...], out: npt.NDArray[Any]) -> None:
        """Fill `out`, C-contiguous, shape ``(stop - start, *sig part)``."""
        ...


# what h5py raises, depending on where it meets damaged bytes
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, OverflowError, MemoryError)


@contextlib.contextmanager
def damage_named(path: str) -> Iterator[None]:
    """Turn what h5py raises for damaged files into a `DataError` that names the file."""
    try:
        yield
    except DataError:
        raise
    except DAMAGE as exc:
        raise DataError(f"{path} is damaged, or no HDF5 file that h5py can read: {exc!r}") from exc


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
        if "lock file" in text:
            text += ". If no program writes it, set HDF5_USE_FILE_LOCKING=FALSE in the environment"
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
        for where in rectangles(start, stop, self._nav):
            n = math.prod(s.stop - s.start for s in where)
            box = (*where, *sig)
            try:
                self.read_box(box, out[done : done + n].reshape([s.stop - s.start for s in box]))
            except (OSError, RuntimeError) as exc:
                raise self._blame(start + done, start + done + n, sig, exc) from exc
            done += n

    def read_box(self, box: tuple[slice, ...], out: npt.NDArray[Any]) -> None:
        """Fill `out` with a box of the dataset in the order nav, sig."""
        if self._in_order:
            self._hyperslab(box, out)
            return
        back = np.argsort(self._order)
        stored = tuple(box[a] for a in back)
        block = np.empty([s.stop - s.start for s in stored], out.dtype)
        self._hyperslab(stored, block)
        out[...] = block.transpose(self._order)

    def _hyperslab(self, box: tuple[slice, ...], out: npt.NDArray[Any]) -> None:
        extent = tuple(s.stop - s.start for s in box)
        file_space = self._dataset.id.get_space()
        if box:
            file_space.select_hyperslab(tuple(s.start for s in box), extent)
        memory = h5py.h5s.create_simple(extent) if box else h5py.h5s.create(h5py.h5s.SCALAR)
        self._dataset.id.read(memory, file_space, out)

    def _blame(self, start: int, stop: int, sig: tuple[slice, ...], exc: Exception) -> DataError:
        """Return the error for the first frame of the range that cannot be read on its own."""
        frame = start
        for frame in range(start, stop):
            (where,) = rectangles(frame, frame + 1, self._nav)
            box = (*where, *sig)
            try:
                self.read_box(
                    box, np.empty([s.stop - s.start for s in box], self._dataset.dtype.newbyteorder("="))
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
