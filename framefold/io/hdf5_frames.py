"""From a chosen dataset to its frames: where they are, how they are stored, which reader serves them."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import replace

import h5py
import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.hdf5_direct import DirectReader, SplitChunkReader, contiguous_offset, direct_reason
from framefold.io.hdf5_layouts import Candidate, Segment
from framefold.io.hdf5_mapped import MappedReader
from framefold.io.hdf5_read import FrameReader, H5Reader, damage_named, missing_filter, open_file
from framefold.io.hdf5_virtual import require_present, resolve
from framefold.io.rectangles import flat_depth
from framefold.udfcore.metadata import Metadata

OPEN_READERS = 64  # a series of a thousand data files must not exhaust file descriptors


def locate_frames(
    file: h5py.File, path: str, candidate: Candidate, allow_missing: bool
) -> tuple[tuple[Segment, ...], npt.NDArray[np.bool_] | None, list[str]]:
    """Return where the frames are, which of them are there, and remarks for `ReadStats`."""
    notes = [candidate.note] if candidate.note else []
    frames = math.prod(candidate.shape[: candidate.nav_dims])
    valid: npt.NDArray[np.bool_] | None
    missing: tuple[str, ...]
    segments: tuple[Segment, ...]
    if candidate.segments:
        missing = tuple(s.file for s in candidate.segments if not s.present)
        segments, valid = (
            candidate.segments,
            np.repeat([s.present for s in candidate.segments], [s.frames for s in candidate.segments]),
        )
    elif candidate.transpose is None and file[candidate.key].is_virtual:
        mapping = resolve(file[candidate.key], candidate.nav_dims)
        missing, valid = mapping.missing, mapping.valid
        segments = mapping.segments or (Segment(path, candidate.key, 0, frames),)
    else:
        dataset = file[candidate.key]
        # the same object by its own name in its own file, if a link led there
        segments = (Segment(dataset.file.filename, dataset.name, 0, frames),)
        missing, valid = (), _stated_valid(dataset, candidate)
    require_present(path, missing, allow_missing)
    if valid is None:
        return segments, None, notes
    if not valid.any():
        raise DataError(f"{path}: none of the frames of {candidate.key} is there")
    if valid.all():
        return segments, None, notes
    lost = int((~valid).sum())
    notes.append(
        f"{lost} of {frames} frames are missing" + (f" ({', '.join(missing[:3])})" if missing else "")
    )
    return segments, valid, notes


def _stated_valid(dataset: h5py.Dataset, candidate: Candidate) -> npt.NDArray[np.bool_] | None:
    """Return the flags that framefold's export writes as ``frame_valid``, None without them."""
    nav = candidate.shape[: candidate.nav_dims]
    flags = dataset.parent.get("frame_valid")
    if candidate.transpose is None and isinstance(flags, h5py.Dataset) and flags.shape == nav:
        return np.asarray(flags[()] != 0).reshape(-1)
    return None


def override_axes(
    file: h5py.File,
    candidate: Candidate,
    metadata: Metadata,
    transpose: tuple[int, ...] | None,
    nav_dims: int | None,
) -> tuple[Candidate, Metadata]:
    """Return candidate and metadata with the user's axis order and number of navigation axes."""
    shape, axes, order = candidate.shape, metadata.axes, candidate.transpose
    if transpose is not None:
        if candidate.segments:
            raise DataError(f"transpose= works on one dataset, {candidate.key} is a series of files")
        stored = file[candidate.key].shape
        if sorted(transpose) != list(range(len(stored))):
            raise DataError(
                f"transpose={transpose} must name each axis of {candidate.key}, shape {stored}, once: "
                f"an order of 0 .. {len(stored) - 1}"
            )
        old = order or tuple(range(len(stored)))
        if axes:
            axes = tuple(axes[old.index(a)] for a in transpose)
        shape = tuple(stored[a] for a in transpose)
        order = None if transpose == tuple(range(len(stored))) else transpose
    dims = candidate.nav_dims if nav_dims is None else nav_dims
    if not 0 <= dims <= len(shape) or (candidate.segments and dims != candidate.nav_dims):
        raise DataError(f"nav_dims={nav_dims} does not fit the shape {shape} of {candidate.key}")
    changed = replace(candidate, shape=shape, nav_dims=dims, transpose=order)
    return changed, replace(metadata, axes=axes)


