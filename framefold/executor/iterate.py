"""``ctx.iterate``: opens a session, iterates, hands out snapshots, closes it whatever happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.executor.base import Executor
from framefold.executor.iterate_checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from framefold.executor.iterate_host import HostLoop
from framefold.executor.iterate_load import Residency, inspect_data, load_frames
from framefold.executor.local import LocalExecutor
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.events import Event, Observer, PartitionDone, RunEnded, RunStarted
from framefold.udfcore.iterative import DataInfo, IterativeUDF
from framefold.udfcore.metadata import Axis
from framefold.udfcore.plan import RunOptions, UDFPlan
from framefold.udfcore.planning import make_plan
from framefold.udfcore.results import ResultBuffer, Saver, Snapshot, UDFResult
from framefold.udfcore.udf import UDFMethod

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class IterationSnapshot(Snapshot):
    """The state of an iterative reduction, immutable.

    Attributes
    ----------
    iteration
        Iterations done.
    history
        Figures by name, one number per iteration.
    reason
        Why the iteration ended; empty while it goes on.
    """

    iteration: int = 0
    history: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class IterateOptions:
    """Options of `Iteration`; see ``Context.iterate``."""

    n: int | None = None
    publish_every: float = 1.0
    lanes: int | None = None
    residency: Residency = "auto"
    checkpoint: Path | None = None
    checkpoint_every: float = 60.0
    resume: Path | None = None


class Iteration:
    """Iterate over it to get snapshots; leave the loop, or call `stop`, to end it with the results intact.

    Attributes
    ----------
    history
        Figures so far.
    """

    def __init__(
        self,
        executor: Executor,
        dataset: Dataset,
        udf: IterativeUDF,
        run: RunOptions,
        options: IterateOptions,
        *,
        observers: tuple[Observer, ...] = (),
        viewers: Callable[[Any, Any, Any], Any] | None = None,
        on_ready: Callable[[Any], Any] | None = None,
        provenance: Callable[[], Mapping[str, Any]] = dict,
        saver: Saver | None = None,
    ) -> None:
        if not isinstance(udf, IterativeUDF):
            raise UDFError(
                f"{type(udf).__name__} is not iterative: use ctx.run_udf(dataset, udf), or subclass "
                "IterativeUDF"
            )
        if options.n is not None and options.n < 1:
            raise UDFError(f"n={options.n}: the number of iterations must be at least 1")
        # the loop lives in this process: workers of a cluster would have to meet at every pass
        self._executor: Executor = LocalExecutor(options.lanes) if executor.processes else executor
        self._dataset = dataset
        self._udf = udf
        self._options = options
        self._observers = observers
        self._make_viewers = viewers
        self._viewers: Any = None
        self._on_ready = on_ready
        self._provenance = provenance
        self._saver = saver
        self._run = run
        self._stopped = False
        self._loop: HostLoop | None = None
        self._last: IterationSnapshot | None = None
        self._started = time.perf_counter()
        self._steps = self._iterate()

    # --- what users call ---------------------------------------------------------------------

    def __iter__(self) -> Iterator[IterationSnapshot]:
        return self

    def __next__(self) -> IterationSnapshot:
        return next(self._steps)

    def stop(self) -> None:
        """End after the iteration that runs; the results stay."""
        self._stopped = True

    def close(self) -> None:
        """End at once, between iterations; the results of the last iteration stay."""
        self._steps.close()

    def __enter__(self) -> Iteration:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def snapshot(self) -> IterationSnapshot:
        """The last state.

        Raises
        ------
        UDFError
            If no iteration is done.
        """
        if self._last is None:
            raise UDFError("no iteration is done yet: iterate first")
        return self._last

    @property
    def result(self) -> UDFResult:
        """The results of the last state."""
        return self.snapshot.buffers[0]

    def to_end(self) -> UDFResult:
        """Iterate to the end and return the results."""
        for _ in self:
            pass
        return self.result

    # --- the loop ----------------------------------------------------------------------------

    def resolve(self) -> DataInfo:
        """Look at a sample of the data and let the UDF check it, as the first iteration would."""
        info = inspect_data(self._executor, self._dataset, self._run)
        self._udf.setup = self._udf.resolve(info)
        return info

    def _open(self) -> None:
        udf, run = self._udf, self._run
        info = self.resolve()
        order = udf.get_order()
        ids = info.frame_ids
        ordered = ids if order is None else ids[order]
        self._ids = ids
        frames = load_frames(
            self._executor, self._dataset, run, udf, ordered, info.sample, self._options.residency,
            self._observers,
        )  # fmt: skip
        lanes = self._options.lanes or self._executor.capacity
        self._loop = HostLoop(udf, frames, 0, 1 if self._executor.name == "inline" else lanes)
        self._plan = result_plan(self._dataset, udf, run)
        if self._options.resume is not None:
            found = load_checkpoint(self._options.resume, type(udf).__name__, self._data_text())
            self._loop.restore(found.loop, found.history, found.iteration)

    def _data_text(self) -> str:
        """Return what identifies the data in checkpoints; arrays in memory by shape and type."""
        ds = self._dataset
        name = "memory" if ds.source.identity.startswith("memory:") else ds.identity
        return f"{name} {tuple(ds.shape)} {ds.dtype}, {len(self._ids)} frames"

    def _save_checkpoint(self) -> None:
        loop, path = self._loop, self._options.checkpoint
        assert loop is not None
        assert path is not None
        state = Checkpoint(
            vars(self._udf.loop),
            loop.history.table(),
            loop.iteration,
            type(self._udf).__name__,
            self._data_text(),
        )
        save_checkpoint(path, state)

    def _iterate(self) -> Generator[IterationSnapshot]:
        self._started = time.perf_counter()
        error: BaseException | None = None
        left: GeneratorExit | None = None
        try:
            self._open()
            loop = self._loop
            assert loop is not None
            if self._on_ready is not None:
                self._on_ready(self)
            limit = self._options.n or 2**31
            self._tell(
                RunStarted(0 if limit == 2**31 else limit, 0, f"{type(self._udf).__name__} iterations")
            )
            published, saved = -np.inf, time.monotonic()
            while True:
                why = loop.iterate()
                self._tell(PartitionDone(loop.iteration, 1, loop.history["seconds"][-1], ""))
                reason = _reason(why, self._stopped, loop.iteration >= limit, limit)
                now = time.monotonic()
                keep = self._options.checkpoint is not None
                if keep and (reason or now - saved >= self._options.checkpoint_every):
                    saved = now
                    self._save_checkpoint()
                if reason:
                    self._udf.finish()
                if reason or now - published >= self._options.publish_every:
                    published = now
                    self._last = self._snapshot(reason)
                    self._show(self._last)
                    yield self._last
                if reason:
                    return
        except GeneratorExit as exc:
            left = exc
            if self._loop is not None and self._loop.iteration:
                if self._options.checkpoint is not None:
                    self._save_checkpoint()
                self._last = self._snapshot("stopped")
            raise
        except BaseException as exc:
            error = exc
            raise
        finally:
            if self._loop is not None:
                self._loop.close()
                self._loop = None
            if self._viewers is not None and (error or left) is not None:
                self._viewers.fail(error or left)
            self._tell(RunEnded(time.perf_counter() - self._started, error))

    def _show(self, snapshot: IterationSnapshot) -> None:
        if self._make_viewers is None:
            return
        if self._viewers is None:
            self._viewers = self._make_viewers(snapshot, (self._udf,), self)
        if snapshot.final:
            self._viewers.close(snapshot)
        else:
            self._viewers.update(snapshot)

    def _tell(self, event: Event) -> None:
        for observer in self._observers:
            observer(event)

    def _snapshot(self, reason: str) -> IterationSnapshot:
        loop = self._loop
        assert loop is not None
        history = loop.history.table()
        arrays = loop.publish()
        axes = self._udf.get_axes()
        damage = np.zeros(tuple(self._dataset.shape.nav), bool)
        damage.reshape(-1)[self._ids] = True
        report = {
            "executor": self._executor.name,
            "iterations": loop.iteration,
            "reason": reason,
            "seconds": time.perf_counter() - self._started,
            "overhead_seconds": loop.overhead,
            "history": {k: v.tolist() for k, v in history.items()},
        }

        def make() -> tuple[UDFResult, ...]:
            buffers = {
                name: as_result(name, array, self._plan, axes.get(name, ())) for name, array in arrays.items()
            }
            return (
                UDFResult(
                    buffers, damage, report, dict(self._provenance()), dict.fromkeys(arrays, len(self._ids)),
                    self._saver,
                ),
            )  # fmt: skip

        return IterationSnapshot(
            damage, loop.iteration, time.time(), len(self._ids), (0, 0), bool(reason), make,
            iteration=loop.iteration, history=history, reason=reason,
        )  # fmt: skip


def _reason(why: bool | str, stopped: bool, at_limit: bool, limit: int) -> str:
    if why:
        return why if isinstance(why, str) else "converged"
    if stopped:
        return "stopped"
    return f"{limit} iterations" if at_limit else ""


def result_plan(dataset: Dataset, udf: IterativeUDF, run: RunOptions) -> UDFPlan:
    """Return the description of the run that its results carry."""
    from framefold.executor.iterate_load import LoadUDF  # noqa: PLC0415  # a stand-in with the same data

    info = make_plan(dataset, [LoadUDF(None)], run).udfs[0].info
    sig = tuple(info.dataset_shape.sig)
    return UDFPlan(
        type(udf), udf._kwargs, type(udf).__name__, {}, UDFMethod.TILE, info, sig, frozenset(), frozenset()
    )


class IterativeResult(ResultBuffer):
    """A result of kind ``single`` with axes of its own."""

    own_axes: tuple[Axis, ...] = ()

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Calibrated axes of the first axes of `data`."""
        return self.own_axes


def as_result(name: str, array: Array, plan: UDFPlan, axes: tuple[Axis, ...] = ()) -> IterativeResult:
    """Return an array as a result of kind ``single``."""
    result = IterativeResult(
        name, BufferDecl("single", (), array.dtype), plan, array, np.ones(array.shape, bool)
    )
    result.own_axes = axes
    return result
