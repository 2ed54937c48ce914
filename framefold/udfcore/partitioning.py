"""Cutting the rows of a run into partitions, by measured time or all at once."""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass
from typing import Literal, Protocol

from framefold.udfcore.task import Partial, Task

TARGET_SECONDS = 0.2
HEAD_SECONDS = 0.004  # twice what the head spends on a task: with many lanes their tasks must be longer
MIN_SECONDS = 0.005  # a partition costs about 0.2 ms beside its frames
MAX_PARTITION_BYTES = 256 * 1024**2


@dataclass(frozen=True)
class PartitionLimits:
    """What a partition may be.

    Attributes
    ----------
    n_rows
        Rows to cover.
    chunk
        Partitions are multiples of this many rows where possible.
    max_rows
        Upper limit, for instance by memory.
    first_rows
        Rows of the first partitions, before anything is measured.
    min_rows
        Rows that are not worth cutting further, before anything is measured.
    lanes
        Folds that run at the same time.
    fixed
        Exactly this many rows per partition, or None.
    borders
        All borders given beforehand, or None.
    """

    n_rows: int
    chunk: int
    max_rows: int
    first_rows: int
    lanes: int
    min_rows: int = 1
    fixed: int | None = None
    borders: tuple[int, ...] | None = None


class PartitionPlanner:
    """Hands out partitions one after the other; sizes follow the measured time per row.

    Thread-safe. Every row is handed out exactly once.
    """

    def __init__(self, limits: PartitionLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._at = 0
        self._index = 0
        self._rows = float(max(1, limits.first_rows))
        self._per_row: float | None = None

    def next(self) -> tuple[int, int, int] | None:
        """Return ``(index, start, stop)`` of the next partition, or None when all rows are out."""
        lim = self._limits
        with self._lock:
            if self._at >= lim.n_rows:
                return None
            start, index = self._at, self._index
            stop = self._stop(start, index)
            self._at, self._index = stop, index + 1
            return index, start, stop

    def _stop(self, start: int, index: int) -> int:
        lim = self._limits
        if lim.borders is not None:
            return lim.borders[index + 1]
        if lim.fixed is not None:
            return min(lim.n_rows, start + lim.fixed)
        left = lim.n_rows - start
        least = lim.min_rows if self._per_row is None else int(MIN_SECONDS / max(self._per_row, 1e-9))
        rows = min(int(self._rows), max(1, least, left // (2 * lim.lanes)), lim.max_rows)
        # aligned to the chunks of the file, so that no chunk is decoded twice
        stop = (start + max(rows, 1)) // lim.chunk * lim.chunk
        if stop <= start:
            stop = (start // lim.chunk + 1) * lim.chunk
        return min(lim.n_rows, stop)

    def done(self, partial: Partial) -> None:
        """Learn from a folded partition how long a row takes."""
        rows = sum(stop - start for _, start, stop in partial.tasks)
        if rows == 0 or partial.delta:
            return
        with self._lock:
            new = partial.seconds / rows
            self._per_row = new if self._per_row is None else 0.5 * (self._per_row + new)
            target = max(TARGET_SECONDS, HEAD_SECONDS * self._limits.lanes)
            wanted = target / max(self._per_row, 1e-9)
            self._rows = min(max(wanted, self._rows / 4, 1), self._rows * 4)

    @property
    def exhausted(self) -> bool:
        """Whether all rows are handed out."""
        return self._at >= self._limits.n_rows


class Idle(enum.Enum):
    """What a feed says when it has no task at the moment; more may come."""

    IDLE = "idle"


IDLE: Literal[Idle.IDLE] = Idle.IDLE


class Feed(Protocol):
    """Hands out the tasks of a run; thread-safe.

    Attributes
    ----------
    cancelled
        Set to end the run early: folds stop at their next block.
    live
        Whether tasks come when the data do, so that waiting for one says nothing.
    """

    cancelled: threading.Event
    live: bool

    def next(self) -> Task | Literal[Idle.IDLE] | None:
        """Return the next task, `IDLE` if none came for a while, or None when no other will come."""
        ...

    def done(self, partial: Partial) -> None:
        """Hear that a task was folded."""
        ...

    def update(self, version: int, patches: tuple[dict[str, object], ...]) -> None:
        """Use other parameters for all tasks from now on."""
        ...

    @property
    def version(self) -> int:
        """Version of the parameters that the next task gets."""
        ...


class TaskFeed:
    """Partitions with the parameters that are current when they are handed out."""

    live = False

    def __init__(self, planner: PartitionPlanner) -> None:
        self._planner = planner
        self._lock = threading.Lock()
        self._version = 0
        self._patches: tuple[dict[str, object], ...] = ()
        self.cancelled = threading.Event()

    def next(self) -> Task | None:
        """Return the next task, or None when the run is complete or cancelled."""
        if self.cancelled.is_set():
            return None
        with self._lock:
            version, patches = self._version, self._patches
        found = self._planner.next()
        if found is None:
            return None
        index, start, stop = found
        return Task(index, start, stop, version, patches)

    def done(self, partial: Partial) -> None:
        """Report a folded partition."""
        self._planner.done(partial)

    def update(self, version: int, patches: tuple[dict[str, object], ...]) -> None:
        """Use other parameters for all tasks from now on."""
        with self._lock:
            self._version, self._patches = version, patches

    @property
    def version(self) -> int:
        """Version of the parameters that the next task gets."""
        return self._version

    @property
    def exhausted(self) -> bool:
        """Whether no further task will come."""
        return self.cancelled.is_set() or self._planner.exhausted
