"""``ctx.iterate``: opens a session, iterates, hands out snapshots, closes it whatever happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import ExecutorError, StreamError, UDFError
from framefold.executor.base import Executor
from framefold.executor.drive import Run
from framefold.executor.iterate_checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from framefold.executor.iterate_host import HostLoop
from framefold.executor.iterate_live import Arrivals, LiveTeam
from framefold.executor.iterate_load import Residency, data_info, frame_ids, inspect_data, load_frames
from framefold.executor.iterate_snapshot import IterationSnapshot, as_result, result_plan
from framefold.executor.iterate_team import LocalTeam, LoopState, Standing, Team
from framefold.executor.local import LocalExecutor
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.events import Event, Observer, PartitionDone, RunEnded, RunStarted
from framefold.udfcore.iterative import DataInfo, IterativeUDF
from framefold.udfcore.live_dataset import LiveDataset
from framefold.udfcore.namespace import require_device
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.results import Saver, UDFResult
from framefold.udfcore.udf import UDF

Array = npt.NDArray[Any]


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
    closed
        Whether it is over.
    """

    def __init__(
        self,
        executor: Executor,
        dataset: Dataset | LiveDataset,
        udf: IterativeUDF,
        run: Callable[[Dataset], RunOptions],
        options: IterateOptions,
        *,
        live: Callable[[UDF], Run] | None = None,
        observers: tuple[Observer, ...] = (),
        viewers: Callable[[Any, Any, Any], Any] | None = None,
        on_ready: Callable[[Any], Any] | None = None,
        provenance: Callable[[Dataset, RunOptions], Mapping[str, Any]] = lambda ds, opts: {},
        saver: Saver | None = None,
    ) -> None:
        if not isinstance(udf, IterativeUDF):
            raise UDFError(
                f"{type(udf).__name__} is not iterative: use ctx.run_udf(dataset, udf), or subclass "
                "IterativeUDF"
            )
        if options.n is not None and options.n < 1:
            raise UDFError(f"n={options.n}: the number of iterations must be at least 1")
        if live is not None and options.resume is not None:
            raise UDFError("resume= needs the frames again, and those of a live stream pass once")
        self._executor = executor
        self._given = dataset
        self._arrivals = None if live is None else Arrivals(live)
        self._udf = udf
        self._options = options
        self._observers = observers
        self._make_viewers = viewers
        self._viewers: Any = None
        self._on_ready = on_ready if live is None else None  # called when everything listens
        self._provenance = provenance
        self._saver = saver
        self._options_of = run
        self._stopped = False
        self.closed = False
        self._last: IterationSnapshot | None = None
        self._started = time.perf_counter()
        self._steps = self._iterate()

    # --- what users call ---------------------------------------------------------------------

    def __iter__(self) -> Iterator[IterationSnapshot]:
        return self

    def __next__(self) -> IterationSnapshot:
        return next(self._steps)

    def stop(self) -> None:
        """End after the iteration that runs, live the acquisition too; the results stay."""
        self._stopped = True
        if self._arrivals is not None:
            self._arrivals.stop()

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
        if isinstance(self._given, LiveDataset):
            info = self._first_arrivals()
        else:
            self._dataset, self._run = self._given, self._options_of(self._given)
            # a few frames, which need not travel
            reader = LocalExecutor() if self._executor.processes else self._executor
            info = inspect_data(reader, self._dataset, self._run)
        self._udf.setup = self._udf.resolve(info)
        return info

    def _first_arrivals(self) -> DataInfo:
        arrivals = self._arrivals
        assert arrivals is not None
        arrivals.open()
        arrivals.wait()
        dataset = self._dataset = arrivals.run.plan.dataset
        run = self._run = self._options_of(dataset)
        return data_info(dataset, run, frame_ids(dataset, run), *arrivals.sample())

    def _open(self) -> Team:
        """Load the frames, and return who iterates."""
        udf, options = self._udf, self._options
        if not self._executor.processes and udf.xp is not np:
            require_device(type(udf).__name__)
        info = self.resolve()
        run = self._run
        order = udf.get_order()
        ids = self._ids = info.frame_ids
        ordered = ids if order is None else ids[order]
        self._plan = result_plan(self._dataset, udf, run)
        here = LocalExecutor(options.lanes) if self._executor.processes else self._executor
        lanes = 1 if here.name == "inline" else options.lanes or here.capacity
        if self._arrivals is not None:
            return LiveTeam(udf, self._arrivals, info, options.residency, lanes)
        if self._executor.processes:
            from framefold.executor.iterate_dask import DaskTeam  # noqa: PLC0415  # loads dask

            return DaskTeam(
                self._executor, udf, self._dataset, run, info, ordered, options.residency, options.lanes
            )
        frames = load_frames(
            self._executor, self._dataset, run, udf, ordered, info.sample, options.residency, self._observers
        )
        return LocalTeam(lambda: HostLoop(udf, frames, 0, lanes))

    def _data_text(self) -> str:
        """Return what identifies the data in checkpoints; arrays in memory by shape and type."""
        ds = self._dataset
        name = "memory" if ds.source.identity.startswith("memory:") else ds.identity
        return f"{name} {tuple(ds.shape)} {ds.dtype}, {len(self._ids)} frames"

    def _resumed(self) -> LoopState | None:
        if self._options.resume is None:
            return None
        found = load_checkpoint(self._options.resume, type(self._udf).__name__, self._data_text())
        return LoopState(found.loop, found.history, found.iteration)

    def _save_checkpoint(self, team: Team) -> None:
        path, state = self._options.checkpoint, team.state()
        assert path is not None
        name = type(self._udf).__name__
        save_checkpoint(path, Checkpoint(state.loop, state.history, state.iteration, name, self._data_text()))

    def _iterate(self) -> Generator[IterationSnapshot]:
        self._started = time.perf_counter()
        error: BaseException | None = None
        left: GeneratorExit | None = None
        team: Team | None = None
        now: Standing | None = None
        keep = self._options.checkpoint is not None
        try:
            team = self._open()
            team.begin(self._resumed())
            if self._on_ready is not None:
                self._on_ready(self)
            limit = self._options.n or 2**31
            self._tell(
                RunStarted(0 if limit == 2**31 else limit, 0, f"{type(self._udf).__name__} iterations")
            )
            published, saved = -np.inf, time.monotonic()
            while True:
                due = published + self._options.publish_every - time.monotonic()
                now = self._advance(team, due, limit, now)
                reason = _reason(now.why, self._stopped, now.counted >= limit, limit)
                clock = time.monotonic()
                if keep and (reason or clock - saved >= self._options.checkpoint_every):
                    saved = clock
                    self._save_checkpoint(team)
                if reason:
                    team.finish()
                if reason or clock - published >= self._options.publish_every:
                    published = clock
                    self._last = self._snapshot(team, now, reason)
                    self._show(self._last)
                    yield self._last
                if reason:
                    return
        except GeneratorExit as exc:
            left = exc
            if team is not None and now is not None:
                if keep:
                    self._save_checkpoint(team)
                self._last = self._snapshot(team, now, "stopped")
            raise
        except BaseException as exc:
            error = exc
            if isinstance(exc, StreamError) and team is not None and now is not None:
                self._last = self._snapshot(team, now, "the stream broke")
            if isinstance(exc, ExecutorError | StreamError):
                exc.partial = self._last
            raise
        finally:
            self.closed = True
            if team is not None:
                team.close()
            if self._arrivals is not None:
                self._arrivals.close()
            if self._viewers is not None and (error or left) is not None:
                self._viewers.fail(error or left)
            self._tell(RunEnded(time.perf_counter() - self._started, error))

    def _advance(self, team: Team, seconds: float, limit: int, before: Standing | None) -> Standing:
        """Iterate, and tell observers of each iteration."""
        now = team.advance(max(0.0, seconds), limit)
        self._udf.history.columns = {name: column.tolist() for name, column in now.history.items()}
        self._udf.history.length = now.iteration
        done = now.iteration - 1 if before is None else before.iteration
        for i in range(min(done, now.iteration), now.iteration):
            self._tell(PartitionDone(i + 1, 1, float(now.history["seconds"][i]), ""))
        return now

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

    def _snapshot(self, team: Team, now: Standing, reason: str) -> IterationSnapshot:
        history = now.history
        arrays = team.publish()
        axes = self._udf.get_axes()
        damage = np.zeros(tuple(self._dataset.shape.nav), bool)
        present = team.present
        ids = self._ids if present is None else present
        damage.reshape(-1)[ids] = True
        report = {
            "executor": self._executor.name,
            "iterations": now.iteration,
            "reason": reason,
            "seconds": time.perf_counter() - self._started,
            "overhead_seconds": now.overhead,
            "history": {k: v.tolist() for k, v in history.items()},
            **team.report(),
        }

        dataset, run = self._dataset, self._run

        def make() -> tuple[UDFResult, ...]:
            buffers = {
                name: as_result(name, array, self._plan, axes.get(name, ())) for name, array in arrays.items()
            }
            valid = dict.fromkeys(arrays, len(ids))
            told = dict(self._provenance(dataset, run))
            return (UDFResult(buffers, damage, report, told, valid, self._saver),)

        return IterationSnapshot(
            damage, now.iteration, time.time(), len(ids), (0, 0), bool(reason), make,
            iteration=now.iteration, history=history, reason=reason,
        )  # fmt: skip


def _reason(why: bool | str, stopped: bool, at_limit: bool, limit: int) -> str:
    if why:
        return why if isinstance(why, str) else "converged"
    if stopped:
        return "stopped"
    return f"{limit} iterations" if at_limit else ""
