"""The one loop of the head node: feed tasks, merge partials, tell observers."""

from __future__ import annotations

import contextlib
import heapq
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from framefold.errors import (
    ExecutorError,
    ParameterError,
    StreamError,
    UDFRunCancelled,
)
from framefold.executor.base import Executor, Job
from framefold.executor.run_hold import hold
from framefold.executor.run_patch import check_patch
from framefold.executor.run_totals import Totals
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.events import Event, Observer, PartitionDone, RunEnded, RunStarted
from framefold.udfcore.make_results import ResultMaker
from framefold.udfcore.merge import Merger
from framefold.udfcore.partitioning import Feed, PartitionPlanner, TaskFeed
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.planning import in_order, make_plan
from framefold.udfcore.results import Saver, Snapshot
from framefold.udfcore.task import Partial
from framefold.udfcore.udf import UDF
from framefold.udfcore.validate import check_run


class LiveDrive(Protocol):
    """What a run needs of a stream: where its partials come from, and how to end it.

    Attributes
    ----------
    feed
        Takes changed parameters, and is told when the run is cancelled.
    """

    feed: Feed

    @property
    def groups(self) -> int:
        """Processes that receive sectors of the same frames."""
        ...

    def partials(self, job: Job) -> Iterator[Partial]:
        """Yield the partials of the acquisition as they come."""
        ...

    def stop(self) -> None:
        """End the acquisition; what has arrived is still folded."""
        ...

    def report(self, run: Run, stated: dict[str, Any]) -> dict[str, Any]:
        """Return `stated` with what only live runs can tell."""
        ...

    def close(self) -> None:
        """Free what the run holds; may be called twice."""
        ...


