"""Live streams on dask workers: sessions receive and fold, one outstanding question each asks for news."""

from __future__ import annotations

import contextlib
import functools
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from framefold.errors import ExecutorError, StreamError
from framefold.executor.base import Job, Session
from framefold.executor.dask_session import WorkerGone
from framefold.executor.drive import Run
from framefold.executor.live_report import live_report
from framefold.executor.live_session import LiveWorker, News, rejuvenate
from framefold.udfcore.live import (
    AcquisitionEnd,
    AcquisitionStart,
    FirstFrame,
    Layout,
    LiveSource,
    SectorStats,
    last_of,
)
from framefold.udfcore.live_share import Share, shares
from framefold.udfcore.partitioning import Feed
from framefold.udfcore.plan import Plan
from framefold.udfcore.planning import in_order
from framefold.udfcore.task import Partial

log = logging.getLogger("framefold")
COLLECT_SECONDS = 0.5
_DONE = object()


def _make(source: LiveSource, sectors: tuple[int, ...] | None, name: str, rank: int) -> LiveWorker:
    return LiveWorker(source, sectors, name)


class DaskStation:
    """A detector that is received on one worker, or its sectors on several (``placement=``)."""

    def __init__(self, source: LiveSource, executor: Any) -> None:
        self._source = source
        self._groups = _groups(source)
        self._joined = False
        self._elects = False
        self._drive: DaskDrive | None = None
        self._sessions: list[Session] = []
        timeout = source.options.start_timeout
        try:
            for rank, (where, sectors) in enumerate(self._groups):
                make = functools.partial(_make, source, sectors, where or "receiver")
                self._sessions.append(executor.open_session_at(make, where, timeout, rank))
        except BaseException:
            self.close()
            raise

    @property
    def groups(self) -> int:
        """Processes that receive."""
        return len(self._groups)

    def _all(self, method: str, *args: Any) -> list[Any]:
        """Call all sessions at the same time."""
        with ThreadPoolExecutor(len(self._sessions)) as pool:
            return list(pool.map(lambda s: s.call(method, *args), self._sessions))

    def prepare(self, layout: Layout) -> AcquisitionStart | None:
        """Bind or connect, on the workers."""
        starts = self._all("prepare", layout if self.groups == 1 else "pieces")
        if self.groups == 1 or starts[0] is None:
            return starts[0]
        self._elects = all(self._all("hold"))
        sectors = sorted((s for start in starts for s in start.sectors), key=lambda s: s.index)
        return replace(starts[0], sectors=tuple(sectors))

    def shares(self, plan: Plan) -> list[tuple[Share | None, Share | None]]:
        """Return what each worker folds: on its own sectors, and on whole frames of every n-th block."""
        if self.groups == 1:
            return [shares(plan, None)]
        assert plan.live is not None
        return [shares(plan, own) for own in self._own(plan.live.geometry.start)]

    def _own(self, start: AcquisitionStart) -> list[tuple[int, ...]]:
        at = {s.index: i for i, s in enumerate(start.sectors)}
        return [tuple(at[i] for i in sectors or ()) for _, sectors in self._groups]

    def warm(self, plan: Plan) -> None:
        """Compile what the folds will call, and connect the workers if frames must be put together."""
        assert plan.live is not None
        apart = {p.name: reason for p, reason in zip(plan.udfs, plan.live.apart, strict=True) if reason}
        if self.groups > 1 and apart and not self._joined:
            name, reason = next(iter(apart.items()))
            more = f" (and {len(apart) - 1} more)" if len(apart) > 1 else ""
            log.info("sectors of %d workers are put together to whole frames: %s: %s%s",
                     self.groups, name, reason, more)  # fmt: skip
            start = plan.live.geometry.start
            own = self._own(start)
            tee = not all(plan.live.apart)
            # who wants partitions in order gets them from one worker
            owners = (0,) if in_order([u.cls for u in plan.udfs], plan.options) else None
            addresses = {r: s.call("offer", r, own, start, tee, owners) for r, s in enumerate(self._sessions)}
            self._all("join", addresses)
            self._joined = True
        with ThreadPoolExecutor(self.groups) as pool:
            given = zip(self._sessions, self.shares(plan), strict=True)
            list(pool.map(lambda p: p[0].call("warm", *p[1]), given))

    def drive(self) -> DaskDrive:
        """Return what runs the next acquisition."""
        self._all("arm")
        self._drive = DaskDrive(self._sessions, self._source.url, self.shares, lambda: self._elects)
        return self._drive

    def close(self) -> None:
        """End what runs, and close the streams; nothing happens where a worker is gone."""
        if self._drive is not None:
            self._drive.close()
        for session in self._sessions:
            with contextlib.suppress(ExecutorError):
                session.close()


