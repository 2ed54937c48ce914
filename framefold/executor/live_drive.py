"""One acquisition on dask workers: one outstanding question to each session asks for news."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from framefold.errors import ExecutorError, StreamError
from framefold.executor.base import Job, Session
from framefold.executor.dask_session import WorkerGone
from framefold.executor.drive import Run
from framefold.executor.live_report import live_report, sector_accounts
from framefold.executor.live_session import News, rejuvenate
from framefold.udfcore.live import AcquisitionEnd, AcquisitionStart, FirstFrame, LiveSource, last_of
from framefold.udfcore.live_share import Share
from framefold.udfcore.partitioning import Feed
from framefold.udfcore.plan import Plan
from framefold.udfcore.task import Partial

log = logging.getLogger("framefold")
COLLECT_SECONDS = 0.5
RESTART_SECONDS = 60.0
RETRY_SECONDS = 0.5
_DONE = object()


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
        source: LiveSource,
        shares: Callable[[Plan], Sequence[tuple[Share | None, Share | None]]],
        elects: Callable[[], bool],
        reopen: Callable[[int, FirstFrame | None, Plan], bool],
    ) -> None:
        self.feed: Feed = RemoteFeed(sessions)
        self._sessions = sessions
        self._shares = shares
        self._elects = elects
        self._first: FirstFrame | None = None
        self._over: set[int] = set()
        self._url = source.url
        self._options = source.options
        self._reopen = reopen
        self._news: list[News | None] = [None] * len(sessions)
        self._before: dict[int, list[News]] = {}  # of sessions that were lost
        self._texts: dict[int, list[str]] = {}
        self._lost: set[int] = set()  # for good
        self._ahead: dict[int, float] = {}  # of the clock of each session
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
        self._plan = plan
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
                try:
                    if self._hear(rank):
                        break
                except WorkerGone as exc:
                    if not self._do_without(rank, exc):
                        break
        except BaseException as exc:  # noqa: BLE001  # raised in the thread that merges
            self._queue.put(self._error or exc)
        finally:
            self._over.add(rank)
            self._end_waiting()
            self._queue.put(_DONE)

    def _hear(self, rank: int) -> bool:
        """Take the news of one session; True: they were the last."""
        news: News = self._sessions[rank].call("collect", COLLECT_SECONDS)
        # taken once: what takes longer to arrive did not come later, and differences stay exact
        ahead = self._ahead.setdefault(rank, time.monotonic() - news.clock)
        rejuvenate(news.partials, ahead)
        self._news[rank] = news
        self._first = self._first or news.first
        for partial in news.partials:
            self._queue.put(partial)
        if isinstance(news.error, StreamError) and rank in self._before and not news.span[1]:
            log.warning("nothing came from the sectors of a lost worker any more: %s", news.error)
        elif news.error is not None:
            raise news.error
        return news.done

    def _do_without(self, rank: int, exc: WorkerGone) -> bool:
        """Receive the sectors of a lost worker on another one; False: the others go on without them."""
        news, self._news[rank] = self._news[rank], None
        self._ahead.pop(rank, None)
        self._before.setdefault(rank, []).extend([] if news is None else [news])
        self._texts.setdefault(rank, []).append(str(exc))
        if self._options.on_worker_loss == "error":
            raise ExecutorError(f"{exc}; on_worker_loss='error' ends the run") from exc
        if self._options.on_worker_loss == "restart" and self._received_again(rank):
            self._texts[rank][-1] += "; its sectors were received again, from a later frame on"
            log.warning("%s; its sectors are received again, live data cannot be repeated", exc)
            self._end_waiting()
            return True
        self._lost.add(rank)
        if len(self._lost) == len(self._sessions):
            self._queue.put(self._error or exc)
        else:
            log.warning("%s; live data cannot be repeated, the other sectors go on", exc)
        return False

    def _received_again(self, rank: int) -> bool:
        """Try to open a session in the place of a lost one, as long as others receive, or `start_timeout`."""
        timeout = self._options.start_timeout
        until = time.monotonic() + (RESTART_SECONDS if timeout is None else timeout)
        others = set(range(len(self._sessions))) - {rank}
        while not self.closed and time.monotonic() < until and (not others or others - self._over):
            try:
                return self._reopen(rank, self._first, self._plan)
            except (ExecutorError, StreamError, OSError) as exc:
                log.info("the sectors of a lost worker cannot be received again so far: %s", exc)
                time.sleep(RETRY_SECONDS)
        return False

    def _end_waiting(self) -> None:
        """When nobody else receives any more, sessions that took the place of others need not wait."""
        left = set(range(len(self._sessions))) - self._over
        if left and len(self._sessions) > 1 and left <= self._before.keys():
            for rank in left:
                with contextlib.suppress(ExecutorError):
                    self._sessions[rank].call("stop_waiting")

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
        known = self._known
        firsts = {n.end.first_id for n in known if n.end is not None and n.span[1]}
        if len(firsts) > 1:
            raise StreamError(
                f"{self._url}: the workers took different frames for the first: ids "
                f"{sorted(firsts, key=str)}. The results are wrong. Please report this"
            )
        for news in known:
            for text, n in news.notes.items():
                job.notes[text] = job.notes.get(text, 0) + n
        dropped = sum(sum(news.dropped.values()) for news in known)
        if dropped:
            job.notes["pieces that arrived, but not in time where frames are put together"] = dropped
        for texts in self._texts.values():
            for text in texts:
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

    @property
    def _known(self) -> list[News]:
        """The last news of all sessions, lost ones too."""
        return [n for ns in self._before.values() for n in ns] + [n for n in self._news if n is not None]

    def _span(self) -> tuple[int, int, float]:
        spans = []
        for rank, news in enumerate(self._news):
            own = [n.span for n in (*self._before.get(rank, ()), *([] if news is None else [news]))]
            spans.append(
                (sum(s[0] for s in own), sum(s[1] for s in own), max([s[2] for s in own], default=0.0))
            )
        join = sum if self._whole else max  # every n-th block each, or all blocks of some sectors
        return join(s[0] for s in spans), join(s[1] for s in spans), max(s[2] for s in spans)

    def report(self, run: Run, stated: dict[str, Any]) -> dict[str, Any]:
        """Return the whole report."""
        known = self._known
        ends = [n.end for rank, n in enumerate(self._news) if n is not None and rank not in self._lost]
        end = ends[0] if ends and all(ends) else None
        if self._texts and end is not None:
            text = "; ".join(t for texts in self._texts.values() for t in texts)
            never = [n.end for r, n in enumerate(self._news) if n is not None and r not in self._texts]
            end = next((e for e in never if e is not None), end)
            end = AcquisitionEnd(end.reason, end.last_frame, text, end.first_id)
        start = known[-1].start if known else None
        last = max((e.last_frame for e in ends if e is not None), default=-1)
        lost = [n for ns in self._before.values() for n in ns]
        lost += [n for r, n in enumerate(self._news) if n is not None and r in self._lost]
        assert run.plan.live is not None
        every = run.plan.live.geometry.start
        stats = sector_accounts(known, lost, self._whole, end is not None, last + 1, every)
        sent = last + 1 if lost and end is not None else 0
        return live_report(run, stated, self._url, stats, end, start, self._span(), sent)

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