class Run:
    """One pass of UDFs over a dataset.

    Parameters
    ----------
    executor
        Where the folds run.
    dataset, udfs, options
        What is folded.
    observers
        Told about every merged partition.
    retries
        Tries of a partition whose worker died.
    validate
        Check everything before the first tile.
    provenance
        Plain values that describe the run.
    saver
        Given to the results for their ``save``.
    live
        What feeds the run where the data come by themselves; None: the dataset is read.

    Attributes
    ----------
    closing
        Closed when the run is over, or given up.
    """

    def __init__(
        self,
        executor: Executor,
        dataset: Dataset,
        udfs: Sequence[UDF],
        options: RunOptions,
        *,
        observers: Sequence[Observer] = (),
        retries: int = 3,
        validate: bool = True,
        provenance: Callable[[], Mapping[str, Any]] = dict,
        saver: Saver | None = None,
        live: LiveDrive | None = None,
    ) -> None:
        self.closing = contextlib.ExitStack()
        if live is not None:
            self.closing.callback(live.close)
            weakref.finalize(self, self.closing.close)  # a run that nobody follows must not go on receiving
        if not udfs:
            raise ValueError("no UDF given: pass one UDF or a list with at least one")
        self.executor = executor
        self.udfs = tuple(udfs)
        self._held = hold(udfs)
        weakref.finalize(self, self._held.close)  # a run that is dropped before it began
        try:
            self.plan = make_plan(dataset, udfs, options)
            if live is not None and self.plan.live is not None:
                self.plan = replace(self.plan, live=replace(self.plan.live, groups=live.groups))
            lanes = executor.capacity
            if not executor.processes:  # EngineOptions.lanes counts per process
                lanes = min(lanes, self.plan.max_lanes or lanes)
            if validate:
                check_run(self.plan, udfs, lanes=lanes, processes=executor.processes)
            self.merger = Merger(self.plan, udfs)
        except BaseException:
            self._held.close()
            raise
        self.live = live
        self.feed: Feed = (
            TaskFeed(PartitionPlanner(self.plan.partition_limits(lanes))) if live is None else live.feed
        )
        self.job = Job(self.plan, self.feed, retries)
        self._maker = ResultMaker(self.plan, self.merger, provenance, saver)
        self._observers = list(observers)
        self._totals = Totals()
        self._started = time.perf_counter()
        self._patches: list[dict[str, Any]] = [{} for _ in udfs]
        self._stream = in_order(udfs, options)

    def partials(self) -> Iterator[None]:
        """Merge partial after partial, yielding after each.

        Raises
        ------
        UDFRunCancelled
            If `cancel` was called meanwhile; its ``partial`` is the last snapshot.
        """
        plan = self.plan
        self._started = time.perf_counter()
        self._tell(
            RunStarted(
                plan.n_rows, plan.dataset.shape.sig.size * plan.dataset.dtype.itemsize, plan.dataset.name
            )
        )
        error: BaseException | None = None
        stream = self.executor.run(self.job) if self.live is None else self.live.partials(self.job)
        try:
            for partial in _in_order(stream) if self._stream else stream:
                t0, before = time.perf_counter(), self.merger.rows_done
                if self.merger.merge(partial):
                    self._count(partial, time.perf_counter() - t0, self.merger.rows_done - before)
                    yield
            if self.feed.cancelled.is_set():
                raise UDFRunCancelled(f"UDF run cancelled after {self.merger.partitions} partitions")
        except UDFRunCancelled:
            exc = UDFRunCancelled(f"UDF run cancelled after {self.merger.partitions} partitions")
            exc.partial = self.snapshot(final=False)
            error = exc
            raise exc from None
        except BaseException as exc:
            error = exc
            if isinstance(exc, ExecutorError | StreamError):
                exc.partial = self.snapshot(final=False)
            raise
        finally:
            if error is not None:
                self.feed.cancelled.set()
            stream.close()  # type: ignore[attr-defined]  # executors yield from generators
            self._let_go()
            self._tell(RunEnded(time.perf_counter() - self._started, error))

    def _count(self, partial: Partial, merge_seconds: float, rows: int) -> None:
        t = self._totals
        t.count(partial, merge_seconds)
        if not partial.delta:
            t.partitions += len(partial.tasks)
            if self.live is not None:  # several processes may tell of the same rows
                t.frames = self.merger.n_frames
                self._tell(PartitionDone(partial.tasks[0][0], rows, partial.seconds, partial.worker))
                return
            t.frames += partial.frames
            for index, start, stop in partial.tasks:
                self._tell(PartitionDone(index, stop - start, partial.seconds, partial.worker))

    def _tell(self, event: Event) -> None:
        for observer in self._observers:
            observer(event)

    @property
    def complete(self) -> bool:
        """Whether every row is merged into every buffer."""
        if self.live is not None:
            return False  # the stream says when it ends
        return self.merger.rows_done >= self.plan.n_rows and not any(p.lags for p in self.plan.udfs)

    def snapshot(self, *, final: bool) -> Snapshot:
        """Return the results as they are now."""
        return self._maker.snapshot(self.report, final=final)

    def report(self) -> dict[str, Any]:
        """Return what the run did so far, as plain values."""
        t = self._totals
        stats = self.plan.dataset.source.stats()
        stated = {
            "executor": self.executor.name,
            "workers": sorted(t.workers),
            "seconds": time.perf_counter() - self._started,
            "frames": t.frames,
            "partitions": t.partitions,
            "bytes_read": t.bytes_read,
            "fold_seconds": t.fold_seconds,
            "cpu_seconds": t.cpu_seconds,
            "merge_seconds": t.merge_seconds,
            "read_path": stats.path,
            "read_reason": stats.reason,
            "invalid_frames": len(self.plan.rows.bad),
            "notes": dict(self.job.notes),
            "numpy_warnings": dict(t.warnings),
        }
        return stated if self.live is None else self.live.report(self, stated)

    def release(self) -> None:
        """Let the UDF objects go when a run is given up before it began."""
        self.feed.cancelled.set()
        self._let_go()

    def _let_go(self) -> None:
        self.closing.close()
        self._held.close()

    def stop(self) -> None:
        """End the run: live what has arrived is still folded, else as `cancel`."""
        if self.live is not None:
            self.live.stop()
        else:
            self.cancel()

    def cancel(self) -> None:
        """Stop: no new partitions, running ones are dropped at their next block."""
        self.feed.cancelled.set()

    def update_parameters(self, patches: Sequence[Mapping[str, Any]]) -> None:
        """Use other parameters for partitions that start from now on; patches add up.

        Raises
        ------
        ParameterError
            For names that the UDF does not take, or if a patch changes buffer declarations.
        """
        if len(patches) != len(self.udfs):
            raise ParameterError(
                f"{len(patches)} patches for {len(self.udfs)} UDFs: pass one dict per UDF, {{}} for no change"
            )
        for udf, plan, patch in zip(self.udfs, self.plan.udfs, patches, strict=True):
            check_patch(udf, plan, patch)
        for i, patch in enumerate(patches):
            if patch:
                self._patches[i].update(patch)
                self.merger.update(i, patch)
        self.feed.update(self.feed.version + 1, tuple(dict(p) for p in self._patches))


def _in_order(stream: Iterable[Partial]) -> Iterator[Partial]:
    """Yield partials in the order of their partitions, deltas as soon as all their partitions came."""
    waiting: list[tuple[int, bool, int, Partial]] = []
    expected = 0
    for n, partial in enumerate(stream):
        index = max(t[0] for t in partial.tasks)
        heapq.heappush(waiting, (index, partial.delta, n, partial))
        while waiting and (waiting[0][0] < expected or waiting[0][:2] == (expected, False)):
            index, *_, ready = heapq.heappop(waiting)
            yield ready
            expected += index == expected
    while waiting:
        yield heapq.heappop(waiting)[-1]
