"""Virtual datasets: which frames come from which source file, and which sources are missing.

HDF5 gives fill values where a source is missing. Those must never pass as data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.hdf5_layouts import Segment
from framefold.io.hdf5_read import open_file
from framefold.io.hdf5_tree import is_numeric

_ALL_MISSING = "nothing is mapped there"


@dataclass(frozen=True)
class Mapping:
    """What a virtual dataset is made of.

    Attributes
    ----------
    segments
        Frame ranges in source datasets when every mapping holds whole frames, else empty.
    valid
        Bool per frame: False where a source is missing or nothing is mapped.
    missing
        Source files that are not there, in the order of the frames.
    reason
        Why `segments` is empty.
    """

    segments: tuple[Segment, ...]
    valid: npt.NDArray[np.bool_]
    missing: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True)
class _Piece:
    start: int  # flat frames of the virtual dataset
    stop: int
    whole: bool  # whole, consecutive frames on both sides
    segment: Segment


def resolve(dataset: h5py.Dataset, nav_dims: int) -> Mapping:
    """Return what `dataset`, a virtual one, is made of."""
    nav, sig = dataset.shape[:nav_dims], dataset.shape[nav_dims:]
    frames = math.prod(nav)
    pieces = []
    known: dict[tuple[str, str], tuple[int, ...] | None] = {}
    for source in dataset.virtual_sources():
        path = _locate(dataset.file.filename, source.file_name)
        where = (str(path), source.dset_name)
        if where not in known:
            known[where] = _shape_of(dataset, *where)
        pieces.append(_piece(source, *where, known[where], nav, sig))
    pieces.sort(key=lambda p: p.start)
    covered = np.zeros(frames, np.int64)
    broken = np.zeros(frames, bool)
    for p in pieces:
        covered[p.start : p.stop] += 1
        if not p.segment.present:
            broken[p.start : p.stop] = True
    missing = tuple(dict.fromkeys(p.segment.file for p in pieces if not p.segment.present))
    valid = (covered > 0) & ~broken
    if all(p.whole for p in pieces) and (covered <= 1).all():
        return Mapping(_with_gaps(pieces, frames), valid, missing)
    return Mapping((), valid, missing, "virtual dataset whose sources are not whole frames")


def _locate(virtual: str, name: str) -> Path:
    if name == ".":
        return Path(virtual)
    # HDF5 looks beside the virtual file first; absolute names are taken as they are
    beside = Path(virtual).parent / name
    return beside if beside.exists() or not Path(name).exists() else Path(name)


def _shape_of(virtual: h5py.Dataset, path: str, key: str) -> tuple[int, ...] | None:
    """Return the shape of a source dataset, None if it is not there."""
    if path == virtual.file.filename:
        found = virtual.file.get(key)
        return found.shape if is_numeric(found) else None
    if not Path(path).is_file():
        return None
    with open_file(path) as file:
        found = file.get(key)
        return found.shape if is_numeric(found) else None


def _piece(
    source: Any,
    path: str,
    key: str,
    shape: tuple[int, ...] | None,
    nav: tuple[int, ...],
    sig: tuple[int, ...],
) -> _Piece:
    low, high = source.vspace.get_select_bounds()
    extent = tuple(b - a + 1 for a, b in zip(low, high, strict=True))
    start, stop = _flat(low, extent, nav)
    solid = source.vspace.get_select_npoints() == math.prod(extent)
    whole = solid and extent[len(nav) :] == sig and stop - start == math.prod(extent[: len(nav)])
    first = 0
    if shape is None:
        return _Piece(start, stop, whole, Segment(path, key, 0, stop - start, present=False))
    src_nav = len(shape) - len(sig)
    if src_nav < 0 or shape[src_nav:] != sig:
        return _Piece(start, stop, False, Segment(path, key, 0, stop - start))
    if source.src_space.get_select_type() == h5py.h5s.SEL_ALL:
        count = math.prod(shape[:src_nav])
    else:
        src_low, src_high = source.src_space.get_select_bounds()
        src_extent = tuple(b - a + 1 for a, b in zip(src_low, src_high, strict=True))
        first, end = _flat(src_low, src_extent, shape[:src_nav])
        count = min(end, math.prod(shape[:src_nav])) - first
        solid = source.src_space.get_select_npoints() == math.prod(src_extent)
        whole = (
            whole and solid and src_extent[src_nav:] == sig and end - first == math.prod(src_extent[:src_nav])
        )
    present = count >= stop - start  # a source that lost frames since gives fill values, too
    return _Piece(start, stop, whole, Segment(path, key, first, stop - start, present))


def _flat(low: tuple[int, ...], extent: tuple[int, ...], nav: tuple[int, ...]) -> tuple[int, int]:
    """Return the flat frame range that a box touches."""
    if not nav:
        return 0, 1
    n = len(nav)
    # a source may be shorter than its mapping says: clip, the caller compares the counts
    strides = [math.prod(nav[i + 1 :]) for i in range(n)]
    first = sum(o * s for o, s in zip(low, strides, strict=False))
    last = sum((o + e - 1) * s for o, e, s in zip(low, extent, strides, strict=False))
    return int(first), int(last) + 1


def _with_gaps(pieces: list[_Piece], frames: int) -> tuple[Segment, ...]:
    """Return the segments in order, with absent ones where nothing is mapped."""
    segments: list[Segment] = []
    at = 0
    for p in pieces:
        if p.start > at:
            segments.append(Segment(_ALL_MISSING, "", 0, p.start - at, present=False))
        last = segments[-1] if segments else None
        s = p.segment
        if last and (last.file, last.key, last.present, last.first + last.frames) == (
            s.file,
            s.key,
            s.present,
            s.first,
        ):
            segments[-1] = Segment(s.file, s.key, last.first, last.frames + s.frames, s.present)
        else:
            segments.append(s)
        at = p.stop
    if at < frames:
        segments.append(Segment(_ALL_MISSING, "", 0, frames - at, present=False))
    return tuple(segments)


def require_present(path: str, missing: tuple[str, ...], allow_missing: bool) -> None:
    """Raise `DataError` for missing files unless they are allowed."""
    if missing and not allow_missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{path}: {missing[0]}{more} is missing, which holds part of the frames. "
            "allow_missing=True loads the rest and marks these frames as invalid."
        )