def _groups(source: LiveSource) -> list[tuple[str | None, tuple[int, ...] | None]]:
    """Return which worker receives which sectors; the names None: any worker, all sectors."""
    placement = source.options.placement
    names = list(dict.fromkeys(placement.values()))
    if len(names) < 2:
        return [(names[0] if names else None, None)]
    start = source.known()
    if start is None:
        raise StreamError("placement= on several workers needs a detector whose sectors are known beforehand")
    missing = [s.index for s in start.sectors if s.index not in placement]
    unknown = sorted(set(placement) - {s.index for s in start.sectors})
    if missing or unknown:
        raise StreamError(
            f"placement= must name every sector once: {missing or 'none'} left out, "
            f"{unknown or 'none'} unknown"
        )
    return [(name, tuple(i for i, where in sorted(placement.items()) if where == name)) for name in names]


class RemoteFeed:
    """The feed of a run whose blocks never come here: it passes changed parameters on."""

    live = True

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = sessions
        self._version = 0
        self.cancelled = threading.Event()

    def next(self) -> None:
        """Return nothing: blocks are folded where they arrive."""

    def done(self, partial: Partial) -> None:
        """Nothing to give back."""

    def update(self, version: int, patches: tuple[dict[str, object], ...]) -> None:
        """Use other parameters for all blocks from now on."""
        self._version = version
        for session in self._sessions:
            session.call("update", version, patches)

    @property
    def version(self) -> int:
        """Version of the parameters that the next block gets."""
        return self._version


