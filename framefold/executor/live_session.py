"""The object on a worker that receives sectors and folds them there; the head asks it for what is new."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from framefold.executor.base import Job
from framefold.executor.live_feed import LiveFeed
from framefold.executor.live_local import warm
from framefold.executor.live_tee import Tee
from framefold.executor.local import LocalExecutor, physical_cores
from framefold.executor.shuffle import ShuffleStream
from framefold.executor.shuffle_wire import Address, Wire
from framefold.udfcore.live import (
    AcquisitionEnd,
    AcquisitionStart,
    EndReason,
    FirstFrame,
    Layout,
    LiveSource,
    SectorStats,
    SharedStart,
)
from framefold.udfcore.live_share import Share
from framefold.udfcore.task import Partial

ELECT_SECONDS = 0.002
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
    told
        Pieces per sector of the blocks whose partials the head has got; empty: none so far.
    first
        The first frame, where the stream can tell.
    dropped
        For sectors (by number) pieces that arrived, but not in time where frames are put together.
    clock
        ``time.monotonic()`` of the session when it told.
    """

    partials: tuple[Partial, ...]
    stats: tuple[SectorStats, ...]
    span: tuple[int, int, float]
    start: AcquisitionStart | None
    end: AcquisitionEnd | None
    done: bool
    error: BaseException | None
    notes: dict[str, int]
    dropped: dict[int, int]
    told: tuple[int, ...] = ()
    first: FirstFrame | None = None
    clock: float = 0.0


class _Fold:
    """Some UDFs and the blocks that they fold."""

    def __init__(self, share: Share, feed: LiveFeed) -> None:
        self.share = share
        self.feed = feed
        self.job = Job(share.plan, feed)
        self.thread: threading.Thread | None = None
        self.done = False


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
        self._tee: Tee | None = None
        self._shuffle: ShuffleStream | None = None
        self._feed: LiveFeed | None = None  # tells of the acquisition
        self._folds: list[_Fold] = []
        self._told: tuple[int, ...] = ()
        self._error: BaseException | None = None

    async def prepare(self, layout: Layout) -> AcquisitionStart | None:
        """Bind or connect."""
        return await asyncio.to_thread(self._stream.prepare, layout)

    async def hold(self) -> bool:
        """Wait with the beginning of acquisitions for `agree`; False where that is not needed."""
        return isinstance(self._stream, SharedStart) and await asyncio.to_thread(self._stream.hold)

    async def candidate(self, timeout: float) -> FirstFrame | None:
        """Return the first frame as the own sectors see it, None after `timeout` seconds without one."""
        until = time.monotonic() + timeout
        while (found := self._stream.candidate()) is None and time.monotonic() < until:
            await asyncio.sleep(ELECT_SECONDS)
        first: FirstFrame | None = found
        return first

    async def agree(self, first: FirstFrame) -> None:
        """Begin with this frame."""
        self._stream.agree(first)

    async def resume(self, first: FirstFrame) -> bool:
        """Join an acquisition that others have begun; False if the stream cannot do that."""
        if not isinstance(self._stream, SharedStart):
            return False
        self._stream.resume(first)
        return True

    async def stop_waiting(self) -> None:
        """End the acquisition if nothing has come: nobody else receives any more."""
        if self._feed is not None and not self._feed.frames:
            await asyncio.to_thread(self._feed.stop, "idle")

    async def acquisition(self) -> int:
        """Return the number of the acquisition, as the processes count them that put frames together."""
        assert self._shuffle is not None, "offer was not called"
        return self._shuffle.run

    async def rejoin(self, run: int) -> None:
        """Take part in an acquisition that the others have begun."""
        assert self._shuffle is not None, "offer was not called"
        self._shuffle.rejoin(run)

    async def reconnect(self, rank: int, address: Address) -> None:
        """Connect to a process that takes the place of a lost one."""
        assert self._shuffle is not None, "offer was not called"
        await asyncio.to_thread(self._shuffle.reconnect, rank, address)

    async def offer(
        self, rank: int, groups: Sequence[tuple[int, ...]], start: AcquisitionStart, tee: bool,
        owners: Sequence[int] | None, lost: Sequence[int] = (),
    ) -> Address:  # fmt: skip
        """Listen for stripes of others, and say where; `tee`: the own sectors are folded as they are, too."""
        options = self._source.options
        self._tee = Tee(self._stream) if tee else None
        local = self._stream if self._tee is None else self._tee.branches[1]
        self._shuffle = ShuffleStream(
            local, rank, groups, start, own_wire(), options.deadline, owners=owners, lost=lost,
            revoke=options.missing != "fill",
        )  # fmt: skip
        return self._shuffle.address

    async def join(self, addresses: Mapping[int, Address]) -> None:
        """Connect to the others, by rank: from now on blocks are whole, and some of them are folded here."""
        assert self._shuffle is not None, "offer was not called"
        await asyncio.to_thread(self._shuffle.connect, addresses)

    async def warm(self, *shares: Share | None) -> None:
        """Compile what the folds will call."""
        for share in shares:
            if share is not None:
                await asyncio.to_thread(warm, share.plan)

    async def arm(self) -> None:
        """Make ready for the next acquisition."""
        self._error = None
        self._folds = []
        self._told = ()
        self._ready.clear()
        self._feed = LiveFeed(self._stream, self._source.options.start_timeout, on_receipt=True)

    async def wait_start(self) -> AcquisitionStart:
        """Wait for the announcement."""
        assert self._feed is not None, "arm was not called"
        return await asyncio.to_thread(self._feed.wait_start)

    async def begin(self, here: Share | None, whole: Share | None) -> None:
        """Receive from now on; fold `here` on the own sectors, `whole` on blocks that are put together."""
        assert self._feed is not None, "arm was not called"
        timeout = self._source.options.start_timeout
        if self._tee is not None:
            self._tee.reset()
        if here is not None:
            if self._tee is not None:
                self._feed = LiveFeed(self._tee.branches[0], timeout)
            self._folds.append(_Fold(here, self._feed))
        if whole is not None:
            assert self._shuffle is not None, "offer was not called"
            plan = whole.plan
            endless = plan.live is None or plan.live.geometry.endless
            self._shuffle.end_with(None if endless else plan.rows.n_nav + plan.rows.offset)
            self._folds.append(_Fold(whole, LiveFeed(self._shuffle, timeout, checks=False)))
            if here is None:
                self._feed = self._folds[0].feed
        for fold in self._folds:
            fold.feed.begin(fold.share.plan)
        for fold in self._folds:
            fold.thread = threading.Thread(
                target=self._fold, args=(fold,), name="framefold-live", daemon=True
            )
            fold.thread.start()

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
        for fold in self._folds:
            fold.feed.update(version, tuple(patches[i] for i in fold.share.members))

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

    def _fold(self, fold: _Fold) -> None:
        try:
            for partial in fold.feed.partials(self._executor, fold.job):
                partial.worker = f"{self._name}, {partial.worker}"
                partial.members = fold.share.members
                with self._changed:
                    self._changed.wait_for(
                        lambda: len(self._ready) < MAX_WAITING or fold.feed.cancelled.is_set()
                    )
                    self._ready.append(partial)
                    if partial.live is not None and fold.feed is self._feed:
                        self._told = _sum(self._told, partial.live.arrived)
                    self._changed.notify_all()
        except BaseException as exc:  # noqa: BLE001  # travels to the head
            self._error = self._error or exc
            for other in self._folds:
                if other is not fold:
                    other.feed.fail(exc)
        finally:
            with self._changed:
                fold.done = True
                self._changed.notify_all()

    def _collect(self, timeout: float) -> News:
        feed = self._feed
        assert feed is not None
        with self._changed:
            self._changed.wait_for(lambda: bool(self._ready) or all(f.done for f in self._folds), timeout)
            partials, done = tuple(self._ready), bool(self._folds) and all(f.done for f in self._folds)
            self._ready.clear()
            told = _sum(self._told, feed.unwanted)
            self._changed.notify_all()
        _age(partials)
        notes: dict[str, int] = {}
        for fold in self._folds:
            notes.update(fold.job.notes)
        dropped = {} if self._shuffle is None else dict(self._shuffle.dropped)
        return News(
            partials, feed.accounts(), feed.span, feed.start, feed.end, done, self._error if done else None,
            notes, dropped, told, self._stream.first() if isinstance(self._stream, SharedStart) else None,
            time.monotonic(),
        )  # fmt: skip

    def _disarm(self) -> None:
        folds = self._folds
        for feed in [f.feed for f in folds] or ([] if self._feed is None else [self._feed]):
            feed.close()
        with self._changed:
            self._changed.notify_all()
        for fold in folds:
            if fold.thread is not None:
                fold.thread.join()
                fold.thread = None


