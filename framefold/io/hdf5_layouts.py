"""Which datasets of an HDF5 file are image stacks, best first: a pure function of an open file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from framefold.errors import DataError
from framefold.io.hdf5_tree import TooManyObjects, Tree, is_numeric, join, text, walk
from framefold.udfcore.metadata import Axis, Metadata

LARGER = 4  # the fallback takes the largest dataset if it is this many times larger than the next


@dataclass(frozen=True)
class Segment:
    """A run of frames of one dataset in one file; `present` is False where the file is missing."""

    file: str
    key: str
    first: int
    frames: int
    present: bool = True


@dataclass(frozen=True)
class Candidate:
    """A dataset that may be loaded.

    Attributes
    ----------
    key
        Path inside the file.
    shape
        Navigation axes first, after `transpose`.
    dtype
        As stored.
    nav_dims
        Number of navigation axes.
    layout
        Name of the convention, for instance ``"NeXus"``.
    transpose
        Axes of the stored dataset in the order of `shape`; None: as stored.
    note
        What a user should know.
    segments
        Where the frames are; empty: all in `key`.
    read_metadata
        Reads calibration and context from the open file.
    """

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    nav_dims: int
    layout: str
    transpose: tuple[int, ...] | None = None
    note: str = ""
    segments: tuple[Segment, ...] = ()
    read_metadata: Callable[[h5py.File], Metadata] = field(
        default=lambda file: Metadata(), repr=False, compare=False
    )

    def __str__(self) -> str:
        nav, sig = self.shape[: self.nav_dims], self.shape[self.nav_dims :]
        shape = f"({', '.join(map(str, nav))} | {', '.join(map(str, sig))})"
        return f"{self.key} {shape} {self.dtype} [{self.layout}]"


def find_candidates(file: h5py.File) -> tuple[Candidate, ...]:
    """Return everything that looks like an image stack, best first; empty if there is nothing."""
    from framefold.io import cxi, hdf5_dectris, hdf5_emd, hdf5_nexus, hdf5_velox

    found = list(hdf5_dectris.find(file))
    if found:  # its links may lead to a thousand files: no need to open them all
        return tuple(found)
    tree = walk(file)
    for finder in (cxi.find, hdf5_nexus.find, hdf5_emd.find, hdf5_velox.find):
        found.extend(finder(file, tree))
    found.extend(_generic(tree))
    unique: dict[str, Candidate] = {}
    for candidate in found:
        unique.setdefault(candidate.key, candidate)
    return tuple(unique.values())


def choose(file: h5py.File, key: str | None = None) -> Candidate:
    """Return the candidate of `key`, or the best one.

    Raises
    ------
    DataError
        If `key` names no dataset of numbers, or without `key` if nothing stands out; lists all candidates.
    """
    try:
        candidates = find_candidates(file)
    except TooManyObjects:
        if key is None:
            raise
        candidates = ()
    if key is not None:
        return _by_key(file, candidates, join(key))
    if not candidates:
        raise DataError(
            f"{file.filename}: no dataset of numbers with three or more axes. key= loads any other dataset."
        )
    best = candidates[0]
    if best.layout == "HDF5":
        rest = [math.prod(c.shape) for c in candidates[1:]]
        if rest and math.prod(best.shape) < LARGER * max(rest):
            raise DataError(
                f"{file.filename}: several datasets may be meant, say which with key=:\n{listing(candidates)}"
            )
    return best


def listing(candidates: tuple[Candidate, ...], most: int = 20) -> str:
    """Return one line per candidate."""
    lines = [f"  {c}" for c in candidates[:most]]
    if len(candidates) > most:
        lines.append(f"  ... and {len(candidates) - most} more")
    return "\n".join(lines) or "  (none)"


def plain(key: str, dataset: h5py.Dataset) -> Candidate:
    """Return the candidate for a dataset without any convention: the last two axes are the image."""
    nav_dims = max(0, len(dataset.shape) - 2)
    return Candidate(
        key,
        dataset.shape,
        dataset.dtype,
        nav_dims,
        "HDF5",
        read_metadata=lambda file: Metadata(axes=scale_axes(file[key])),
    )


def scale_axes(dataset: h5py.Dataset) -> tuple[Axis, ...]:
    """Return the axes that HDF5 dimension scales describe, empty if there are none."""
    axes = []
    for i, dim in enumerate(dataset.dims):
        if len(dim):
            scale = dim[0]
            units = text(scale.attrs.get("units", ""))
            axes.append(
                axis_from_values(
                    dim.label or scale.name.rsplit("/", 1)[-1], scale[()], dataset.shape[i], units
                )
            )
        else:
            axes.append(Axis(name=dim.label))
    return tuple(axes) if any(a != Axis() for a in axes) else ()


def axis_from_values(name: str, values: Any, n: int, units: str) -> Axis:
    """Return the axis with these coordinates: all `n` of them, or just the first two.

    Coordinates that are not equidistant cannot be an `Axis`: then it is in pixels.
    """
    v = np.asarray(values)
    if v.dtype.kind not in "iuf" or v.ndim != 1 or v.size not in (n, 2) or not np.isfinite(v).all():
        return Axis(name)
    v = v.astype(np.float64)
    if v.size < 2:
        return Axis(name, 1.0, float(v[0]) if v.size else 0.0, units)
    step = (v[-1] - v[0]) / (v.size - 1)
    if step == 0 or not np.allclose(np.diff(v), step, rtol=1e-3, atol=1e-6 * abs(step)):
        return Axis(name)
    return Axis(name, float(step), float(v[0]), units)


def _by_key(file: h5py.File, candidates: tuple[Candidate, ...], key: str) -> Candidate:
    for candidate in candidates:
        if candidate.key == key:
            return candidate
    try:
        obj = file[key]
    except (KeyError, OSError):
        raise DataError(
            f"{file.filename} has no dataset {key!r}. Candidates:\n{listing(candidates)}"
        ) from None
    for candidate in candidates:  # the same dataset by another name, or the group that holds it
        inside = candidate.key.startswith(key + "/") and isinstance(obj, h5py.Group)
        if inside or (not candidate.segments and candidate.key in file and file[candidate.key] == obj):
            return candidate
    if not is_numeric(obj):
        what = "a group" if isinstance(obj, h5py.Group) else f"of type {obj.dtype} and shape {obj.shape}"
        raise DataError(
            f"{file.filename}: {key!r} is {what}, not a dataset of numbers. "
            f"Candidates:\n{listing(candidates)}"
        )
    return plain(key, obj)


def _generic(tree: Tree) -> Iterator[Candidate]:
    stacks = [plain(k, d) for k, d in tree.datasets.items() if len(d.shape) >= 3]
    yield from sorted(stacks, key=lambda c: -math.prod(c.shape))
