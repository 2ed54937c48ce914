"""The class that users write for iterative reductions: `IterativeUDF`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.metadata import Axis
from framefold.udfcore.udf import UDF

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pass:
    """One sweep over frames, which ends in a sum over all lanes and one `IterativeUDF.step`.

    Attributes
    ----------
    phase
        Chooses the buffers, and is ``self.phase`` meanwhile.
    rows
        Which frames, increasing, in the order of `IterativeUDF.get_order`; None: all that are there.
    """

    phase: str = "main"
    rows: Rows | None = None


@dataclass(frozen=True)
class PassBuffer:
    """What `IterativeUDF.summed` returns: an array that every lane fills and that is joined after a pass.

    Attributes
    ----------
    shape, dtype
        Of the joined array.
    reduce
        ``"sum"`` or ``"max"``.
    phases
        In which phases it exists; empty: in all.
    windowed
        Whether lanes hold only the part that `IterativeUDF.window` returns.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    reduce: Literal["sum", "max"] = "sum"
    phases: tuple[str, ...] = ()
    windowed: bool = False


@dataclass(frozen=True)
class DataInfo:
    """What is known about the data before they are loaded.

    Attributes
    ----------
    dataset
        Where they come from.
    frame_ids
        Flat dataset indices of the frames of the run, increasing.
    sample
        Up to 64 of them ``(k, *sig)``, corrected and transformed as all will be.
    sample_ids
        Flat dataset indices of the sample.
    excluded
        Bool, signal shape: pixels that the corrections repair; None: none.
    """

    dataset: Dataset
    frame_ids: Rows
    sample: Array
    sample_ids: Rows
    excluded: npt.NDArray[np.bool_] | None = None