def _sum(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sums; an empty tuple is zeros."""
    return tuple(x + y for x, y in zip(a, b, strict=True)) if a and b else a or b


def own_wire() -> Wire:
    """Return the address under which other workers know this one, and the TLS settings of the cluster."""
    from distributed import Worker  # noqa: PLC0415  # on dask workers only

    for worker in Worker._instances:
        scheme, _, rest = worker.address.partition("://")
        host = rest.rpartition(":")[0].strip("[]")
        if scheme == "tls":
            tls: Any = worker.security
            server = tls.get_listen_args("worker")["ssl_context"]
            return Wire(host, server, tls.get_connection_args("worker")["ssl_context"])
        if scheme == "tcp":
            return Wire(host)
    return Wire("127.0.0.1")


def _age(partials: tuple[Partial, ...]) -> None:
    """Turn times of this machine into ages: the clocks of two machines have nothing in common."""
    now = time.monotonic()
    for partial in partials:
        if partial.live is not None:
            # a new object: the folder keeps the old one for its next delta
            partial.live = replace(partial.live, closed=[t - now for t in partial.live.closed if t])


def rejuvenate(partials: tuple[Partial, ...], ahead: float) -> None:
    """Turn ages back into times of this machine; its clock is `ahead` of that of the session."""
    now = time.monotonic()
    for partial in partials:
        if partial.live is not None:
            closed = [now + age for age in partial.live.closed]
            partial.live = replace(partial.live, closed=closed, time=partial.live.time + ahead)
