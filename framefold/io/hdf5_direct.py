"""The fast path of HDF5: chunks read from the file and decoded in the calling thread, past HDF5's lock.

h5py decodes under one global lock, so that two threads gain nothing. Here a chunk is read with
``pread`` (within the noise of a memory map, and a file that shrinks gives an error instead of SIGBUS).
"""

from __future__ import annotations

import itertools
import math
import os
import threading
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.hdf5_filters import Decoder, find_decoder
from framefold.io.hdf5_read import H5Reader, describe_filters, filters_of, open_file
from framefold.io.rectangles import rectangles

MOST_CHUNKS = 50_000_000  # the index of more would not fit memory


@dataclass(frozen=True)
class ChunkIndex:
    """Where the chunks lie, one entry per chunk in C order of `grid`; offset -1: not allocated."""

    grid: tuple[int, ...]
    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    mask: npt.NDArray[np.uint32]

    def where(self, number: int) -> tuple[int, ...]:
        """Return the place of a chunk in the grid."""
        return tuple(int(i) for i in np.unravel_index(number, self.grid))


def plain_type_reason(dataset: h5py.Dataset) -> str:
    """Return why the elements of `dataset` are not plain numbers as numpy holds them, empty if they are."""
    kind = dataset.dtype.kind
    if kind not in "iuf":
        return f"elements of type {dataset.dtype} are not plain integers or floats"
    if dataset.id.get_type() != h5py.h5t.py_create(dataset.dtype):
        return "elements have a layout that numpy does not know (enum, odd precision)"
    return ""


def contiguous_offset(dataset: h5py.Dataset) -> int | None:
    """Return the file offset of a contiguous dataset, None if it has none."""
    plist = dataset.id.get_create_plist()
    if plist.get_layout() != h5py.h5d.CONTIGUOUS or plist.get_external_count():
        return None
    if userblock_reason(dataset) or plain_type_reason(dataset):
        return None
    offset = dataset.id.get_offset()
    return None if offset is None else int(offset)


def userblock_reason(dataset: h5py.Dataset) -> str:
    """Return why chunk addresses cannot be trusted, empty if they can."""
    # whether an address counts the user block differs between releases of HDF5
    return "the file has a user block" if dataset.file.userblock_size else ""


def direct_reason(dataset: h5py.Dataset) -> tuple[Decoder | None, str]:
    """Return the decoder of the fast path, or None and the rule that `dataset` violates."""
    plist = dataset.id.get_create_plist()
    reason = plain_type_reason(dataset) or userblock_reason(dataset)
    if reason:
        return None, reason
    if dataset.is_virtual:
        return None, "virtual dataset whose sources are not whole frames"
    if plist.get_external_count():
        return None, "external raw storage"
    layout = plist.get_layout()
    if layout != h5py.h5d.CHUNKED:
        return (
            None,
            "compact layout" if layout == h5py.h5d.COMPACT else "contiguous layout without an address",
        )
    if math.prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True)) > MOST_CHUNKS:
        return None, f"more than {MOST_CHUNKS} chunks"
    if dataset.file.driver not in ("sec2", "stdio"):
        return None, f"the file is opened through the driver {dataset.file.driver!r}"
    return find_decoder(filters_of(dataset), dataset.dtype.itemsize)


