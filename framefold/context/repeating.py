"""Begins what goes on after one pass: iterations, and acquisitions of a detector one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from framefold.context.keywords import Plots, Progress
from framefold.context.running import Options, start_live_run, start_run
from framefold.context.viewing import drawn, ended, folded, observers_of, viewers_of
from framefold.executor.base import Executor
from framefold.executor.drive import Run
from framefold.executor.iterate import IterateOptions, Iteration
from framefold.executor.local import LocalExecutor
from framefold.io.save import save_result
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.iterative import IterativeUDF
from framefold.udfcore.live_dataset import LiveDataset
from framefold.udfcore.provenance import provenance_of
from framefold.udfcore.results import Snapshot
from framefold.udfcore.udf import UDF


def start_iteration(
    executor: Executor, ds: Dataset | LiveDataset, udf: IterativeUDF, make: Options, options: IterateOptions,
    progress: Progress, viewers: Callable[[Any, Any, Any], Any] | None,
    on_ready: Callable[[Any], Any] | None, opened: Callable[[Any], Any],
) -> Iteration:  # fmt: skip
    """Begin to load the frames of a dataset, or to receive those of a live one, and to iterate over them."""
    here = LocalExecutor(1)  # receives a live stream: iterations take the other threads of this process

    def receive(loader: UDF) -> Run:
        return start_run(here, ds, [loader], make, False, 0, True, on_ready, opened)

    return Iteration(
        executor, ds, udf, make, options, live=receive if isinstance(ds, LiveDataset) else None,
        observers=tuple(observers_of(progress)), viewers=viewers, on_ready=on_ready,
        provenance=provenance_of, saver=save_result,
    )  # fmt: skip


def acquire(
    executor: Executor, ds: LiveDataset, udfs: Sequence[Any], options: Options, n: int | None,
    progress: Progress, validate: bool, on_ready: Callable[[Any], Any] | None, publish_interval: float,
    plots: Plots, plot_class: Any, opened: Callable[[Any], Any],
) -> Iterator[Snapshot]:  # fmt: skip
    """Return the final snapshots of `n` acquisitions, one by one; None: until stopped, or none begins."""
    from framefold.executor.live import Acquisitions, open_station  # noqa: PLC0415  # only for live sources

    viewers: list[Any] = []
    shown = drawn(plots, keep=True)  # one page for all of them

    def begin(station: Any, prepared: bool, opened: Callable[[Any], Any]) -> Run:
        return start_live_run(
            executor, station, ds, udfs, options, progress, validate, on_ready,
            prepared=prepared, opened=opened,
        )  # fmt: skip

    def follow(run: Run) -> Snapshot:
        if not viewers:
            viewers.append(viewers_of(shown, plot_class, run, udfs))
        elif viewers[0]:
            viewers[0].again(run.snapshot(final=False), udfs, run)
        return folded(run, viewers[0], publish_interval)

    passes = Acquisitions(lambda: open_station(executor, ds), begin, follow, n)
    opened(passes)
    return passes.results() if shown is plots else ended(passes.results(), shown.stop)