@dataclass
class History:
    """A table with one row per iteration.

    Attributes
    ----------
    columns
        Name -> one number per iteration; NaN where an iteration has none.
    """

    columns: dict[str, list[float]] = field(default_factory=dict)
    length: int = 0

    def append(self, values: Mapping[str, float]) -> None:
        """Add the figures of one iteration."""
        for name in values:
            self.columns.setdefault(name, [np.nan] * self.length)
        for name, column in self.columns.items():
            column.append(float(values.get(name, np.nan)))
        self.length += 1

    def cut(self, length: int) -> None:
        """Forget everything after the first `length` iterations."""
        for column in self.columns.values():
            del column[length:]
        self.length = min(self.length, length)

    def __getitem__(self, name: str) -> npt.NDArray[np.float64]:
        return np.asarray(self.columns.get(name, [np.nan] * self.length))

    def __len__(self) -> int:
        return self.length

    def table(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return a copy, as arrays."""
        return {name: np.asarray(column) for name, column in self.columns.items()}


class IterativeUDF(UDF):
    """A reduction that passes over the data many times; run it by ``ctx.iterate`` or ``ctx.run_udf``.

    The frames stay in memory, in their own integer type, dealt to lanes (threads, processes). What an
    iteration does is a `plan` of passes; each pass calls `process_tile` in every lane, joins the
    buffers, and calls `step` once with the sums. `plan` and `step` run on every host alike, so they may
    depend only on ``self.setup``, ``self.loop``, the sums, the iteration and `rng`.

    Attributes
    ----------
    setup
        What `resolve` returned.
    loop
        The loop state: small, the same everywhere; `step` changes it.
    state
        What the lane keeps per frame, ``self.state.name[i]`` for its i-th frame.
    results
        The buffers of the pass, ``self.results.name``.
    phase
        Of the pass.
    history
        What `record` noted, one row per iteration.
    lane_rows
        ``(start, stop)``: which frames the lane has, in the order of `get_order`.
    task_data
        What `get_task_data` returned for the lane: scratch memory, plans.
    notes
        Sentences for the report, see `say`.
    present
        Rows whose frames are there, increasing: all of them, but for live data, see `grew`.
    growing
        Whether more frames may come.

    Examples
    --------
    >>> import numpy as np
    >>> class Mean(IterativeUDF):          # the mean by gradient descent
    ...     def get_loop_state(self):
    ...         return {"x": np.zeros(self.setup)}
    ...     def resolve(self, info):
    ...         return info.sample.shape[1:]
    ...     def get_pass_buffers(self):
    ...         return {"g": self.summed(self.setup, "float64"), "n": self.summed((), "int64")}
    ...     def process_tile(self, tile):
    ...         self.results.g[...] += (tile - self.loop.x).sum(axis=0)
    ...         self.results.n[...] += len(tile)
    ...     def step(self, phase, results):
    ...         self.loop.x += 0.5 * results.g / results.n
    ...         self.record(change=float(np.abs(results.g).max()))
    ...     def converged(self, history):
    ...         return history["change"][-1] < 1e-6
    ...     def publish(self):
    ...         return {"mean": self.loop.x}
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.setup: Any = None
        self.loop: Any = SimpleNamespace()
        self.state: Any = SimpleNamespace()
        self.phase = ""
        self.lane_rows = (0, 0)
        self.windows: Mapping[str, tuple[slice, ...]] = {}
        self.history = History()
        self.notes: list[str] = []
        self.present: Rows = np.arange(0)
        self.growing = False
        self._figures: dict[str, float] = {}

    # --- what users define -------------------------------------------------------------------

    def resolve(self, info: DataInfo) -> Any:
        """Return what all lanes need to know about the data: called once, before anything is loaded.

        The place for checks and questions; what is returned must pickle.
        """
        return None

    def get_order(self) -> Rows | None:
        """Return the order in which frames are dealt to lanes, a permutation of them; None: as they are."""
        return None

    def keep(self, tile: Array) -> Array:
        """Return what stays in memory of a tile ``(n, *sig)``: ``(n, ...)``."""
        return tile

    def get_loop_state(self) -> Mapping[str, Any]:
        """Return the loop state at the start: arrays and numbers by name."""
        return {}

    def get_partition_state(self) -> Mapping[str, tuple[tuple[int, ...], npt.DTypeLike]]:
        """Return shape and dtype of what a lane keeps for each of its frames; zero at the start."""
        return {}

    def get_pass_buffers(self) -> Mapping[str, PassBuffer]:
        """Return the buffers by name, declared by `summed`."""
        raise NotImplementedError(f"{type(self).__name__} must define get_pass_buffers")

    def window(self, name: str) -> tuple[slice, ...]:
        """Return the part of a windowed buffer that the frames ``self.lane_rows`` touch."""
        raise NotImplementedError(f"{type(self).__name__} must define window, {name!r} is windowed")

    def plan(self, iteration: int) -> Iterator[Pass]:
        """Yield the passes of an iteration; runs in between, so it may look at what `step` did."""
        yield Pass()

    def process_rows(self, frames: Array, rows: Rows) -> None:
        """Fold the frames `rows` of ``frames (n, ...)``, all that the lane has. By default in tiles.

        For UDFs that need no contiguous tiles; `rows` is increasing.
        """
        if len(rows) == 0:
            return
        if rows[-1] - rows[0] + 1 == len(rows):
            self.process_tile(frames[rows[0] : rows[-1] + 1])  # type: ignore[attr-defined]  # the user's
            return
        depth = max(1, 2**20 // max(1, frames[:1].nbytes))
        for at in range(0, len(rows), depth):
            self.process_tile(frames[rows[at : at + depth]])  # type: ignore[attr-defined]  # as above

    def step(self, phase: str, results: Any) -> None:
        """Change ``self.loop`` by the joined buffers of a pass."""

    def get_axes(self) -> Mapping[str, tuple[Axis, ...]]:
        """Return the calibrated axes of results, by name."""
        return {}

    def converged(self, history: History) -> bool | str:
        """Return whether to stop, or why, after each iteration."""
        return False

    def publish(self) -> Mapping[str, Any]:
        """Return the results by name; copied by the caller."""
        return dict(vars(self.loop))

    def resumed(self) -> None:
        """Make up for what a checkpoint does not hold, after ``self.loop`` was read from one."""

    def grew(self, fresh: Rows) -> None:
        """Take note of live frames that came since the last iteration, or of the end of the acquisition.

        Called between iterations, when `present` and `growing` have changed already. Passes over all rows are
        passes over those present.
        """

    def finish(self) -> None:
        """Put the last touches to ``self.loop``, once, after the last iteration."""

    # --- what users call ---------------------------------------------------------------------

    def summed(
        self,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike = "float32",
        *,
        reduce: Literal["sum", "max"] = "sum",
        phase: str | tuple[str, ...] = (),
        windowed: bool = False,
    ) -> PassBuffer:
        """Declare a buffer that is joined after a pass; see `PassBuffer`."""
        if reduce not in ("sum", "max"):
            raise UDFError(f"{type(self).__name__}: reduce={reduce!r} is not 'sum' or 'max'")
        phases = (phase,) if isinstance(phase, str) else tuple(phase)
        return PassBuffer(tuple(int(n) for n in shape), np.dtype(dtype), reduce, phases, windowed)

    def record(self, **figures: float) -> None:
        """Note figures of this iteration for the history."""
        self._figures.update(figures)

    def say(self, sentence: str) -> None:
        """Note a sentence for the report."""
        self.notes.append(sentence)

    def rng(self, *counters: int) -> np.random.Generator:
        """Return random numbers that depend on the parameter ``seed`` and the counters only."""
        return np.random.default_rng([int(self.params.get("seed", 0) or 0), *map(int, counters)])

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Raise: an iterative UDF declares `get_pass_buffers`."""
        raise UDFError(
            f"{type(self).__name__} is iterative: run it alone, by ctx.iterate(dataset, udf) or ctx.run_udf"
        )


def stratified(n: int, batches: int, rng: np.random.Generator) -> list[Rows]:
    """Return `batches` disjoint sets of rows that each cover the whole scan.

    Consecutive groups of as many rows as there are batches give one row to each, in random order.

    >>> [len(b) for b in stratified(10, 4, np.random.default_rng(0))]
    [3, 3, 2, 2]
    """
    batches = max(1, min(batches, n))
    groups = -(-n // batches)
    order = rng.permuted(np.tile(np.arange(batches), (groups, 1)), axis=1)
    order[-1] = np.arange(batches)  # the last group may be short: its rows go to the first batches
    target = order.reshape(-1)[:n]
    return [np.flatnonzero(target == k).astype(np.int64) for k in range(batches)]