class ReaderCache:
    """Open readers of one source, the most recent ones; shared by its threads."""

    def __init__(self, direct: bool = True) -> None:
        self._direct = direct
        self._scratch = threading.local()
        self._readers: OrderedDict[tuple[str, str], FrameReader] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, segment: Segment, candidate: Candidate) -> FrameReader:
        """Return the reader of the segment's dataset; opens it if need be."""
        where = (segment.file, segment.key)
        with self._lock:
            reader = self._readers.get(where)
            if reader is None:
                with damage_named(segment.file):
                    reader = open_reader(segment, candidate, direct=self._direct, scratch=self._scratch)
                self._readers[where] = reader
            self._readers.move_to_end(where)
            # one that is dropped here is closed by the last thread that still reads from it
            while len(self._readers) > OPEN_READERS:
                self._readers.popitem(last=False)
            return reader

    def __len__(self) -> int:
        return len(self._readers)


def natural_chunks(segment: Segment, candidate: Candidate, reader: FrameReader) -> tuple[int, ...]:
    """Return the ``(frames, *sig)`` extents that are cheap to read together."""
    sig = candidate.shape[candidate.nav_dims :]
    if isinstance(reader, MappedReader):
        return (1, *(1 for _ in sig[:-1]), *sig[-1:])
    with open_file(segment.file) as file:
        chunks, stored = file[segment.key].chunks, file[segment.key].shape
    if chunks is None:
        return (1, *sig)
    if candidate.transpose is not None:
        chunks = tuple(chunks[a] for a in candidate.transpose)
        stored = tuple(stored[a] for a in candidate.transpose)
    n = len(stored) - len(sig)
    return (flat_depth(chunks[:n], stored[:n]), *(min(c, s) for c, s in zip(chunks[n:], sig, strict=True)))


def open_reader(
    segment: Segment,
    candidate: Candidate,
    *,
    direct: bool,
    scratch: threading.local,
) -> FrameReader:
    """Return the fastest reader that the storage of the segment's dataset allows.

    Raises
    ------
    DataError
        If its frames differ from those of `candidate`, there are too few, or a filter is not installed.
    """
    sig, transpose = candidate.shape[candidate.nav_dims :], candidate.transpose
    dtype = candidate.dtype.newbyteorder("=")
    with open_file(segment.file) as file:
        dataset = file.get(segment.key)
        if not isinstance(dataset, h5py.Dataset):
            raise DataError(f"{segment.file} has no dataset {segment.key}")
        nav_dims = len(dataset.shape) - len(sig)
        stored = dataset.shape if transpose is None else tuple(dataset.shape[a] for a in transpose)
        if stored[nav_dims:] != sig or dataset.dtype.newbyteorder("=") != dtype:
            raise DataError(
                f"{segment.file}, dataset {segment.key}: frames of shape {stored[nav_dims:]} "
                f"{dataset.dtype}, the others have {sig} {dtype}"
            )
        if math.prod(stored[:nav_dims]) < segment.first + segment.frames:
            raise DataError(
                f"{segment.file}, dataset {segment.key} has {math.prod(stored[:nav_dims])} frames, "
                f"{segment.first + segment.frames} are expected"
            )
        reason = "direct=False" if not direct else ""
        if transpose is not None:
            reason = reason or "axes are transposed"
        if not reason:
            offset = contiguous_offset(dataset)
            if offset is not None:
                return MappedReader(segment.file, segment.key, offset, dataset.dtype, stored, len(sig))
            decoder, reason = direct_reason(dataset)
            if decoder is not None:
                fast = DirectReader(segment.file, segment.key, nav_dims, decoder, scratch)
                if dataset.chunks[nav_dims:] == sig:
                    return fast
                cut = f"chunks of {dataset.chunks} cut the frames"
                missing = missing_filter(dataset)
                if missing:
                    raise DataError(missing)
                slow = H5Reader(segment.file, segment.key, nav_dims, None, cut)
                return SplitChunkReader(fast, slow, dataset.chunks[nav_dims:])
        missing = missing_filter(dataset)
        if missing:
            raise DataError(missing)
        return H5Reader(segment.file, segment.key, nav_dims, transpose, reason)
