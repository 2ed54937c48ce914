"""The blocks of a live stream as tasks: a thread takes what closes, lanes fold it, the ring gets it back."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from framefold.errors import StreamError
from framefold.executor.base import Executor, Job
from framefold.udfcore.live import (
    AcquisitionEnd,
    AcquisitionStart,
    Block,
    EndReason,
    FoldsOnReceipt,
    SectorStats,
    Stream,
)
from framefold.udfcore.live_fold import row_ranges
from framefold.udfcore.live_receipt import FoldOnReceipt, folds_on_receipt
from framefold.udfcore.partitioning import IDLE, Idle
from framefold.udfcore.plan import Plan
from framefold.udfcore.task import LiveTask, Partial

log = logging.getLogger("framefold")
POLL_SECONDS = 0.05
JOIN_SECONDS = 10.0


@dataclass(slots=True)
class _Hold:
    """A block and how many of its tasks are not done."""

    block: Block
    tasks: int
    pieces: tuple[int, ...]


class LiveFeed:
    """Hands out the closed blocks of one acquisition.

    Parameters
    ----------
    stream
        Prepared, or prepared before `begin`.
    start_timeout
        Seconds to wait for the announcement of the acquisition; None: for ever.
    checks
        Check the accounts at the end; a stream that takes only some of its blocks does so itself.
    on_receipt
        Let the threads that receive fold, where they can and it makes no difference.

    Attributes
    ----------
    unwanted
        Valid pieces per sector of blocks that no row of the run needs.
    end
        Why the acquisition ended; None before.
    """

    live = True

    def __init__(
        self, stream: Stream, start_timeout: float | None, *, checks: bool = True, on_receipt: bool = False
    ) -> None:
        self._stream = stream
        self._checks = checks
        self._on_receipt = on_receipt
        self._receipt: FoldOnReceipt | None = None
        self._timeout = start_timeout
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[LiveTask | None] = queue.SimpleQueue()
        self._blocks: dict[int, _Hold] = {}
        self._tasks = 0
        self._seen: list[int] = []
        self._damaged: list[int] = []  # pieces that could not be decoded where they were folded
        self._version = 0
        self._patches: tuple[dict[str, object], ...] = ()
        self._thread: threading.Thread | None = None
        self._plan: Plan | None = None
        self._idle = 0.1
        self._stopping: EndReason | None = None
        self.cancelled = threading.Event()
        self.announced = threading.Event()
        self.error: BaseException | None = None
        self.broken: StreamError | None = None
        self.start: AcquisitionStart | None = None
        self.end: AcquisitionEnd | None = None
        self._stats: tuple[SectorStats, ...] = ()
        self.unwanted: tuple[int, ...] = ()
        self.blocks = 0
        self.frames = 0
        self.first_time: float | None = None
        self.last_time: float | None = None

    # --- the head's side ---------------------------------------------------------------------

    def wait_start(self) -> AcquisitionStart:
        """Return what the acquisition announces.

        Raises
        ------
        StreamError
            If it does not begin in time; or what `fail` was given.
        """
        try:
            self.start = self._stream.wait_start(self._timeout)
        except StreamError:
            if self.error is not None:
                raise self.error from None
            raise
        return self.start

    def begin(self, plan: Plan) -> None:
        """Take blocks from now on, in a thread of its own."""
        assert plan.live is not None
        self._plan = plan
        self._idle = max(0.005, min(0.1, plan.live.publish_interval))
        every = plan.live.geometry.start.sectors
        self._seen = [0] * len(every if plan.live.own is None else plan.live.own)
        self._thread = threading.Thread(target=self._pump, name="framefold-pump", daemon=True)
        self._thread.start()

    def stop(self, reason: EndReason = "stopped") -> None:
        """End the acquisition; what has arrived is still folded."""
        self._stopping = self._stopping or reason
        self._stream.stop(reason)

    def fail(self, exc: BaseException) -> None:
        """End the run with an error from elsewhere."""
        self.error = self.error or exc
        self._queue.put(None)
        self._stream.stop("error")

    def close(self) -> None:
        """Take no more blocks; waits for the thread."""
        self.cancelled.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            if thread.is_alive():
                self._stream.stop("error")
            thread.join(JOIN_SECONDS)
            if thread.is_alive():
                log.warning("the stream did not answer for %g s when it was closed", JOIN_SECONDS)
        with contextlib.suppress(StreamError):  # a stream that could not be opened has none
            self._stats = self._stats or self._stream.stats()

    def accounts(self) -> tuple[SectorStats, ...]:
        """Return the accounts now, or as they were at the end."""
        stats = self._stats or self._stream.stats()
        with self._lock:
            damaged = list(self._damaged)
        return tuple(_damaged(s, n) for s, n in zip(stats, damaged or [0] * len(stats), strict=True))

    @property
    def span(self) -> tuple[int, int, float]:
        """Blocks and frames so far, and the seconds between their first and last packet."""
        seconds = (self.last_time or 0.0) - (self.first_time or 0.0)
        return self.blocks, self.frames, seconds

    def partials(self, executor: Executor, job: Job) -> Iterator[Partial]:
        """Yield what `executor` makes of all blocks.

        Raises
        ------
        StreamError
            If the stream ended with an error: what came before it is folded first.
        """
        yield from executor.run(job)
        if self.broken is not None and not self.cancelled.is_set():
            raise self.broken

    # --- what executors call -----------------------------------------------------------------

    def next(self) -> LiveTask | Literal[Idle.IDLE] | None:
        """Return the next block as a task; see `Feed`."""
        if self.cancelled.is_set():
            return None
        try:
            task = self._queue.get(timeout=self._idle)
        except queue.Empty:
            return None if self.cancelled.is_set() else IDLE
        if task is None:
            self._queue.put(None)  # for the other lanes
            if self.error is not None:
                raise self.error
            return None
        with self._lock:
            version, patches = self._version, self._patches
        if version:
            return replace(task, params_version=version, patches=patches)
        return task

    def done(self, partial: Partial) -> None:
        """Give the block of a folded task back to the ring."""
        with self._lock:
            hold = self._blocks.pop(partial.tasks[0][0])
            hold.tasks -= 1
            free = hold.tasks == 0
            if partial.live is not None and partial.live.damaged:
                before = self._damaged or [0] * len(partial.live.damaged)
                self._damaged = [a + b for a, b in zip(before, partial.live.damaged, strict=True)]
        if free:
            if partial.live is not None:
                partial.live.arrived = hold.pieces
            self._stream.release(hold.block)

    def update(self, version: int, patches: tuple[dict[str, object], ...]) -> None:
        """Use other parameters for all tasks from now on."""
        with self._lock:
            self._version, self._patches = version, patches
            if self._receipt is not None:
                self._receipt.update(version, patches)

    @property
    def version(self) -> int:
        """Version of the parameters that the next task gets."""
        return self._version

    # --- the thread --------------------------------------------------------------------------

    def _pump(self) -> None:
        try:
            if self.start is None:
                self._announce()
            self._attach()
            self.announced.set()
            while self.end is None and not self.cancelled.is_set():
                item = self._stream.next_block(POLL_SECONDS)
                if isinstance(item, AcquisitionEnd):
                    self.end = item
                elif item is not None:
                    self._take(item)
            self._stats = self._stream.stats()
            if self.end is not None and self.end.reason == "error":
                self.broken = StreamError(self.end.text or "the stream ended with an error")
            elif self.end is not None and self._checks:
                check_accounts(self._stats, self._seen)
        except BaseException as exc:  # noqa: BLE001  # raised in the lane that asks for the next task
            if self._stopping is not None and self.start is None and isinstance(exc, StreamError):
                self.end = AcquisitionEnd(self._stopping, -1)
            else:
                self.error = self.error or exc
        finally:
            self._queue.put(None)

    def _attach(self) -> None:
        """Let the stream fold what it receives, where nobody can tell the difference."""
        assert self._plan is not None
        if not (
            self._on_receipt and isinstance(self._stream, FoldsOnReceipt) and folds_on_receipt(self._plan)
        ):
            return
        receipt = FoldOnReceipt(self._plan, self.fail)
        with self._lock:
            self._receipt = receipt
            receipt.update(self._version, self._patches)
        self._stream.fold_on_receipt(receipt)

    def _announce(self) -> None:
        assert self._plan is not None
        assert self._plan.live is not None
        start, expected = self._stream.wait_start(self._timeout), self._plan.live.geometry.start
        for name in ("sig_shape", "dtype"):
            if getattr(start, name) != getattr(expected, name):
                raise StreamError(
                    f"the acquisition has {name} {getattr(start, name)}, the run was prepared for "
                    f"{getattr(expected, name)}: detector and source disagree"
                )
        self.start = start

    def _take(self, block: Block) -> None:
        plan = self._plan
        assert plan is not None
        pieces = tuple(int(np.count_nonzero(flags)) for flags in block.valid)
        for i, n in enumerate(pieces):
            self._seen[i] += n
        self.frames += block.frames
        self.first_time = self.first_time or block.t_first or None
        self.last_time = block.t_last or self.last_time
        ranges = row_ranges(plan, block)
        if not ranges:
            self._stream.release(block)
            self.unwanted = tuple(
                a + n for a, n in zip(self.unwanted or (0,) * len(pieces), pieces, strict=True)
            )
        self.blocks += 1
        hold = _Hold(block, len(ranges), pieces)
        for start, stop, shift in ranges:
            with self._lock:
                self._blocks[self._tasks] = hold
            self._queue.put(LiveTask(self._tasks, start, stop, block=block, shift=shift))
            self._tasks += 1  # merging in order needs numbers without gaps
        assert plan.live is not None
        last = plan.rows.n_nav + plan.rows.offset
        if (
            self._stopping is None
            and not plan.live.geometry.endless
            and block.first_frame + block.frames >= last
        ):
            self.stop("n_frames")


def _damaged(stats: SectorStats, n: int) -> SectorStats:
    """Return the accounts with `n` pieces moved from valid to corrupt."""
    if not n:
        return stats
    return replace(stats, valid=stats.valid - n, corrupt=stats.corrupt + n, lost=stats.lost + n)


def check_accounts(stats: Sequence[SectorStats], seen: Sequence[int]) -> None:
    """Check that the accounts of the sectors add up; `seen` are valid pieces counted in the blocks.

    Raises
    ------
    StreamError
        If not: this is a defect of the receiver, and no number can be trusted.
    """
    for s, popcount in zip(stats, seen, strict=True):
        fates = s.valid + s.duplicate + s.late + s.overrun + s.corrupt + s.foreign
        wrong = [
            text
            for text, bad in (
                (f"received {s.received} != {fates} with a fate", s.received != fates),
                (f"expected {s.expected} != valid {s.valid} + lost {s.lost}", s.expected != s.valid + s.lost),
                (f"valid {s.valid} != {popcount} in the blocks", s.valid != popcount),
            )
            if bad
        ]
        if wrong:
            raise StreamError(
                f"the accounts of sector {s.sector} ({s.endpoint}) do not add up: {'; '.join(wrong)}. "
                "Please report this"
            )
