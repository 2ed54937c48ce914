"""The loop of an iterative reduction on one host: passes over the lanes, sums, steps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError, annotate
from framefold.executor.iterate_lanes import Lanes
from framefold.executor.iterate_reduce import Alone, Comm, Part, allocate, join, neutral, of_phase
from framefold.executor.iterate_replicas import keep_alike
from framefold.executor.local import blas_threads
from framefold.udfcore.iterative import History, IterativeUDF, Pass, Rows
from framefold.udfcore.namespace import is_device, is_out_of_memory, to_host

Array = npt.NDArray[Any]
UNEVEN = 1.25  # lanes are dealt anew when one has so many times its share of live frames
REPLICA_CHECK = 10  # iterations between two comparisons of the loop state over hosts


class HostLoop:
    """One host's share of an iterative reduction.

    A UDF whose ``xp`` is CuPy has one lane; frames, buffers and what it keeps per frame lie on the device.

    Parameters
    ----------
    udf
        The head's object, with `setup`; lanes get copies.
    frames
        What this host keeps, in the order of the UDF.
    first
        Row of the first of them.
    lanes
        Threads.
    comm
        Joins sums with other hosts.
    total
        Rows on all hosts; None: those of this one.
    present
        Rows whose frames are there, where others may follow; None: all.
    """

    def __init__(
        self,
        udf: IterativeUDF,
        frames: Array,
        first: int,
        lanes: int,
        comm: Comm | None = None,
        total: int | None = None,
        present: Rows | None = None,
    ) -> None:
        self.comm = comm or Alone()
        self.udf = udf
        self.history = udf.history = History()
        self.iteration = 0
        self.overhead = 0.0
        self._first = first
        self._all = frames
        self._xp = udf.xp
        self._lanes = Lanes(max(1, min(lanes, len(frames)) if self._xp is np else 1))
        self._there = np.ones(first + len(frames), bool)
        udf.present = np.arange(len(self._there) if total is None else total)
        if present is not None:
            self._there[:] = False
            self._there[present] = True
            udf.present, udf.growing = present, True
        self._complete = present is None
        self._cut()
        udf.loop = SimpleNamespace(**udf.get_loop_state())
        self._decls = dict(udf.get_pass_buffers())
        self._udfs = [self._lane_udf() for _ in range(self._lanes.n)]
        self._buffers: list[dict[str, Array]] = [{} for _ in range(self._lanes.n)]
        self._lanes.run(self._prepare)

    def _cut(self) -> None:
        """Give each lane a stripe with the same number of frames that are there."""
        n, first = self._lanes.n, self._first
        if self._complete:
            cuts = [len(self._all) * i // n for i in range(n + 1)]
        else:
            count = np.cumsum(self._there[first:])
            inner = np.searchsorted(count, [count[-1] * i / n for i in range(1, n)], side="right")
            cuts = [0, *inner.tolist(), len(self._all)]
        self._spans = [(first + a, first + b) for a, b in zip(cuts, cuts[1:], strict=False)]
        self._frames = [self._placed(self._all[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]

    def _placed(self, frames: Array) -> Array:
        """Return the frames of a lane where it computes, if they fit there."""
        if self._xp is np:
            return frames
        try:
            return self._xp.asarray(frames)
        except MemoryError as exc:
            if not is_out_of_memory(exc):
                raise
        size = frames.nbytes / 2**30
        self.udf.say(f"the frames ({size:.3g} GiB) do not fit the device: parts travel in every pass")
        return frames

    def _lane_udf(self) -> IterativeUDF:
        twin = self.udf.copy()
        assert isinstance(twin, IterativeUDF)
        twin.setup, twin.loop, twin.meta = self.udf.setup, self.udf.loop, self.udf.meta
        return twin

    def _prepare(self, lane: int) -> None:
        """Make what belongs to a lane in its own thread, so that its memory lies near its core."""
        udf = self._udfs[lane]
        udf.lane_rows = self._spans[lane]
        udf.present = self.udf.present
        kept = udf.get_partition_state().items()
        udf.state = SimpleNamespace(**{name: self._kept(name, lane, *what) for name, what in kept})
        udf.windows = {name: udf.window(name) for name, d in self._decls.items() if d.windowed}
        self._buffers[lane] = {
            name: allocate(d, udf.windows.get(name), self._xp) for name, d in self._decls.items()
        }
        udf.task_data = SimpleNamespace(**udf.get_task_data())

    def _kept(self, name: str, lane: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Return what a lane keeps for each of its frames, zero.

        Raises
        ------
        UDFError
            If a device has no room for it.
        """
        shape = len(self._frames[lane]), *shape
        try:
            return self._xp.zeros(shape, dtype)
        except MemoryError as exc:
            if not is_out_of_memory(exc):
                raise
            size = np.prod(shape, dtype=float) * np.dtype(dtype).itemsize / 2**30
            raise UDFError(
                f"{type(self.udf).__name__} keeps {name} of all frames, {size:.3g} GiB, which do not fit the "
                "device: take algorithms that keep nothing, more devices, or the processor"
            ) from exc

    def iterate(self) -> bool | str:
        """Do one iteration; return whether, or why, to stop."""
        t0 = time.perf_counter()
        self.overhead = 0.0
        self.udf._figures = {}
        with blas_threads(1), np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            for item in self.udf.plan(self.iteration):
                self._pass(item)
        figures = dict(self.udf._figures)
        figures["seconds"] = time.perf_counter() - t0
        self.history.append(figures)
        self.iteration += 1
        if self.comm.size > 1 and self.iteration % REPLICA_CHECK == 0:
            keep_alike(self.udf, self.comm, self.iteration)
        over = self.udf.converged(self.history)
        self._adapt()
        return over

    def _adapt(self) -> None:
        """Make the lanes anew if the UDF has other buffers now."""
        decls = dict(self.udf.get_pass_buffers())
        if decls != self._decls:
            self._decls = decls
            self._lanes.run(self._prepare)

    def grow(self, fresh: Rows, *, growing: bool) -> None:
        """Let frames that have come take part from now on; `growing`: others may follow."""
        udf = self.udf
        self._there[fresh] = True
        if is_device(self._frames[0]):
            self._frames[0][fresh - self._first] = self._xp.asarray(self._all[fresh - self._first])
        udf.present, udf.growing = np.flatnonzero(self._there), growing
        counts = [int(np.count_nonzero(self._there[a:b])) for a, b in self._spans]
        if max(counts) > UNEVEN * len(udf.present) / len(counts) + 1:
            kept = {name: self.gather_state(name) for name in vars(self._udfs[0].state)}
            self._cut()
            self._lanes.run(self._prepare)
            for lane, (start, stop) in zip(self._udfs, self._spans, strict=True):
                for name, values in kept.items():
                    getattr(lane.state, name)[...] = values[start - self._first : stop - self._first]
        for lane in self._udfs:
            lane.present = udf.present
        udf.grew(fresh)

    def _pass(self, item: Pass) -> None:
        names = of_phase(self._decls, item.phase)
        busy = [0.0] * self._lanes.n

        def work(lane: int) -> None:
            t0 = time.perf_counter()
            udf, (start, stop) = self._udfs[lane], self._spans[lane]
            buffers = self._buffers[lane]
            for name in names:
                buffers[name][...] = neutral(self._decls[name])
            udf.phase = item.phase
            udf.results = SimpleNamespace(**{name: buffers[name] for name in names})
            if item.rows is not None:
                a, b = np.searchsorted(item.rows, (start, stop))
                rows = item.rows[a:b] - start
                if not self._complete:
                    rows = rows[self._there[start + rows]]
            elif self._complete:
                rows = np.arange(stop - start)
            else:
                rows = np.flatnonzero(self._there[start:stop])
            try:
                udf.process_rows(self._frames[lane], rows)
            except Exception as exc:
                annotate(
                    exc,
                    f"in {type(udf).__name__}, phase {item.phase!r}, iteration {self.iteration}, lane {lane}",
                    udf=type(udf).__name__,
                    stage=item.phase,
                )
                raise
            busy[lane] = time.perf_counter() - t0

        t0 = time.perf_counter()
        self._lanes.run(work)
        joined = {}
        for name in names:
            parts: list[Part] = [
                (b[name], u.windows.get(name)) for b, u in zip(self._buffers, self._udfs, strict=True)
            ]
            joined[name] = join(self._decls[name], parts)
        if self.comm.size > 1:
            arrays = {name: to_host(joined[name]) for name in names}
            self.comm.allreduce([(arrays[name], self._decls[name].reduce) for name in names])
            joined = {name: self._xp.asarray(array) for name, array in arrays.items()}
        self.overhead += time.perf_counter() - t0 - max(busy)
        self.udf.phase = item.phase
        self.udf.step(item.phase, SimpleNamespace(**joined))

    def publish(self) -> dict[str, Array]:
        """Return copies of the results."""
        return {name: np.array(to_host(value)) for name, value in self.udf.publish().items()}

    def gather_state(self, name: str) -> Array:
        """Return what the lanes of this host keep under `name`, in the order of the UDF."""
        return np.concatenate([to_host(getattr(u.state, name)) for u in self._udfs])

    def restore(self, loop: Mapping[str, Any], history: Mapping[str, Array], iteration: int) -> None:
        """Go on from a checkpoint."""
        vars(self.udf.loop).update(loop)
        self.history.columns = {name: column.tolist() for name, column in history.items()}
        self.history.length = self.iteration = iteration
        self.udf.resumed()
        self._adapt()

    def close(self) -> None:
        """End the threads and let the frames go."""
        self._lanes.close()
        self._frames, self._buffers = [], []
        self._all = np.zeros(0)
        self.comm.close()
