"""A live stream in this process: opened, tried out, and folded by the executor."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np

from framefold.errors import StreamError
from framefold.executor.base import Executor, Job
from framefold.executor.drive import Run
from framefold.executor.live_feed import LiveFeed
from framefold.executor.live_report import live_report
from framefold.executor.local import LocalExecutor
from framefold.udfcore.fold import Folder
from framefold.udfcore.live import AcquisitionStart, Block, Layout, LiveSource
from framefold.udfcore.partitioning import Feed
from framefold.udfcore.plan import Plan
from framefold.udfcore.task import LiveTask, Partial

log = logging.getLogger("framefold")
WARM_FRAMES = 2


class LocalStation:
    """The stream of a source in this process, open over one or more acquisitions."""

    def __init__(self, source: LiveSource, executor: Executor) -> None:
        self._source = source
        self._executor = executor
        self._stream = source.open()
        self._drive: LocalDrive | None = None

    def prepare(self, layout: Layout) -> AcquisitionStart | None:
        """Bind or connect."""
        return self._stream.prepare(layout)

    def warm(self, plan: Plan) -> None:
        """Compile what the folds will call."""
        warm(plan)

    def drive(self) -> LocalDrive:
        """Return what runs the next acquisition."""
        threads = isinstance(self._executor, LocalExecutor)
        feed = LiveFeed(self._stream, self._source.options.start_timeout, on_receipt=threads)
        self._drive = LocalDrive(self._executor, feed, self._source.url)
        return self._drive

    def close(self) -> None:
        """End what runs, and close the stream."""
        if self._drive is not None:
            self._drive.close()
        self._stream.close()


class LocalDrive:
    """One acquisition in this process; see `LiveDrive`."""

    groups = 1

    def __init__(self, executor: Executor, feed: LiveFeed, url: str) -> None:
        self.feed: Feed = feed
        self._feed = feed
        self._executor = executor
        self._url = url
        self.closed = False

    def wait_start(self) -> AcquisitionStart:
        """Wait for the announcement."""
        return self._feed.wait_start()

    def begin(self, plan: Plan) -> None:
        """Take blocks from now on."""
        self._feed.begin(plan)

    def listening(self, timeout: float) -> None:
        """Wait until the acquisition is taken."""
        self._feed.announced.wait(timeout)

    def partials(self, job: Job) -> Iterator[Partial]:
        """Yield partials as blocks close."""
        return self._feed.partials(self._executor, job)

    def fail(self, exc: BaseException) -> None:
        """End the run with an error from elsewhere."""
        self._feed.fail(exc)

    def stop(self) -> None:
        """End the acquisition."""
        self._feed.stop()

    @property
    def frames(self) -> int:
        """Frames that have come."""
        return self._feed.frames

    def report(self, run: Run, stated: dict[str, Any]) -> dict[str, Any]:
        """Return the whole report."""
        feed = self._feed
        return live_report(run, stated, self._url, feed.accounts(), feed.end, feed.start, feed.span)

    def close(self) -> None:
        """Take no more blocks."""
        if not self.closed:
            self.closed = True
            self._feed.close()


def warm(plan: Plan) -> None:
    """Compile what the folds will call, by folding zeros: compiling while data come would overrun the ring.

    Left out for UDFs that do more than fill buffers (``EngineOptions(effects=True)``).
    """
    assert plan.live is not None
    if plan.n_rows == 0 or any(p.cls.engine.effects for p in plan.udfs):
        return
    start = plan.live.geometry.start
    own = range(len(start.sectors)) if plan.live.own is None else plan.live.own
    sectors = [start.sectors[i] for i in own]
    first = int(plan.rows.frame_ids(0, 1)[0]) + plan.rows.offset
    if first < 0:
        return
    data = tuple(np.zeros((len(s.pieces), WARM_FRAMES, *s.pieces.shape), start.dtype) for s in sectors)
    valid = tuple(np.ones((WARM_FRAMES, len(s.pieces)), dtype=bool) for s in sectors)
    ids = plan.rows.frame_ids(0, min(WARM_FRAMES, plan.n_rows)) + plan.rows.offset
    here = int(np.count_nonzero(ids < first + WARM_FRAMES))
    try:
        Folder(plan).fold(LiveTask(0, 0, here, block=Block(0, first, WARM_FRAMES, data, valid)))
    except StreamError:
        raise
    except Exception as exc:  # noqa: BLE001  # a UDF may refuse zeros; real data will show
        log.debug("could not try the UDFs before the acquisition: %r", exc)
