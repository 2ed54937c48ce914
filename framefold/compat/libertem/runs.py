"""Runs with LiberTEM's rules: fixed equal partitions, one joint dtype, a merge per partition on the head."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.compat.libertem.arrays import to_sparse
from framefold.compat.libertem.buffers import BufferWrapper, wrap_flags, wrap_result
from framefold.compat.libertem.corrections import CorrectionSet
from framefold.compat.libertem.dataset import DataSet
from framefold.compat.libertem.executors import InlineJobExecutor, JobExecutor
from framefold.errors import UDFError
from framefold.executor.drive import Run
from framefold.executor.follow import by_merge
from framefold.udfcore.corrections import Corrections
from framefold.udfcore.events import Observer
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.planning import declarations, make_plan
from framefold.udfcore.results import Snapshot
from framefold.udfcore.roi import as_roi
from framefold.udfcore.task import Task
from framefold.udfcore.udf import UDF

Flags = npt.NDArray[np.bool_]


class UDFResults:
    """The buffers of each UDF, and which frames are inside.

    Attributes
    ----------
    buffers
        One dict of `BufferWrapper` objects per UDF.
    damage
        Navigation buffer of bool.
    """

    def __init__(self, buffers: Iterable[dict[str, BufferWrapper]], damage: BufferWrapper) -> None:
        self.buffers = tuple(buffers)
        self.damage = damage


class LazyResults:
    """The same, made when `buffers` is first looked at."""

    def __init__(self, snapshot: Snapshot, damage: BufferWrapper) -> None:
        self._snapshot = snapshot
        self.damage = damage
        self._buffers: tuple[dict[str, BufferWrapper], ...] | None = None

    @property
    def buffers(self) -> tuple[dict[str, BufferWrapper], ...]:
        """One dict of buffers per UDF."""
        if self._buffers is None:
            self._buffers = tuple(
                {name: wrap_result(r) for name, r in result.items()} for result in self._snapshot.buffers
            )
        return self._buffers


def region(roi: Any, dataset: DataSet) -> Flags | None:
    """Return a region of interest of any accepted form as flags of its own in navigation shape."""
    nav = tuple(dataset.shape.nav)
    if isinstance(roi, (list, tuple)):
        roi = np.asarray(to_sparse(_tuples(roi), nav).todense(), dtype=bool)
    return as_roi(roi, nav)


def _tuples(roi: Any) -> Any:
    """Return nested sequences as tuples, and numbers in them as plain ones."""
    if isinstance(roi, (list, tuple, np.ndarray)):
        return tuple(_tuples(r) for r in roi)
    return roi.item() if isinstance(roi, np.generic) else roi


def make_run(
    executor: JobExecutor,
    dataset: DataSet,
    udfs: Sequence[UDF],
    roi: Flags | None = None,
    corrections: Any = None,
    backends: Any = None,
    observers: Sequence[Observer] = (),
) -> Run:
    """Return a run with LiberTEM's partitions, tiles and dtypes."""
    _check(udfs)
    fitting: tuple[str, ...] | None = (backends,) if isinstance(backends, str) else backends
    options = RunOptions(
        roi=roi,
        corrections=engine_corrections(corrections, dataset),
        backends=None if fitting is None else tuple(fitting),
        dtype_policy="joint",
        tile_shape=dataset.tileshape,
        borders=dataset.row_borders(roi),
        contiguous=True,
    )
    try:
        return Run(executor.engine, dataset.engine, udfs, options, observers=list(observers))
    except UDFError as exc:
        raise _in_libertems_words(exc, udfs) from None


def engine_corrections(corrections: Any, dataset: DataSet) -> Corrections | None:
    """Return the corrections of a run: those given, else the dataset's own."""
    if corrections is None:
        corrections = dataset.get_correction_data()
    return corrections.engine if isinstance(corrections, CorrectionSet) else corrections


def _in_libertems_words(exc: UDFError, udfs: Sequence[UDF]) -> UDFError:
    """Return the error for a missing ``get_results`` in the words that LiberTEM's tests look for."""
    for udf in udfs:
        if type(udf).get_results is UDF.get_results and udf.meta is not None:
            for name, decl in udf.get_result_buffers().items():
                if decl.use == "result_only":
                    return UDFError(
                        f"don't know how to set use='result_only' buffer {name!r}; "
                        "please implement `get_results`"
                    )
    return exc


