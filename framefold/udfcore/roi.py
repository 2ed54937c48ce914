"""Regions of interest: which frames a run looks at, and in which row of a buffer each one goes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RowMap:
    """The frames of a run in order; row *i* of every navigation buffer belongs to the *i*-th of them.

    Attributes
    ----------
    n_nav
        Frames of the whole dataset.
    ids
        Flat dataset indices of the rows, int64 increasing; None: all frames.
    offset
        ``sync_offset``: frame *i* of the dataset is frame ``i + offset`` of the source.
    bad
        Rows, increasing, whose frame the source cannot deliver.
    """

    n_nav: int
    ids: npt.NDArray[np.int64] | None
    offset: int
    bad: npt.NDArray[np.int64]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.n_nav if self.ids is None else len(self.ids)

    def frame_ids(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return flat dataset indices of the rows ``[start, stop)``."""
        if self.ids is None:
            return np.arange(start, stop, dtype=np.int64)
        return self.ids[start:stop]

    def segments(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield maximal ranges of rows inside ``[start, stop)`` that can be delivered."""
        lo, hi = np.searchsorted(self.bad, (start, stop)) if len(self.bad) else (0, 0)
        at = start
        for row in self.bad[lo:hi].tolist():
            if row > at:
                yield at, row
            at = row + 1
        if at < stop:
            yield at, stop

    def runs(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return ranges of source frames that make up the rows ``[start, stop)``, in order."""
        if self.ids is None:
            return [(start + self.offset, stop + self.offset)]
        ids = self.ids[start:stop]
        cuts = np.flatnonzero(np.diff(ids) != 1) + 1
        firsts = ids[np.concatenate(([0], cuts))] + self.offset
        lasts = ids[np.concatenate((cuts - 1, [len(ids) - 1]))] + self.offset + 1
        return list(zip(firsts.tolist(), lasts.tolist(), strict=True))

    def deliverable(self, start: int, stop: int) -> Flags:
        """Return a flag per row: whether the source has its frame."""
        flags = np.ones(stop - start, dtype=bool)
        if len(self.bad):
            lo, hi = np.searchsorted(self.bad, (start, stop))
            flags[self.bad[lo:hi] - start] = False
        return flags

    def expand(self, values: npt.NDArray[Any], fill: Any) -> npt.NDArray[Any]:
        """Return row values ``(n_rows, ...)`` as ``(n_nav, ...)``, `fill` where there is no row."""
        if self.ids is None:
            return values.copy()
        full = np.full((self.n_nav, *values.shape[1:]), fill, dtype=values.dtype)
        full[self.ids] = values
        return full


def row_map(n_nav: int, valid: Flags | None, offset: int, roi: Flags | None) -> RowMap:
    """Return the rows of a run; `valid` and `roi` are flat flags per dataset frame, or None."""
    ids = None if roi is None else np.flatnonzero(roi).astype(np.int64)
    if valid is None:
        bad = np.zeros(0, dtype=np.int64)
    else:
        bad = np.flatnonzero(~(valid if ids is None else valid[ids])).astype(np.int64)
    return RowMap(n_nav, ids, offset, bad)


def as_roi(roi: Any, nav: tuple[int, ...], name: str = "the dataset") -> Flags | None:
    """Return `roi` as a bool array of its own in navigation shape.

    Accepts an array in navigation or flat shape, scipy or pydata sparse arrays, one coordinate tuple,
    or an iterable of coordinates or of pairs (coordinate, bool).

    Raises
    ------
    DataError
        If the shape does not fit, with both shapes.
    """
    if roi is None:
        return None
    if not isinstance(roi, np.ndarray) and (hasattr(roi, "todense") or hasattr(roi, "toarray")):
        roi = np.asarray(roi.toarray() if hasattr(roi, "toarray") else roi.todense())
    if not isinstance(roi, np.ndarray):
        coordinates = _from_coordinates(roi, nav)
        if coordinates is not None:
            return coordinates
    mask = np.array(roi)
    if mask.dtype != np.bool_:
        warnings.warn(f"ROI dtype is {mask.dtype}, expected bool. Attempting cast to bool.", stacklevel=4)
        mask = mask.astype(bool)
    if mask.shape != nav:
        if mask.size != int(np.prod(nav, dtype=np.int64)) or mask.ndim != 1:
            raise DataError(f"roi has shape {mask.shape}, the navigation shape of {name} is {nav}.")
        mask = mask.reshape(nav)
    return mask


def _from_coordinates(roi: Any, nav: tuple[int, ...]) -> Flags | None:
    """Return a mask from one coordinate or an iterable of them, None if `roi` is neither."""
    n = len(nav)

    def is_coordinate(c: Any) -> bool:
        return (
            isinstance(c, (tuple, list))
            and len(c) == n
            and all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in c)
        )

    if isinstance(roi, (int, np.integer)) and not isinstance(roi, bool) and n == 1:
        roi = (roi,)
    entries: list[Any] | None = [roi] if isinstance(roi, tuple) and is_coordinate(roi) else None
    if entries is None:
        if isinstance(roi, (str, bytes)) or not hasattr(roi, "__iter__"):
            return None
        entries = list(roi)
        if n == 1:  # plain integers are coordinates of a 1-D scan, unless they are a 0/1 mask of its size
            whole = all(isinstance(e, (int, np.integer)) and not isinstance(e, bool) for e in entries)
            if whole and entries and len(entries) != nav[0]:
                entries = [(int(e),) for e in entries]
    if not entries:
        return None
    pairs = []
    for entry in entries:
        if is_coordinate(entry):
            pairs.append((tuple(entry), True))
        elif (
            isinstance(entry, tuple)
            and len(entry) == 2
            and is_coordinate(entry[0])
            and isinstance(entry[1], (bool, np.bool_))
        ):
            pairs.append((tuple(entry[0]), bool(entry[1])))
        else:
            return None
    # a list that only switches frames off starts from "all on"
    mask = np.full(nav, not any(on for _, on in pairs), dtype=bool)
    for coordinate, on in pairs:
        try:
            mask[coordinate] = on
        except IndexError as exc:
            raise DataError(f"roi coordinate {coordinate} lies outside the navigation shape {nav}") from exc
    return mask
