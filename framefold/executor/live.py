"""Runs on live streams: open the stream, plan, compile, say that all is ready, then fold what comes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from framefold.errors import StreamError
from framefold.executor.base import Executor, Job
from framefold.executor.drive import Run
from framefold.executor.live_feed import LiveFeed
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.events import Observer
from framefold.udfcore.fold import Folder
from framefold.udfcore.live import AcquisitionStart, Block, LiveReady, SectorStats, Stream
from framefold.udfcore.live_dataset import LiveDataset
from framefold.udfcore.live_report import LiveReport, count_status, percentiles
from framefold.udfcore.partitioning import Feed
from framefold.udfcore.plan import Plan, RunOptions
from framefold.udfcore.results import Saver
from framefold.udfcore.task import LiveTask, Partial
from framefold.udfcore.udf import UDF

log = logging.getLogger("framefold")
WARM_FRAMES = 2


class LocalDrive:
    """The stream of a run in this process.

    Parameters
    ----------
    executor
        Folds the blocks.
    stream
        All sectors; closed with the drive unless `keep`.
    """

    def __init__(self, executor: Executor, stream: Stream, feed: LiveFeed, url: str, *, keep: bool) -> None:
        self.feed: Feed = feed
        self._feed = feed
        self._executor = executor
        self._stream = stream
        self._url = url
        self._keep = keep
        self.closed = False

    def partials(self, job: Job) -> Iterator[Partial]:
        """Yield partials as blocks close."""
        return self._executor.run(job)

    def stop(self) -> None:
        """End the acquisition."""
        self._feed.stop()

    def report(self, run: Run, stated: dict[str, Any]) -> dict[str, Any]:
        """Return the whole report."""
        feed = self._feed
        return live_report(run, stated, self._url, feed.accounts(), feed.end, feed.start, feed.span)

    def close(self) -> None:
        """Close the stream."""
        if self.closed:
            return
        self.closed = True
        self._feed.close()
        if not self._keep:
            self._stream.close()


def live_report(
    run: Run, stated: dict[str, Any], url: str, stats: Sequence[SectorStats], end: Any,
    start: AcquisitionStart | None, span: tuple[int, int, float],
) -> LiveReport:  # fmt: skip
    """Return the report of a live run; `span` are blocks, frames and seconds from first to last packet."""
    plan = run.plan
    assert plan.live is not None
    first = None if start is None else start.first_id
    if end is not None and end.first_id is not None:
        first = end.first_id
    blocks, frames, seconds = span
    frame = plan.live.geometry.start.frame_bytes
    how = {
        "pieces": "pieces are folded where they arrived, missing ones left out",
        "complete": "pieces are folded where they arrived, of complete frames",
        "frames": "whole frames",
    }
    lanes = {
        plan.udfs[i].name: how[mode]
        for lane, mode in zip(plan.lanes, plan.live.modes, strict=True)
        for i in lane.udfs
    }
    return LiveReport(
        stated,
        url=url,
        end_reason="running" if end is None else end.reason,
        end_text="" if end is None else end.text,
        first_id=first,
        missing=plan.live.geometry.options.missing,
        status=count_status(run.merger.status),
        blocks=blocks,
        frames_seen=frames,
        fps=frames / seconds if seconds else 0.0,
        rate=frames * frame / seconds if seconds else 0.0,
        latency=percentiles(list(run.merger.latencies)),
        lanes=lanes,
        sectors=[s.as_dict() for s in stats],
    )


def open_live(
    executor: Executor,
    dataset: LiveDataset,
    udfs: Sequence[UDF],
    options: Callable[[Dataset], RunOptions],
    *,
    observers: Sequence[Observer] = (),
    validate: bool = True,
    provenance: Callable[[Dataset, RunOptions], Mapping[str, Any]] = lambda ds, opts: {},
    saver: Saver | None = None,
    on_ready: Callable[[LiveReady], Any] | None = None,
    stream: Stream | None = None,
    opened: Callable[[LocalDrive], Any] = lambda drive: None,
) -> Run:
    """Prepare everything for an acquisition and return its run; from then on nothing that is sent is missed.

    Parameters
    ----------
    executor
        Folds the blocks.
    dataset
        The detector.
    udfs
        What is folded.
    options
        Returns the options of the run, when shape and dtype are known.
    on_ready
        Called in a thread of its own when everything listens; an exception of it ends the run.
    stream
        Prepared by an earlier acquisition, and kept open afterwards; None: opened and closed here.
    opened
        Gets what can stop the acquisition, before anything can wait.

    Raises
    ------
    StreamError
        If the stream cannot be opened, or does not announce itself in time.
    """
    kept = stream is not None
    source = dataset.source.open() if stream is None else stream
    feed = LiveFeed(source, dataset.source.options.start_timeout)
    drive = LocalDrive(executor, source, feed, dataset.source.url, keep=kept)
    opened(drive)
    run: Run | None = None

    def make(bound: Dataset) -> Run:
        opts = options(bound)
        return Run(
            executor, bound, udfs, opts, observers=observers, validate=validate,
            provenance=lambda: provenance(bound, opts), saver=saver, live=drive,
        )  # fmt: skip

    try:
        bound = dataset.known()
        if bound is not None:
            run = make(bound)
            assert run.plan.live is not None
            if not kept:
                source.prepare(run.plan.live.layout)
            start = run.plan.live.geometry.start
            ready = False
        else:
            announced = None if kept else source.prepare(_likely_layout(udfs))
            ready = announced is None
            if announced is None:
                _tell_ready(on_ready, LiveReady(dataset.source.url, None), feed)
                announced = feed.wait_start()
            start = announced
            run = make(dataset.bind(start))
        if not kept:
            warm(run.plan)
        feed.begin(run.plan)
        if not ready:
            endpoints = tuple(s.endpoint for s in start.sectors)
            _tell_ready(on_ready, LiveReady(dataset.source.url, start, endpoints), feed)
    except BaseException:
        if run is not None:
            run.release()
        drive.close()
        raise
    return run


def _tell_ready(on_ready: Callable[[LiveReady], Any] | None, info: LiveReady, feed: LiveFeed) -> None:
    if on_ready is None:
        return

    def tell() -> None:
        try:
            on_ready(info)
        except BaseException as exc:  # noqa: BLE001  # ends the run, and is raised there
            exc.add_note("  in on_ready")
            feed.fail(exc)

    threading.Thread(target=tell, name="framefold-on-ready", daemon=True).start()


def _likely_layout(udfs: Sequence[UDF]) -> Any:
    framed = all(not hasattr(u, "process_tile") or u.engine.whole_frames for u in udfs)
    return "frames" if framed else "pieces"


def warm(plan: Plan) -> None:
    """Compile what the folds will call, by folding zeros: compiling while data come would overrun the ring.

    Left out for UDFs that do more than fill buffers (``EngineOptions(effects=True)``).
    """
    assert plan.live is not None
    if plan.n_rows == 0 or any(p.cls.engine.effects for p in plan.udfs):
        return
    start = plan.live.geometry.start
    first = int(plan.rows.frame_ids(0, 1)[0]) + plan.rows.offset
    if first < 0:
        return
    n = WARM_FRAMES
    data = tuple(np.zeros((len(s.pieces), n, *s.pieces.shape), start.dtype) for s in start.sectors)
    valid = tuple(np.ones((n, len(s.pieces)), dtype=bool) for s in start.sectors)
    rows = [int(i) + plan.rows.offset for i in plan.rows.frame_ids(0, min(n, plan.n_rows))]
    here = sum(1 for r in rows if first <= r < first + n)
    block = Block(0, first, n, data, valid)
    try:
        Folder(plan).fold(LiveTask(0, 0, here, block=block))
    except StreamError:
        raise
    except Exception as exc:  # noqa: BLE001  # a UDF may refuse zeros; real data will show
        log.debug("could not try the UDFs before the acquisition: %r", exc)
