"""Which rows of a run are merged, and what arrived of them, for UDFs that are folded alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.live import FrameStatus
from framefold.udfcore.live_plan import LivePlan
from framefold.udfcore.task import LivePart

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]
Kept = list[tuple[Array, Flags, Array]]


class RowBook:
    """The rows of a run as some of its UDFs know them; used under the lock of the merger.

    Parameters
    ----------
    rows
        How many.
    live
        Of the plan; None for files.
    groups
        Processes that each tell of some sectors of every row.

    Attributes
    ----------
    merged
        Flag per row.
    rows_done, n_frames
        Rows of which nothing is to come; rows that are merged.
    status, status_counts
        Live: `FrameStatus` per row, and how many rows have each.
    ids
        In runs without an end: the frame that each row holds, -1 before the first.
    """

    def __init__(self, rows: int, live: LivePlan | None, groups: int) -> None:
        self._live = live
        self.groups = groups
        self.merged: Flags = np.zeros(rows, dtype=bool)
        self.rows_done = 0
        self.n_frames = 0
        held = 0 if live is None else rows
        self.status = np.zeros(held, dtype=np.uint8)
        self.status_counts = np.zeros(len(FrameStatus), dtype=np.int64)
        endless = live is not None and live.geometry.endless
        self.ids = np.full(rows, -1, dtype=np.int64) if endless else None
        # rows that the large buffers hold, too; a worker that dies takes along what it has not shipped
        self._shipped = np.zeros(held, dtype=np.int16)
        # rows whose sectors come from several processes: how many are still to come, and what came
        self._to_come = np.full(held if groups > 1 else 0, groups, dtype=np.int16)
        self._so_far = np.zeros(len(self._to_come), dtype=np.uint8)

    @property
    def joins(self) -> bool:
        """Whether several processes tell of the same rows."""
        return len(self._to_come) > 0

    @property
    def shipped(self) -> Flags:
        """Rows that large buffers hold, from every process."""
        return self._shipped >= self.groups

    def add(
        self, start: int, stop: int, frames: int, deliverable: Flags | None, live: LivePart | None
    ) -> None:
        """Count the rows of a partial: `deliverable` ones from files, else what the stream tells."""
        if live is None:
            assert deliverable is not None
            self.rows_done += stop - start
            self.merged[start:stop] = deliverable
            self.n_frames += frames
            return
        assert self._live is not None
        if self.joins:
            self._join(start, stop, live.status)
            self.merged[start:stop] = self._live.usable(self.status[start:stop])
            self.merged[start:stop] &= self._to_come[start:stop] == 0
            self.n_frames = int(np.count_nonzero(self.merged))
            return
        self.rows_done += stop - start
        self.n_frames += frames
        status = live.status
        before = self.status[start:stop]
        if before.any() and self.ids is None:
            # two workers put the same block together, because a third was lost: each had some of it
            again = before != FrameStatus.UNSEEN
            self.status_counts -= np.bincount(before[again], minlength=len(FrameStatus))
            self.rows_done -= int(np.count_nonzero(again))
            status = np.where(again & (before != status), _joined(before, status), status).astype(np.uint8)
        self.status[start:stop] = status
        self.status_counts += np.bincount(status, minlength=len(FrameStatus))
        self.merged[start:stop] = self._live.usable(status)

    def ship(self, start: int, stop: int) -> None:
        """Note rows inside a delta of large buffers."""
        self._shipped[start:stop] += 1

    def _join(self, start: int, stop: int, status: npt.NDArray[np.uint8]) -> None:
        """Join what several processes say about the same frames; none is complete before all have spoken."""
        left, joined = self._to_come[start:stop], self._so_far[start:stop]
        first = joined == FrameStatus.UNSEEN
        self.status_counts -= np.bincount(self.status[start:stop][~first], minlength=len(FrameStatus))
        joined[...] = np.where(first | (joined == status), status, FrameStatus.PARTIAL)
        left -= 1
        waits = (left > 0) & (joined == FrameStatus.COMPLETE)
        self.status[start:stop] = np.where(waits, FrameStatus.PARTIAL, joined)
        self.status_counts += np.bincount(self.status[start:stop], minlength=len(FrameStatus))
        self.rows_done += int(np.count_nonzero(left == 0))

    def reuse(self, start: int, stop: int, shift: int, navs: Sequence[tuple[Array, Any]]) -> Kept:
        """Clear rows that hold older frames, in runs without an end.

        Parameters
        ----------
        start, stop, shift
            Rows, and the frame number of a row less the row.
        navs
            Navigation buffers and what their rows start with.

        Returns
        -------
        What is to be put back into rows that hold newer frames already, because a lane was slow.
        """
        if self.ids is None:
            return []
        ids, mine = self.ids[start:stop], np.arange(start, stop) + shift
        parts = [(a[start:stop], first) for a, first in navs]
        newer = ids > mine
        # another process may have spoken about these frames before: those rows hold them already
        old = (ids >= 0) & (ids < mine)
        if old.any():
            for rows, first in parts:
                rows[old] = first
        if self.joins:
            self._to_come[start:stop][ids < mine] = self.groups
            self._so_far[start:stop][ids < mine] = FrameStatus.UNSEEN
        ids[~newer] = mine[~newer]
        if not newer.any():
            return []
        own = (self._to_come, self._so_far) if self.joins else ()
        touched: list[Array] = [
            *(rows for rows, _ in parts), self.merged[start:stop], self.status[start:stop],
            *(a[start:stop] for a in own),
        ]  # fmt: skip
        return [(rows, newer, rows[newer].copy()) for rows in touched]


def _joined(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the better of two different things that were said about the same frames."""
    complete = (a == FrameStatus.COMPLETE) | (b == FrameStatus.COMPLETE)
    return np.where(complete, FrameStatus.COMPLETE, FrameStatus.PARTIAL).astype(np.uint8)