def read_index(dataset: h5py.Dataset) -> ChunkIndex:
    """Return the chunk index of a chunked dataset (512 chunks: 0.2 ms)."""
    grid = tuple(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
    offset = np.full(grid, -1, np.int64)
    size = np.zeros(grid, np.int64)
    mask = np.zeros(grid, np.uint32)
    chunks = dataset.chunks

    def store(info: Any) -> None:
        where = tuple(o // c for o, c in zip(info.chunk_offset, chunks, strict=True))
        offset[where], size[where], mask[where] = info.byte_offset, info.size, info.filter_mask

    dataset.id.chunk_iter(store)
    return ChunkIndex(grid, offset.reshape(-1), size.reshape(-1), mask.reshape(-1))


class DirectReader:
    """Reads chunked datasets past HDF5's lock.

    A thread keeps the last chunk it decoded, so that tiles thinner than a chunk decode it once.

    Parameters
    ----------
    file, key
        Where the dataset is.
    nav_dims
        Number of navigation axes.
    decoder
        As `direct_reason` gives it.
    scratch
        Buffers of the calling thread; one for all readers of a source, so that memory stays bounded.
    """

    path = "direct"

    def __init__(
        self, file: str, key: str, nav_dims: int, decoder: Decoder, scratch: threading.local
    ) -> None:
        self.file, self.key, self.reason = file, key, ""
        with open_file(file) as handle:
            dataset = handle[key]
            self._index = read_index(dataset)
            self._shape, self._chunks = dataset.shape, dataset.chunks
            self._stored_dtype = dataset.dtype
            self._fill = dataset.fillvalue
            self._filters = describe_filters(dataset)
        self._decoder = decoder
        self._nav_dims = nav_dims
        self._nbytes = math.prod(self._chunks) * self._stored_dtype.itemsize
        self._frame = self._chunks[nav_dims:]
        # a chunk is a frame, so that chunks are numbered as frames are
        self._single = self._frame == self._shape[nav_dims:] and math.prod(self._chunks[:nav_dims]) == 1
        self._file_bytes = os.stat(file).st_size
        self._largest = min(self._file_bytes, int(self._index.size.max(initial=0)))
        self._fd = os.open(file, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self._own = scratch
        self._fallback: H5Reader | None = None
        self._lock = threading.Lock()

    def __del__(self) -> None:
        fd = self.__dict__.pop("_fd", None)
        if fd is not None:
            os.close(fd)

    def read(self, start: int, stop: int, sig: tuple[slice, ...], out: npt.NDArray[Any]) -> None:
        """Fill `out` with the frames; see `FrameReader`."""
        if self._single and out.shape[1:] == self._frame:
            # 10 us less per frame than cutting boxes along all axes
            for number, target in zip(range(start, stop), out, strict=True):
                if not self._straight(number, target):
                    pixels = self._chunk(number)
                    target[...] = self._fill if pixels is None else pixels.reshape(self._frame)
            return
        done = 0
        for where in rectangles(start, stop, self._shape[: self._nav_dims]):
            box = (*where, *sig)
            n = math.prod(s.stop - s.start for s in where)
            part = out[done : done + n].reshape([s.stop - s.start for s in box])
            # per axis: (chunk number, part of the chunk, part of the box)
            axes = [_overlaps(s.start, s.stop, c) for s, c in zip(box, self._chunks, strict=True)]
            for combination in itertools.product(*axes):
                number = int(np.ravel_multi_index([c[0] for c in combination], self._index.grid))
                pixels = self._chunk(number)
                target = part[tuple(c[2] for c in combination)]
                target[...] = self._fill if pixels is None else pixels[tuple(c[1] for c in combination)]
            done += n

    def _straight(self, number: int, target: npt.NDArray[Any]) -> bool:
        """Decode a chunk into `target`; False where that is not possible."""
        into, offset = self._decoder.decode_into, int(self._index.offset[number])
        if into is None or offset < 0 or self._index.mask[number] or not self._stored_dtype.isnative:
            return False
        self._own.holds = None
        stored = self._stored(number, offset, int(self._index.size[number]))
        try:
            into(stored, target)
        except ValueError as exc:
            raise self._corrupt(number, str(exc)) from exc
        return True

    def _chunk(self, number: int) -> npt.NDArray[Any] | None:
        """Return the pixels of a chunk in its full shape, None where it was never written."""
        own, me = self._own, (id(self), number)
        if getattr(own, "holds", None) == me:
            kept: npt.NDArray[Any] = own.pixels
            return kept
        offset = int(self._index.offset[number])
        if offset < 0:
            return None
        own.holds = None
        if self._index.mask[number]:
            own.pixels = self._by_hdf5(self._index.where(number))
        else:
            stored = self._stored(number, offset, int(self._index.size[number]))
            try:
                buffer = self._decoder.decode(stored, self._nbytes)
            except ValueError as exc:
                raise self._corrupt(number, str(exc)) from exc
            own.pixels = np.frombuffer(buffer, self._stored_dtype).reshape(self._chunks)
        own.holds = me
        return own.pixels

    def _stored(self, number: int, offset: int, size: int) -> memoryview:
        own = self._own
        if size > self._file_bytes:
            raise self._corrupt(number, f"it states {size} stored bytes, the file has {self._file_bytes}")
        if len(getattr(own, "buffer", b"")) < size:
            own.buffer = memoryview(bytearray(max(size, self._largest)))
        stored: memoryview = own.buffer[:size]
        got = os.preadv(self._fd, [stored], offset)
        if got != size:
            raise self._corrupt(
                number, f"the file ends {size - got} bytes inside it (truncated after it was opened?)"
            )
        return stored

    def _by_hdf5(self, where: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return a chunk that was stored with some of its filters skipped."""
        with self._lock:
            if self._fallback is None:
                self._fallback = H5Reader(self.file, self.key, len(self._chunks))
        box = tuple(
            slice(w * c, min((w + 1) * c, n))
            for w, c, n in zip(where, self._chunks, self._shape, strict=True)
        )
        pixels = np.zeros(self._chunks, self._stored_dtype.newbyteorder("="))
        inside = np.empty([s.stop - s.start for s in box], pixels.dtype)
        self._fallback.read_box(box, inside)
        pixels[tuple(slice(0, n) for n in inside.shape)] = inside
        return pixels

    def _corrupt(self, number: int, cause: str) -> DataError:
        where = self._index.where(number)
        corner = tuple(w * c for w, c in zip(where, self._chunks, strict=True))
        nav = self._nav_dims
        frame = int(np.ravel_multi_index(corner[:nav], self._shape[:nav])) if nav else 0
        return DataError(
            f"{self.file}, dataset {self.key}: the chunk at {corner} (frame {frame}) is corrupt: "
            f"{cause}{self._filters}"
        )


def _overlaps(start: int, stop: int, chunk: int) -> list[tuple[int, slice, slice]]:
    """Return (chunk number, slice of the chunk, slice of ``start:stop``) for all chunks of one axis."""
    found = []
    for number in range(start // chunk, -(-stop // chunk)):
        a, b = max(start, number * chunk), min(stop, (number + 1) * chunk)
        found.append((number, slice(a - number * chunk, b - number * chunk), slice(a - start, b - start)))
    return found


class SplitChunkReader:
    """Reads datasets whose chunks hold parts of frames: tiles inside one chunk directly, others by `slow`.

    A tile that crosses chunks would need each of them for a few frames only, and decode it again
    for the next tile; HDF5 keeps several decoded chunks.
    """

    path = "h5py"

    def __init__(self, fast: DirectReader, slow: H5Reader, sig_chunk: tuple[int, ...]) -> None:
        self._fast, self._slow, self._sig_chunk = fast, slow, sig_chunk
        self.reason = slow.reason

    def read(self, start: int, stop: int, sig: tuple[slice, ...], out: npt.NDArray[Any]) -> None:
        """Fill `out` with the frames; see `FrameReader`."""
        inside = all(s.start // c == (s.stop - 1) // c for s, c in zip(sig, self._sig_chunk, strict=True))
        (self._fast if inside else self._slow).read(start, stop, sig, out)
