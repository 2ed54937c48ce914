"""The object on a worker that receives sectors and folds them there; the head asks it for what is new."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from framefold.errors import StreamError
from framefold.executor.base import Job
from framefold.executor.live_feed import LiveFeed
from framefold.executor.live_local import warm
from framefold.executor.local import LocalExecutor, physical_cores
from framefold.executor.shuffle import Address, ShuffleStream
from framefold.udfcore.live import (
    AcquisitionEnd,
    AcquisitionStart,
    EndReason,
    Layout,
    LiveSource,
    SectorStats,
)
from framefold.udfcore.plan import Plan
from framefold.udfcore.task import Partial

MAX_WAITING = 256  # partials that wait for the head; then the ring fills, and says so in the accounts


@dataclass(frozen=True)
class News:
    """What a session tells the head: everything since the last time.

    Attributes
    ----------
    partials
        Folded since then.
    stats
        The accounts now.
    span
        Blocks, frames and seconds so far.
    start, end
        Of the acquisition, None before.
    done
        Nothing will follow.
    error
        What ended the acquisition, None if nothing went wrong.
    notes
        What the fold noticed: text -> count.
    """

    partials: tuple[Partial, ...]
    stats: tuple[SectorStats, ...]
    span: tuple[int, int, float]
    start: AcquisitionStart | None
    end: AcquisitionEnd | None
    done: bool
    error: BaseException | None
    notes: dict[str, int]


class LiveWorker:
    """Receives some sectors of a detector in this process, over one or more acquisitions.

    All methods are coroutines that leave the event loop free: `stop` never waits behind `collect`.

    Parameters
    ----------
    source
        The detector.
    sectors
        Which of them; None: all.
    name
        Of this worker, for messages.
    """

    def __init__(self, source: LiveSource, sectors: tuple[int, ...] | None, name: str) -> None:
        self._source = source
        self._name = name
        self._stream: Any = source.open(sectors)
        self._executor = LocalExecutor(physical_cores())
        self._changed = threading.Condition()
        self._ready: deque[Partial] = deque()
        self._shuffle: ShuffleStream | None = None
        self._feed: LiveFeed | None = None
        self._job: Job | None = None
        self._thread: threading.Thread | None = None
        self._done = False
        self._error: BaseException | None = None

    async def prepare(self, layout: Layout) -> AcquisitionStart | None:
        """Bind or connect."""
        return await asyncio.to_thread(self._stream.prepare, layout)

    async def offer(self, rank: int, groups: Sequence[tuple[int, ...]], start: AcquisitionStart) -> Address:
        """Listen for stripes of other processes, and say where."""
        deadline = self._source.options.deadline
        self._shuffle = ShuffleStream(self._stream, rank, groups, start, _own_host(), deadline)
        return self._shuffle.address

    async def join(self, addresses: Sequence[Address]) -> None:
        """Connect to the others: from now on blocks are whole, and every n-th of them is folded here."""
        assert self._shuffle is not None, "offer was not called"
        await asyncio.to_thread(self._shuffle.connect, addresses)

    async def warm(self, plan: Plan) -> None:
        """Compile what the folds will call."""
        await asyncio.to_thread(warm, plan)

    async def arm(self) -> None:
        """Make ready for the next acquisition."""
        self._done, self._error = False, None
        self._ready.clear()
        self._feed = LiveFeed(self._stream, self._source.options.start_timeout)

    async def wait_start(self) -> AcquisitionStart:
        """Wait for the announcement."""
        assert self._feed is not None, "arm was not called"
        return await asyncio.to_thread(self._feed.wait_start)

    async def begin(self, plan: Plan) -> None:
        """Receive and fold from now on."""
        assert self._feed is not None, "arm was not called"
        if self._shuffle is not None:
            last = (
                None
                if plan.live is None or plan.live.geometry.endless
                else plan.rows.n_nav + plan.rows.offset
            )
            self._shuffle.end_with(last)
            self._feed = LiveFeed(self._shuffle, self._source.options.start_timeout, checks=False)
        self._feed.begin(plan)
        self._job = Job(plan, self._feed)
        self._thread = threading.Thread(target=self._fold, name="framefold-live", daemon=True)
        self._thread.start()

    async def listening(self, timeout: float) -> None:
        """Wait until the acquisition is taken."""
        assert self._feed is not None, "arm was not called"
        await asyncio.to_thread(self._feed.announced.wait, timeout)

    async def collect(self, timeout: float) -> News:
        """Return what is new; waits up to `timeout` seconds for anything."""
        return await asyncio.to_thread(self._collect, timeout)

    async def stop(self, reason: EndReason = "stopped") -> None:
        """End the acquisition; what has arrived is still folded."""
        if self._feed is not None:
            await asyncio.to_thread(self._feed.stop, reason)

    async def update(self, version: int, patches: tuple[dict[str, object], ...]) -> None:
        """Use other parameters for all blocks from now on."""
        if self._feed is not None:
            self._feed.update(version, patches)

    async def disarm(self) -> None:
        """Give the acquisition up, if it still runs."""
        await asyncio.to_thread(self._disarm)

    async def close(self) -> None:
        """Close the stream."""
        await asyncio.to_thread(self._disarm)
        if self._shuffle is not None:
            await asyncio.to_thread(self._shuffle.close)
        await asyncio.to_thread(self._stream.close)

    # --- threads -----------------------------------------------------------------------------

    def _fold(self) -> None:
        assert self._job is not None
        assert self._feed is not None
        try:
            for partial in self._feed.partials(self._executor, self._job):
                partial.worker = f"{self._name}, {partial.worker}"
                with self._changed:
                    self._changed.wait_for(lambda: len(self._ready) < MAX_WAITING or self._given_up)
                    self._ready.append(partial)
                    self._changed.notify_all()
        except BaseException as exc:  # noqa: BLE001  # travels to the head
            self._error = exc
        finally:
            with self._changed:
                self._done = True
                self._changed.notify_all()

    @property
    def _given_up(self) -> bool:
        return self._feed is not None and self._feed.cancelled.is_set()

    def _collect(self, timeout: float) -> News:
        feed, job = self._feed, self._job
        assert feed is not None
        with self._changed:
            self._changed.wait_for(lambda: bool(self._ready) or self._done, timeout)
            partials, done = tuple(self._ready), self._done
            self._ready.clear()
            self._changed.notify_all()
        _age(partials)
        notes = {} if job is None else dict(job.notes)
        if self._shuffle is not None and self._shuffle.late:
            notes["pieces that came too late for the worker that puts frames together"] = self._shuffle.late
        return News(
            partials, feed.accounts(), feed.span, feed.start, feed.end, done, self._error if done else None,
            notes,
        )  # fmt: skip

    def _disarm(self) -> None:
        feed, thread = self._feed, self._thread
        if feed is not None:
            feed.close()
        with self._changed:
            self._changed.notify_all()
        if thread is not None:
            thread.join()
        self._thread = None


def _own_host() -> str:
    """Return the address under which other workers know this one."""
    from distributed import Worker  # noqa: PLC0415  # on dask workers only

    for worker in Worker._instances:
        scheme, _, rest = worker.address.partition("://")
        if scheme == "tcp":
            return rest.rpartition(":")[0].strip("[]")
        if scheme == "tls":
            raise StreamError(
                "sectors on several workers cannot be put together over an encrypted cluster yet: "
                "receive all sectors on one worker (placement=)"
            )
    return "127.0.0.1"


def _age(partials: tuple[Partial, ...]) -> None:
    """Turn times of this machine into ages: the clocks of two machines have nothing in common."""
    now = time.monotonic()
    for partial in partials:
        if partial.live is not None:
            # a new object: the folder keeps the old one for its next delta
            partial.live = replace(partial.live, closed=[t - now for t in partial.live.closed if t])


def rejuvenate(partials: tuple[Partial, ...]) -> None:
    """Turn ages back into times, of the machine that reads them."""
    now = time.monotonic()
    for partial in partials:
        if partial.live is not None:
            partial.live = replace(partial.live, closed=[now + age for age in partial.live.closed])
