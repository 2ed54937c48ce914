"""Fold one partition on a worker: read its blocks, hand their tiles to the UDFs, export the buffers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, UDFRunCancelled, annotate
from framefold.udfcore.backend import NUMPY
from framefold.udfcore.decay import faded
from framefold.udfcore.instance import Instance, frames_text
from framefold.udfcore.live_fold import LiveWalk
from framefold.udfcore.merge import REDUCERS
from framefold.udfcore.namespace import is_out_of_memory
from framefold.udfcore.plan import Plan
from framefold.udfcore.task import LivePart, LiveTask, Partial, Task
from framefold.udfcore.tile import TileSlice
from framefold.udfcore.tiles import Tiles

if TYPE_CHECKING:
    from framefold.udfcore.live_receipt import FoldOnReceipt

Array = npt.NDArray[Any]
_IO_RETRIES = 2
LARGE_BYTES = 16 * 1024**2
FLUSH_SHARE = 30  # completing large buffers (`before_shipping`) takes at most 3 % of the time
TRANSFER_RATE = 0.7e9  # bytes/s between processes; large buffers travel at most a fifth of the time


class Folder:
    """Folds the partitions of one run in one thread; keeps instances and scratch between them."""

    def __init__(self, plan: Plan, worker: str = "", threads: int = 1) -> None:
        self.plan = plan
        self.worker = worker
        self._udfs = [Instance(p, plan, threads) for p in plan.udfs]
        self._lanes = [(lane, [self._udfs[i] for i in lane.udfs], Tiles(plan, lane)) for lane in plan.lanes]
        self._blocks: dict[tuple[int, ...], Array] = {}
        self._version = 0
        self._pending: list[tuple[int, int, int]] = []
        self._pending_frames = 0
        self._pending_live: list[LivePart] = []
        self._receipt: FoldOnReceipt | None = None
        self._walk = None if plan.live is None else LiveWalk(plan, self._lanes, self._explain)
        self._every = None if plan.live is None else plan.live.geometry.options.restart_every
        self._tau = None if plan.live is None else plan.live.geometry.options.decay
        self._faded = 0.0
        self._flushed = time.monotonic()
        large = sum(d.nbytes(0, p.sig) for p in plan.udfs for k, d in p.decls.items() if k in p.resident)
        least = 1.0 if plan.live is None or large > LARGE_BYTES else plan.live.publish_interval
        self._flush_interval = max(least, 5 * large / TRANSFER_RATE)

    def fold(self, task: Task, cancelled: threading.Event | None = None) -> Partial:
        """Return the partial of `task`.

        Raises
        ------
        UDFRunCancelled
            If `cancelled` was set meanwhile.
        """
        t0, c0 = time.perf_counter(), time.thread_time()
        if task.params_version != self._version:
            self._update(task)
        plan = self.plan
        if isinstance(task, LiveTask) and task.block.receipt is not None:
            assert self._walk is not None
            self._receipt = task.block.receipt
            return self._receipt.told(task, *self._walk.tell(task), self.worker)
        frames = 0
        live: LivePart | None = None
        caught: dict[str, int] = {}

        def count(kind: str, flag: int) -> None:
            caught[kind] = caught.get(kind, 0) + 1

        # errstate is local to the thread, warnings.catch_warnings is not
        with np.errstate(divide="call", over="call", invalid="call", call=count):
            if self._tau is not None and isinstance(task, LiveTask):
                self._fade(task, self._tau)
            for udf in self._udfs:
                udf.begin(task)
            if self._walk is not None:
                assert isinstance(task, LiveTask)  # live feeds hand out nothing else
                frames, live = self._walk.fold(task, cancelled)
                live.window, live.time = self._window(task), self._faded
                live.block = task.block.frames
            else:
                frames = self._fold_rows(task, cancelled)
            arrays = tuple(udf.finish() for udf in self._udfs)
        last = plan.rows.frame_ids(task.stop - 1, task.stop) if task.stop > task.start else None
        if live is not None:
            assert plan.live is not None
            whole = np.flatnonzero(plan.live.usable(live.status))
            last = plan.rows.frame_ids(task.start, task.stop)[whole[-1:]] if len(whole) else None
            if last is not None:  # rows are used again
                last = last + getattr(task, "shift", 0)
        ident = (task.index, task.start, task.stop)
        if any(udf.plan.lags for udf in self._udfs):
            self._pending.append(ident)
            self._pending_frames += frames
            if live is not None:
                self._pending_live.append(live)
        return Partial(
            (ident,),
            arrays,
            frames=frames,
            seconds=time.perf_counter() - t0,
            cpu_seconds=time.thread_time() - c0,
            bytes_read=frames * plan.dataset.shape.sig.size * plan.dataset.dtype.itemsize,
            params_version=task.params_version,
            worker=self.worker,
            warnings=caught,
            last_ids=last,
            live=live,
        )

    def _fade(self, task: LiveTask, tau: float) -> None:
        """Let what was folded before the block of `task` count less."""
        now = task.block.t_last or time.monotonic()
        if now <= self._faded:
            return
        if self._pending:
            for udf in self._udfs:
                udf.fade(faded(tau, now - self._faded))
        self._faded = now

    def _window(self, task: Task) -> int:
        return 0 if self._every is None else (task.start + getattr(task, "shift", 0)) // self._every

    def begins_window(self, task: Task) -> bool:
        """Whether large buffers must be shipped before `task`: they hold frames of another window."""
        return bool(self._pending_live) and self._pending_live[-1].window != self._window(task)

    @property
    def flush_due(self) -> bool:
        """Whether large buffers were shipped long enough ago to be worth shipping again."""
        pending = self._pending or (self._receipt is not None and self._receipt.pending)
        return bool(pending) and time.monotonic() - self._flushed > self._flush_interval

    def flush(self) -> Partial | None:
        """Return the large buffers folded since the last call and start them anew, or None."""
        own = self._flush()
        began = time.monotonic()
        received = None if self._receipt is None else self._receipt.take(self.worker)
        if received is not None:
            self._flushed = time.monotonic()
            self._flush_interval = max(self._flush_interval, FLUSH_SHARE * (self._flushed - began))
            return received if own is None else joined_deltas(self.plan, received, own)
        return own

    def take_resident(self) -> tuple[dict[str, Array], ...]:
        """Return the large buffers and start them anew."""
        return tuple(udf.take_resident() for udf in self._udfs)

    def begin(self, task: LiveTask) -> None:
        """Make ready for pieces of the block of `task`, of which `receive` gets one after the other."""
        if task.params_version != self._version:
            self._update(task)
        for udf in self._udfs:
            udf.begin(task)

    def receive(self, task: LiveTask, sector: int, raw: Array, first: int) -> int:
        """Fold rows from `first` on of a sector of one piece; return the number of the piece."""
        assert self._walk is not None
        return self._walk.receive(task, sector, raw, first)

    def finish(self) -> None:
        """Be done with the pieces of a block; all that they went to are large buffers."""
        for udf in self._udfs:
            udf.finish()

    def _flush(self) -> Partial | None:
        if not self._pending:
            return None
        tasks, frames = tuple(self._pending), self._pending_frames
        live = joined_parts(self._pending_live, self._tau) if self._pending_live else None
        self._pending, self._pending_frames, self._pending_live = [], 0, []
        began = time.monotonic()
        arrays = self.take_resident()
        self._flushed = time.monotonic()
        self._flush_interval = max(self._flush_interval, FLUSH_SHARE * (self._flushed - began))
        return Partial(
            tasks, arrays, frames=frames, worker=self.worker, delta=True, params_version=self._version,
            live=live,
        )  # fmt: skip

    def _fold_rows(self, task: Task, cancelled: threading.Event | None) -> int:
        plan, frames = self.plan, 0
        for segment in plan.rows.segments(task.start, task.stop):
            for a, b in _cut(segment, plan.read_depth):
                if cancelled is not None and cancelled.is_set():
                    raise UDFRunCancelled("UDF run cancelled while a partition was folded")
                self._fold_block(task, a, b)
                frames += b - a
        return frames

    def _update(self, task: Task) -> None:
        for i, udf in enumerate(self._udfs):
            udf.rebuild(task.patches[i] if task.patches else {}, task.params_version)
        self._version = task.params_version

    def _fold_block(self, task: Task, a: int, b: int) -> None:
        plan = self.plan
        for part_index, part in enumerate(plan.read_parts):
            raw = self._read(a, b, part)
            for lane, udfs, tiles in self._lanes:
                try:
                    for start, stop, index, tile in tiles.cut(raw, part, lane.parts_of[part_index]):
                        for udf in udfs:
                            udf.process(tile, a + start, a + stop, index)
                except Exception as exc:
                    self._explain(exc, task)
                    raise

    def _read(self, a: int, b: int, part: tuple[slice, ...]) -> Any:
        source = self.plan.dataset.source
        runs = self.plan.rows.runs(a, b)
        shape = (b - a, *(s.stop - s.start for s in part))
        if len(runs) == 1 and source.is_view:
            return source.read(TileSlice(*runs[0], part), None)
        if getattr(source, "backend", NUMPY) != NUMPY:
            return _stack([source.read(TileSlice(s, e, part), None) for s, e in runs])
        block = self._block(shape)
        at = 0
        for s, e in runs:
            out = block[at : at + e - s]
            got = _read_retrying(source, TileSlice(s, e, part), out)
            if got is not out:
                out[...] = got
            at += e - s
        return block

    def _block(self, shape: tuple[int, ...]) -> Array:
        key = shape[1:]
        have = self._blocks.get(key)
        if have is None or have.shape[0] < shape[0]:
            have = self._blocks[key] = np.empty(shape, dtype=self.plan.dataset.dtype)
        return have[: shape[0]]

    def _explain(self, exc: Exception, task: Task) -> None:
        udf = next((u for u in self._udfs if u.active), None)
        if udf is None:
            if is_out_of_memory(exc):
                annotate(exc, f"while a tile went to the device, partition {task.index}{_OUT_OF_MEMORY}")
            return
        udf.active = False
        _explain_removed(exc)
        plan = self.plan
        ids = plan.rows.frame_ids(*udf.unit) if udf.unit[1] > udf.unit[0] else np.zeros(0, np.int64)
        annotate(
            exc,
            f"in {udf.plan.name}.{udf.stage}, {frames_text(plan, ids)}, partition {task.index} "
            f"(rows {task.start}..{task.stop - 1}), {_place(self.worker)}, {plan.dataset.name}"
            + (_OUT_OF_MEMORY if is_out_of_memory(exc) else ""),
            udf=udf.plan.name,
            stage=udf.stage,
            partition=task.index,
            frames=ids.tolist(),
            params_version=task.params_version,
        )


def joined_parts(parts: list[LivePart], tau: float | None = None) -> LivePart:
    """Return what several parts together tell about a delta; `tau`: those before the last count less."""
    last = parts[-1]
    weights = [1 if tau is None else faded(tau, last.time - p.time) for p in parts]
    return LivePart(
        np.zeros(0, np.uint8),
        np.sum([w * p.counts for w, p in zip(weights, parts, strict=True)], axis=0),
        sum(w * p.whole for w, p in zip(weights, parts, strict=True)),
        [t for p in parts for t in p.closed],
        window=last.window,
        time=last.time,
    )


def joined_deltas(plan: Plan, a: Partial, b: Partial) -> Partial:
    """Return two deltas of the same worker as one; the arrays of the first are used for it."""
    assert a.live is not None
    assert b.live is not None
    for udf, dest, src in zip(plan.udfs, a.arrays, b.arrays, strict=True):
        for name, array in src.items():
            if name in dest:
                REDUCERS[udf.decls[name].reduce or "sum"](dest[name], array)
            else:
                dest[name] = array
    return replace(
        a, tasks=a.tasks + b.tasks, frames=a.frames + b.frames, live=joined_parts([a.live, b.live]),
        params_version=max(a.params_version, b.params_version),
        warnings={k: a.warnings.get(k, 0) + b.warnings.get(k, 0) for k in {*a.warnings, *b.warnings}},
    )  # fmt: skip


def _place(worker: str) -> str:
    """Return a worker's name for messages; clusters often just number their workers."""
    return f"worker {worker}" if worker.isdigit() else worker or "this process"