def _check(udfs: Sequence[UDF]) -> None:
    if not udfs:
        raise ValueError("empty list of UDFs - nothing to do!")
    for udf in udfs:
        if not isinstance(udf, UDF):
            raise UDFError(f"expected a UDF, got {udf!r}: pass an object of a UDF class")


def steps(run: Run, dataset: DataSet) -> Iterator[LazyResults]:
    """Yield the results after each merge; the last ones are final."""
    handler = dataset.get_task_comm_handler()
    if handler is None:
        for snapshot in by_merge(run):
            yield of_snapshot(snapshot, run, dataset)
        return
    hand_out = run.feed.next

    def tell() -> Any:
        task = hand_out()
        if isinstance(task, Task):
            handler.handle_task(task, None)
        return task

    run.feed.next = tell  # type: ignore[method-assign]
    handler.start()
    try:
        for snapshot in by_merge(run):
            yield of_snapshot(snapshot, run, dataset)
    finally:
        handler.done()


def of_snapshot(snapshot: Snapshot, run: Run, dataset: DataSet) -> LazyResults:
    """Return a snapshot as LiberTEM's results."""
    return LazyResults(snapshot, wrap_flags(snapshot.damage, dataset.shape, run.plan.options.roi))


class ResultsForDataSet:
    """Iterates over the results of a run; parameters may change on the way."""

    def __init__(self, run: Run, iterator: Iterator[LazyResults]) -> None:
        self._run = run
        self._iterator: Any = iterator

    def __iter__(self) -> ResultsForDataSet:
        return self

    def __next__(self) -> LazyResults:
        return next(self._iterator)

    def close(self) -> None:
        """End the run."""
        self._iterator.close()
        self._run.release()

    def throw(self, exc: BaseException) -> Any:
        """Raise `exc` inside the run."""
        return self._iterator.throw(exc)

    def update_parameters_experimental(self, parameters: Sequence[dict[str, Any]]) -> None:
        """Use other parameters for partitions that begin from now on: one dict per UDF."""
        self._run.update_parameters(parameters)


class UDFRunner:
    """Runs UDFs without a context."""

    def __init__(self, udfs: Sequence[UDF], debug: bool = False, progress_reporter: Any = None) -> None:
        self._udfs = list(udfs)

    @classmethod
    def inspect_udf(cls, udf: UDF, dataset: DataSet, roi: Any = None) -> dict[str, BufferWrapper]:
        """Return the buffers that `udf` would have, without data."""
        twin = udf.copy()
        options = RunOptions(roi=region(roi, dataset), dtype_policy="joint")
        plan = make_plan(dataset.engine, [twin], options).udfs[0]
        found = {}
        for name, d in declarations(twin, plan.info.input_dtype).items():
            found[name] = BufferWrapper(d.kind, d.extra_shape, d.dtype, d.where, d.use)
            found[name].set_shape_ds(dataset.shape, options.roi)
        return found

    @classmethod
    def dry_run(cls, udfs: Sequence[UDF], dataset: DataSet, roi: Any = None) -> LazyResults:
        """Return the results of a run in which nothing was merged."""
        run = make_run(InlineJobExecutor(), dataset, udfs, region(roi, dataset))
        try:
            results = of_snapshot(run.snapshot(final=False), run, dataset)
            results.buffers  # noqa: B018  # made while the UDFs still describe this run
            return results
        finally:
            run.release()

    def run_for_dataset(
        self, dataset: DataSet, executor: JobExecutor, roi: Any = None, progress: bool = False,
        corrections: Any = None, backends: Any = None, dry: bool = False,
    ) -> LazyResults:  # fmt: skip
        """Return the results of a whole run."""
        if dry:
            return self.dry_run(self._udfs, dataset, roi)
        run = make_run(executor, dataset, self._udfs, region(roi, dataset), corrections, backends)
        return list(steps(run, dataset))[-1]
