"""Live streams on dask workers: a session receives and folds, one outstanding question asks it for news."""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
from collections.abc import Iterator
from typing import Any

from framefold.errors import ExecutorError, StreamError
from framefold.executor.base import Job, Session
from framefold.executor.drive import Run
from framefold.executor.live_report import live_report
from framefold.executor.live_session import LiveWorker, News, rejuvenate
from framefold.udfcore.live import AcquisitionStart, Layout, LiveSource
from framefold.udfcore.partitioning import Feed
from framefold.udfcore.plan import Plan
from framefold.udfcore.task import Partial

COLLECT_SECONDS = 0.5
_DONE = object()


def _make(source: LiveSource, name: str, rank: int) -> LiveWorker:
    return LiveWorker(source, None, name)


class DaskStation:
    """A detector that is received on a worker."""

    def __init__(self, source: LiveSource, executor: Any) -> None:
        self._source = source
        names = set(source.options.placement.values())
        if len(names) > 1:
            raise StreamError(
                f"placement= names {len(names)} workers ({', '.join(sorted(names))}): all sectors of a run "
                "are received on one"
            )
        where = next(iter(names), None)
        self._session: Session = executor.open_session_at(
            functools.partial(_make, source, where or "receiver"), where, source.options.start_timeout
        )

    def prepare(self, layout: Layout) -> AcquisitionStart | None:
        """Bind or connect, on the worker."""
        return self._session.call("prepare", layout)

    def warm(self, plan: Plan) -> None:
        """Compile what the folds will call, on the worker."""
        self._session.call("warm", plan)

    def drive(self) -> DaskDrive:
        """Return what runs the next acquisition."""
        self._session.call("arm")
        return DaskDrive(self._session, self._source.url)

    def close(self) -> None:
        """Close the stream; nothing happens if the worker is gone."""
        with contextlib.suppress(ExecutorError):
            self._session.close()


class RemoteFeed:
    """The feed of a run whose blocks never come here: it passes changed parameters on."""

    live = True

    def __init__(self, session: Session) -> None:
        self._session = session
        self._version = 0
        self.cancelled = threading.Event()

    def next(self) -> None:
        """Return nothing: blocks are folded where they arrive."""

    def done(self, partial: Partial) -> None:
        """Nothing to give back."""

    def update(self, version: int, patches: tuple[dict[str, object], ...]) -> None:
        """Use other parameters for all blocks from now on."""
        self._version = version
        self._session.call("update", version, patches)

    @property
    def version(self) -> int:
        """Version of the parameters that the next block gets."""
        return self._version


class DaskDrive:
    """One acquisition on a worker; see `LiveDrive`."""

    def __init__(self, session: Session, url: str) -> None:
        self.feed: Feed = RemoteFeed(session)
        self._session = session
        self._url = url
        self._news: News | None = None
        self._plan: Plan | None = None
        self._error: BaseException | None = None
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.closed = False

    def wait_start(self) -> AcquisitionStart:
        """Wait for the announcement."""
        try:
            start: AcquisitionStart = self._session.call("wait_start")
        except StreamError:
            if self._error is not None:
                raise self._error from None
            raise
        return start

    def begin(self, plan: Plan) -> None:
        """Take blocks from now on."""
        self._session.call("begin", plan)
        self._thread = threading.Thread(target=self._collect, name="framefold-collect", daemon=True)
        self._thread.start()

    def listening(self, timeout: float) -> None:
        """Wait until the acquisition is taken."""
        self._session.call("listening", timeout)

    def _collect(self) -> None:
        """Ask for news, again and again: while the head is slow, they gather on the worker."""
        try:
            while not self.closed:
                news: News = self._session.call("collect", COLLECT_SECONDS)
                rejuvenate(news.partials)
                self._news = news
                for partial in news.partials:
                    self._queue.put(partial)
                if news.error is not None:
                    raise news.error
                if news.done:
                    return
        except BaseException as exc:  # noqa: BLE001  # raised in the thread that merges
            self._queue.put(self._error or exc)
        finally:
            self._queue.put(_DONE)

    def partials(self, job: Job) -> Iterator[Partial]:
        """Yield partials as they come from the worker."""
        while True:
            try:
                item = self._queue.get(timeout=COLLECT_SECONDS)
            except queue.Empty:
                if job.feed.cancelled.is_set():
                    return
                continue
            if item is _DONE or job.feed.cancelled.is_set():
                if self._error is not None:
                    raise self._error
                if self._news is not None:
                    job.notes.update(self._news.notes)
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def fail(self, exc: BaseException) -> None:
        """End the run with an error from elsewhere."""
        self._error = self._error or exc
        self._queue.put(exc)
        self.stop("error")

    def stop(self, reason: str = "stopped") -> None:
        """End the acquisition."""
        with contextlib.suppress(ExecutorError):
            self._session.call("stop", reason)

    @property
    def frames(self) -> int:
        """Frames that have come."""
        return 0 if self._news is None else self._news.span[1]

    def report(self, run: Run, stated: dict[str, Any]) -> dict[str, Any]:
        """Return the whole report."""
        news = self._news
        if news is None:
            return live_report(run, stated, self._url, (), None, None, (0, 0, 0.0))
        return live_report(run, stated, self._url, news.stats, news.end, news.start, news.span)

    def close(self) -> None:
        """Give the acquisition up on the worker, if it still runs."""
        if self.closed:
            return
        self.closed = True
        with contextlib.suppress(ExecutorError):
            self._session.call("disarm")
        if self._thread is not None:
            self._thread.join()