_OUT_OF_MEMORY = (
    ": the device has no memory left. Let fewer workers share it, ask for smaller tiles "
    '(get_tiling_preferences: "depth", "total_size"), or run on the host: backends="numpy"'
)
_REMOVED = {"tile_slice": "self.meta.slice", "scheme_idx": "self.meta.tiling_scheme_idx"}


def _explain_removed(exc: Exception) -> None:
    """Name the successor where code asks a tile for an attribute that tiles had in other frameworks."""
    if isinstance(exc, AttributeError) and exc.name in _REMOVED and isinstance(exc.obj, np.ndarray):
        exc.args = (f"tile.{exc.name} was removed; use {_REMOVED[exc.name]}",)


def _cut(segment: tuple[int, int], depth: int) -> Iterator[tuple[int, int]]:
    start, stop = segment
    for a in range(start, stop, min(depth, max(1, stop - start))):
        yield a, min(stop, a + depth)


def _stack(pieces: list[Any]) -> Any:
    if len(pieces) == 1:
        return pieces[0]
    if isinstance(pieces[0], np.ndarray):
        return np.concatenate(pieces)
    import sparse  # noqa: PLC0415  # only sparse sources come here

    return sparse.concatenate(pieces, axis=0)


def _read_retrying(source: Any, tile: TileSlice, out: Array) -> Array:
    """Read, trying again after an `OSError`: network file systems have short failures."""
    for attempt in range(_IO_RETRIES + 1):
        try:
            return source.read(tile, out)
        except OSError as exc:
            if attempt == _IO_RETRIES:
                raise DataError(
                    f"cannot read frames {tile.start}..{tile.stop - 1} of {source.identity}: {exc}"
                ) from exc
            time.sleep(0.05 * (attempt + 1))
    raise AssertionError  # unreachable