class DaskDrive:
    """One acquisition on workers; see `LiveDrive`."""

    def __init__(
        self,
        sessions: Sequence[Session],
        url: str,
        shares: Callable[[Plan], Sequence[tuple[Share | None, Share | None]]],
        elects: Callable[[], bool],
    ) -> None:
        self.feed: Feed = RemoteFeed(sessions)
        self._sessions = sessions
        self._shares = shares
        self._elects = elects
        self._first: FirstFrame | None = None
        self._over: set[int] = set()
        self._url = url
        self._news: list[News | None] = [None] * len(sessions)
        self._lost: dict[int, str] = {}
        self._error: BaseException | None = None
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._whole = False
        self.closed = False

    @property
    def groups(self) -> int:
        """Processes that receive."""
        return len(self._sessions)

    def wait_start(self) -> AcquisitionStart:
        """Wait for the announcement."""
        try:
            start: AcquisitionStart = self._sessions[0].call("wait_start")
        except StreamError:
            if self._error is not None:
                raise self._error from None
            raise
        return start

    def begin(self, plan: Plan) -> None:
        """Take blocks from now on."""
        given = self._shares(plan)
        self._whole = given[0][0] is None
        for rank, (session, (here, whole)) in enumerate(zip(self._sessions, given, strict=True)):
            with contextlib.suppress(WorkerGone):  # heard of where news are collected
                session.call("begin", here, whole)
            thread = threading.Thread(
                target=self._collect, args=(rank,), name="framefold-collect", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        if self._elects():
            self._threads.append(threading.Thread(target=self._elect, name="framefold-elect", daemon=True))
            self._threads[-1].start()

    def _elect(self) -> None:
        """Find out the first frame that can come whole in the sectors of all sessions, and begin with it."""
        with ThreadPoolExecutor(len(self._sessions)) as pool:
            found = [c for c in pool.map(self._candidate, range(len(self._sessions))) if c is not None]
        if not found or self.closed:
            return
        self._first = last_of(found)
        for session in self._sessions:
            with contextlib.suppress(ExecutorError):
                session.call("agree", self._first)

    def _candidate(self, rank: int) -> FirstFrame | None:
        """Return what one session sees as the first frame; None if it is lost, or has ended."""
        with contextlib.suppress(ExecutorError):
            while not self.closed and rank not in self._over:
                found: FirstFrame | None = self._sessions[rank].call("candidate", COLLECT_SECONDS)
                if found is not None:
                    return found
        return None

    def listening(self, timeout: float) -> None:
        """Wait until the acquisition is taken."""
        for session in self._sessions:
            with contextlib.suppress(WorkerGone):
                session.call("listening", timeout)

    def _collect(self, rank: int) -> None:
        """Ask one session for news, again and again: while the head is slow, they gather on the worker."""
        try:
            while not self.closed:
                news: News = self._sessions[rank].call("collect", COLLECT_SECONDS)
                rejuvenate(news.partials)
                self._news[rank] = news
                for partial in news.partials:
                    self._queue.put(partial)
                if news.error is not None:
                    raise news.error
                if news.done:
                    return
        except WorkerGone as exc:
            self._lost[rank] = str(exc)
            if len(self._lost) == len(self._sessions):
                self._queue.put(self._error or exc)
            else:
                log.warning("%s; live data cannot be repeated, the other sectors go on", exc)
        except BaseException as exc:  # noqa: BLE001  # raised in the thread that merges
            self._queue.put(self._error or exc)
        finally:
            self._over.add(rank)
            self._queue.put(_DONE)

    def partials(self, job: Job) -> Iterator[Partial]:
        """Yield partials as they come from the workers."""
        left = len(self._sessions)
        while left:
            try:
                item = self._queue.get(timeout=COLLECT_SECONDS)
            except queue.Empty:
                if job.feed.cancelled.is_set():
                    return
                continue
            if job.feed.cancelled.is_set():
                return
            if item is _DONE:
                left -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
        if self._error is not None:
            raise self._error
        firsts = {n.end.first_id for n in self._news if n is not None and n.end is not None and n.span[1]}
        if len(firsts) > 1:
            raise StreamError(
                f"{self._url}: the workers took different frames for the first: ids "
                f"{sorted(firsts, key=str)}. "
                "the results are wrong. Please report this"
            )
        for news in self._news:
            for text, n in ({} if news is None else news.notes).items():
                job.notes[text] = job.notes.get(text, 0) + n
        dropped = sum(sum(news.dropped.values()) for news in self._news if news is not None)
        if dropped:
            job.notes["pieces that arrived, but not in time where frames are put together"] = dropped
        for text in self._lost.values():
            job.note(text)

    def fail(self, exc: BaseException) -> None:
        """End the run with an error from elsewhere."""
        self._error = self._error or exc
        self._queue.put(exc)
        self.stop("error")

    def stop(self, reason: str = "stopped") -> None:
        """End the acquisition."""
        for session in self._sessions:
            with contextlib.suppress(ExecutorError):
                session.call("stop", reason)

    @property
    def frames(self) -> int:
        """Frames that have come."""
        return self._span()[1]

    def _span(self) -> tuple[int, int, float]:
        spans = [n.span for n in self._news if n is not None]
        if not spans:
            return 0, 0, 0.0
        join = sum if self._whole else max  # every n-th block each, or all blocks of some sectors
        return join(s[0] for s in spans), join(s[1] for s in spans), max(s[2] for s in spans)

    def report(self, run: Run, stated: dict[str, Any]) -> dict[str, Any]:
        """Return the whole report."""
        known = [n for n in self._news if n is not None]
        stats = self._accounts(known)
        ends = [n.end for rank, n in enumerate(self._news) if n is not None and rank not in self._lost]
        end = ends[0] if ends and all(ends) else None
        if self._lost and end is not None:
            end = AcquisitionEnd(end.reason, end.last_frame, "; ".join(self._lost.values()), end.first_id)
        start = known[0].start if known else None
        return live_report(run, stated, self._url, stats, end, start, self._span())

    def _accounts(self, known: Sequence[News]) -> list[SectorStats]:
        """Return the accounts of all sectors; where all frames are put together, as they were there."""
        stats = sorted((replace(s) for n in known for s in n.stats), key=lambda s: s.sector)
        for s in stats if self._whole else ():
            n = sum(news.dropped.get(s.sector, 0) for news in known)
            s.valid, s.lost, s.overrun = s.valid - n, s.lost + n, s.overrun + n
        return stats

    def close(self) -> None:
        """Give the acquisition up on the workers, if it still runs."""
        if self.closed:
            return
        self.closed = True
        for session in self._sessions:
            with contextlib.suppress(ExecutorError):
                session.call("disarm")
        for thread in self._threads:
            thread.join()
