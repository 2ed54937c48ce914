"""Fold one partition on a worker: read blocks, prepare tiles, call the UDFs, export their buffers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, UDFRunCancelled, annotate
from framefold.udfcore.auxdata import AuxData
from framefold.udfcore.backend import NUMPY, for_backend
from framefold.udfcore.buffers import BufferDecl, MergeView, ResultViews
from framefold.udfcore.meta import UDFMeta
from framefold.udfcore.params import Namespace
from framefold.udfcore.plan import LanePlan, Plan, UDFPlan
from framefold.udfcore.task import Partial, Task
from framefold.udfcore.tile import TileSlice
from framefold.udfcore.udf import UDFMethod, merge_call

Array = npt.NDArray[Any]
_IO_RETRIES = 2
TRANSFER_RATE = 0.7e9  # bytes/s between processes; large buffers travel at most a fifth of the time


class Folder:
    """Folds the partitions of one run in one thread; keeps instances and scratch between them."""

    def __init__(self, plan: Plan, worker: str = "", threads: int = 1) -> None:
        self.plan = plan
        self.worker = worker
        self._udfs = [_Instance(p, plan, threads) for p in plan.udfs]
        self._lanes = [(lane, [self._udfs[i] for i in lane.udfs], _Tiles(plan, lane)) for lane in plan.lanes]
        self._blocks: dict[tuple[int, ...], Array] = {}
        self._version = 0
        self._pending: list[tuple[int, int, int]] = []
        self._pending_frames = 0
        self._flushed = time.monotonic()
        large = sum(d.nbytes(0, p.sig) for p in plan.udfs for k, d in p.decls.items() if k in p.resident)
        self._flush_interval = max(1.0, 5 * large / TRANSFER_RATE)

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
        frames = 0
        caught: dict[str, int] = {}

        def count(kind: str, flag: int) -> None:
            caught[kind] = caught.get(kind, 0) + 1

        # errstate is local to the thread, warnings.catch_warnings is not
        with np.errstate(divide="call", over="call", invalid="call", call=count):
            for udf in self._udfs:
                udf.begin(task)
            for segment in plan.rows.segments(task.start, task.stop):
                for a, b in _cut(segment, plan.read_depth):
                    if cancelled is not None and cancelled.is_set():
                        raise UDFRunCancelled("UDF run cancelled while a partition was folded")
                    self._fold_block(task, a, b)
                    frames += b - a
            arrays = tuple(udf.finish() for udf in self._udfs)
        last = plan.rows.frame_ids(task.stop - 1, task.stop) if task.stop > task.start else None
        ident = (task.index, task.start, task.stop)
        if any(udf.plan.lags for udf in self._udfs):
            self._pending.append(ident)
            self._pending_frames += frames
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
        )

    @property
    def flush_due(self) -> bool:
        """Whether large buffers were shipped long enough ago to be worth shipping again."""
        return bool(self._pending) and time.monotonic() - self._flushed > self._flush_interval

    def flush(self) -> Partial | None:
        """Return the large buffers folded since the last call and start them anew, or None."""
        if not self._pending:
            return None
        tasks, frames = tuple(self._pending), self._pending_frames
        self._pending, self._pending_frames = [], 0
        self._flushed = time.monotonic()
        return Partial(
            tasks, tuple(u.take_resident() for u in self._udfs), frames=frames, worker=self.worker,
            delta=True, params_version=self._version,
        )  # fmt: skip

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
            return
        udf.active = False
        plan = self.plan
        ids = plan.rows.frame_ids(*udf.unit) if udf.unit[1] > udf.unit[0] else np.zeros(0, np.int64)
        annotate(
            exc,
            f"in {udf.plan.name}.{udf.stage}, {_frames_text(plan, ids)}, partition {task.index} "
            f"(rows {task.start}..{task.stop - 1}), {self.worker or 'this process'}, {plan.dataset.name}",
            udf=udf.plan.name,
            stage=udf.stage,
            partition=task.index,
            frames=ids.tolist(),
            params_version=task.params_version,
        )


class _Instance:
    """One UDF object on a worker with its buffers, bound views and current unit."""

    def __init__(self, plan: UDFPlan, run: Plan, threads: int) -> None:
        self.plan = plan
        self._run = run
        self._threads = threads
        self.active = False
        self.stage = ""
        self.unit = (0, 0)
        self._resident: dict[str, Array] = {}
        self._part_cache: dict[tuple[str, int], Array] = {}
        self.rebuild({}, 0)

    def rebuild(self, patch: Mapping[str, Any], version: int) -> None:
        """Make the UDF object anew with other parameters."""
        plan = self.plan
        self._kwargs = {**plan.kwargs, **patch}
        udf = self.udf = plan.cls(**self._kwargs)
        self.meta = udf.meta = UDFMeta(plan.info)
        self.meta.params_version = version
        self.meta.threads_per_worker = self._threads
        udf.results = ResultViews(plan.decls, f"{plan.name}")
        self._views = vars(udf.results)
        self._params = vars(udf.params)
        n_nav = self._run.rows.n_nav
        self._aux = {
            k: (v.kind, v.flat(n_nav, plan.sig)) for k, v in self._kwargs.items() if isinstance(v, AuxData)
        }
        self._aux_extra = {k: v.extra_shape for k, v in self._kwargs.items() if isinstance(v, AuxData)}
        udf.worker_data = Namespace("worker datum", udf.get_worker_data())
        self._init_state = dict(vars(udf))
        self._call: Callable[[Any], Any] = getattr(udf, f"process_{plan.method.value}")
        self._bound_part: int | None = None

    # --- one partition -----------------------------------------------------------------------

    def begin(self, task: Task) -> None:
        """Allocate buffers, bind partition views, run `preprocess`."""
        udf, plan, meta = self.udf, self.plan, self.meta
        self._restore()
        self._rows = (task.start, task.stop)
        n = task.stop - task.start
        self.buffers: dict[str, Array] = {}
        for name, decl in plan.decls.items():
            if decl.use == "result_only":
                self._views[name] = None
                continue
            if name in plan.resident:
                if name not in self._resident:
                    self._resident[name] = self._placed(decl, decl.allocate(n, plan.sig))
                self.buffers[name] = self._resident[name]
            else:
                self.buffers[name] = self._placed(decl, decl.allocate(n, plan.sig))
        self._nav = [
            (k, _rows_of(self.buffers[k], d))
            for k, d in plan.decls.items()
            if d.kind == "nav" and k in self.buffers
        ]
        self._sig = [k for k, d in plan.decls.items() if d.kind == "sig" and k in self.buffers]
        self._aux_nav = {}
        for name, (kind, flat) in self._aux.items():
            if kind == "nav":
                ids = self._run.rows.ids
                flat = flat[task.start : task.stop] if ids is None else flat[ids[task.start : task.stop]]
                self._aux_nav[name] = flat if self._aux_extra[name] else flat.reshape(-1, 1)
        meta._partition = self._rows
        meta.partition_index = task.index
        meta._start, meta._count = task.start, n
        meta._sig = None
        self._bind_whole()
        self._hook(
            "get_task_data",
            lambda: vars(udf).__setitem__("task_data", Namespace("task datum", udf.get_task_data())),
        )
        self._hook("preprocess", udf.preprocess)

    def _placed(self, decl: BufferDecl, arr: Array) -> Any:
        """Return a buffer where it was declared to live: on the device if the lane runs there."""
        if decl.where == "device" and self.meta.device_class == "cuda":
            return self.udf.xp.asarray(arr)
        return arr

    def process(self, tile: Any, start: int, stop: int, part: int) -> None:
        """Call the UDF's ``process_*`` with `tile`, rows ``[start, stop)`` and signal part `part`."""
        meta = self.meta
        meta._start, meta._count = start, stop - start
        self.active = True
        self.unit = (start, stop)
        if part != self._bound_part:
            self._bind_part(part)
        a, b = start - self._rows[0], stop - self._rows[0]
        method = self.plan.method
        if method is UDFMethod.FRAME:
            self._frames(tile, start, a, b)
        else:
            self.stage = "process_tile" if method is UDFMethod.TILE else "process_partition"
            views = self._views
            for name, buf in self._nav:
                views[name] = buf[a:b] if self.plan.decls[name].extra_shape else buf[a:b, 0]
            for name, aux in self._aux_nav.items():
                self._params[name] = aux[a:b] if self._aux_extra[name] else aux[a:b, 0]
            self._call(tile)
        self.active = False

    def _frames(self, tile: Any, start: int, a: int, b: int) -> None:
        """Call `process_frame` for each row; the loop is the price of every frame, so it is bare."""
        self.stage = "process_frame"
        meta, call, views = self.meta, self._call, self._views
        meta._count = 1
        rows: Iterator[Any] = iter(range(start, start + b - a))
        try:
            if self._aux_nav:
                names = [k for k, _ in self._nav]
                params, aux_names = self._params, list(self._aux_nav)
                for row, frame, *rest in zip(
                    rows,
                    tile,
                    *(v[a:b] for _, v in self._nav),
                    *(v[a:b] for v in self._aux_nav.values()),
                    strict=False,
                ):
                    meta._start = row
                    views.update(zip(names, rest, strict=False))
                    params.update(zip(aux_names, rest[len(names) :], strict=True))
                    call(frame)
            elif not self._nav:
                for row, frame in zip(rows, tile, strict=False):
                    meta._start = row
                    call(frame)
            elif len(self._nav) == 1:
                name, buf = self._nav[0]
                for row, frame, view in zip(rows, tile, buf[a:b], strict=False):
                    meta._start = row
                    views[name] = view
                    call(frame)
            else:
                names = [k for k, _ in self._nav]
                for row, frame, *values in zip(rows, tile, *(v[a:b] for _, v in self._nav), strict=False):
                    meta._start = row
                    views.update(zip(names, values, strict=True))
                    call(frame)
        finally:
            self.unit = (meta._start, meta._start + 1)

    def finish(self) -> dict[str, Array]:
        """Flush, run `postprocess` and return the buffers to ship."""
        udf = self.udf
        self._flush_part()
        self._bind_whole()  # meta keeps describing the last unit
        self._hook("postprocess", udf.postprocess)
        if self.plan.joined:
            self._hook("merge", self._join)
        self._hook("cleanup", udf.cleanup)
        later = self.plan.resident | self.plan.joined
        out = {k: v for k, v in self.buffers.items() if k not in later}
        self.buffers = {}
        for name in self._views:
            self._views[name] = None
        return {k: _host(v) for k, v in out.items()}

    def _join(self) -> None:
        """Join the partition into the worker's accumulators by the UDF's own `merge`."""
        decls, joined = self.plan.decls, self.plan.joined
        own = {k: v for k, v in self.buffers.items() if decls[k].reduce is None}
        if not joined <= self._resident.keys():  # the first partition is the accumulator
            self._resident.update({k: own[k] for k in joined})
            return
        n = self._rows[1] - self._rows[0]
        nav = {k: decls[k].allocate(n, self.plan.sig) for k in own if k not in joined}
        dest = {k: self._resident[k] if k in joined else nav[k] for k in own}
        merge_call(self.udf)(
            MergeView(decls, dest, f"{self.plan.name}.merge(dest)"),
            MergeView(decls, own, f"{self.plan.name}.merge(src)"),
        )
        self.buffers.update(nav)

    def take_resident(self) -> dict[str, Array]:
        """Return the large buffers and forget them."""
        out, self._resident = self._resident, {}
        return {k: _host(v) for k, v in out.items()}

    # --- binding -----------------------------------------------------------------------------

    def _bind_whole(self) -> None:
        """Bind the views of the whole partition."""
        for name, buf in self.buffers.items():
            self._views[name] = buf
        for name, (kind, flat) in self._aux.items():
            if kind != "nav":
                self._params[name] = flat
            else:
                aux = self._aux_nav[name]
                self._params[name] = aux if self._aux_extra[name] else aux[:, 0]
        self._bound_part = None

    def _bind_part(self, part: int) -> None:
        """Bind signal buffers and aux data to a part; parts that are not contiguous get a copy."""
        self._flush_part()
        scheme = self.plan.info.scheme
        self.meta._part = part if scheme is not None else None
        if scheme is None:
            where: tuple[slice, ...] = tuple(slice(0, n) for n in self.plan.sig)
        else:
            where = scheme.parts[part]
        self.meta._sig = where
        for name in self._sig:
            view = self.buffers[name][where]
            if not view.flags.c_contiguous:
                view = view.copy()
                self._part_cache[(name, part)] = view
            self._views[name] = view
        for name, (kind, flat) in self._aux.items():
            if kind == "sig":
                self._params[name] = np.ascontiguousarray(flat[where])
        self._bound_part = part

    def _flush_part(self) -> None:
        scheme = self.plan.info.scheme
        for (name, part), view in self._part_cache.items():
            assert scheme is not None
            self.buffers[name][scheme.parts[part]] = view
        self._part_cache.clear()

    def _hook(self, stage: str, call: Callable[[], Any]) -> None:
        self.stage, self.active = stage, True
        self.unit = self._rows
        try:
            call()
        except Exception as exc:
            ids = self._run.rows.frame_ids(*self._rows)
            annotate(
                exc, f"in {self.plan.name}.{stage}, {_frames_text(self._run, ids)}, {self._run.dataset.name}",
                udf=self.plan.name, stage=stage, partition=self.meta.partition_index, frames=ids.tolist(),
                params_version=self.meta.params_version,
            )  # fmt: skip
            raise
        finally:
            self.active = False

    def _restore(self) -> None:
        """Forget attributes that user code set during the last partition."""
        state = vars(self.udf)
        state.clear()
        state.update(self._init_state)


class _Tiles:
    """Cuts a raw block into the tiles of a lane: corrects, transforms, converts, changes backend."""

    def __init__(self, plan: Plan, lane: LanePlan) -> None:
        self._lane = lane
        self._raw_dtype = plan.dataset.dtype
        self._scratch: dict[Any, Array] = {}
        self._sparse_source = getattr(plan.dataset.source, "backend", NUMPY) != NUMPY

    def cut(
        self, raw: Any, read_part: tuple[slice, ...], members: tuple[int, ...]
    ) -> Iterator[tuple[int, int, int, Any]]:
        """Yield ``(start, stop, part index, tile)``; a tile is valid until the next one."""
        lane = self._lane
        n = raw.shape[0]
        depth = min(lane.scheme.depth, n)
        for start in range(0, n, depth):
            stop = min(n, start + depth)
            block = raw if depth >= n else raw[start:stop]
            for index in members:
                yield start, stop, index, self._tile(block, read_part, lane.scheme.parts[index])

    def _tile(self, block: Any, read_part: tuple[slice, ...], part: tuple[slice, ...]) -> Any:
        lane = self._lane
        if self._sparse_source:
            return self._sparse_tile(block, part)
        if lane.pre is not None:
            tile = self._transformed(block, read_part, part)
        elif lane.corrections is not None:
            tile = self._out((block.shape[0], *_extent(part)), lane.dtype)
            lane.corrections.apply(block, read_part, part, tile)
        else:
            tile = _sub(block, read_part, part)
            if tile.dtype != lane.dtype:
                out = self._out(tile.shape, lane.dtype)
                np.copyto(out, tile, casting="unsafe")
                tile = out
        if lane.backend != NUMPY:
            tile = for_backend(tile, lane.backend)
        return tile

    def _transformed(self, block: Array, read_part: tuple[slice, ...], part: tuple[slice, ...]) -> Array:
        lane = self._lane
        assert lane.pre is not None
        wanted = lane.pre.input_slice(part)
        if lane.corrections is not None:
            data = self._out((block.shape[0], *_extent(wanted)), np.dtype(lane.pre.dtype))
            lane.corrections.apply(block, read_part, wanted, data)
        else:
            data = _sub(block, read_part, wanted)
        out = self._out((block.shape[0], *_extent(part)), np.dtype(lane.pre.out_dtype), "pre")
        lane.pre.apply(data, part, out)
        if out.dtype == lane.dtype:
            return out
        tile = self._out(out.shape, lane.dtype, "tile")
        np.copyto(tile, out, casting="unsafe")
        return tile

    def _sparse_tile(self, block: Any, part: tuple[slice, ...]) -> Any:
        lane = self._lane
        if lane.corrections is not None or lane.pre is not None:
            raise DataError(
                "corrections and transforms need dense frames: load the data as a numpy array, "
                "or run without corrections= and pre="
            )
        tile = block[(slice(None), *part)].astype(lane.dtype)
        return for_backend(tile, lane.backend)

    def _out(self, shape: tuple[int, ...], dtype: np.dtype[Any], slot: str = "") -> Array:
        key = (slot, shape[1:], dtype)
        have = self._scratch.get(key)
        if have is None or have.shape[0] < shape[0]:
            have = self._scratch[key] = np.empty(shape, dtype=dtype)
        return have[: shape[0]]


def _rows_of(buf: Array, decl: BufferDecl) -> Array:
    """Return a nav buffer so that one row has the shape a frame sees: ``extra``, or ``(1,)``."""
    return buf if decl.extra_shape else buf.reshape(-1, 1)


def _sub(block: Array, read_part: tuple[slice, ...], part: tuple[slice, ...]) -> Array:
    if part == read_part:
        return block
    return block[
        (
            slice(None),
            *(slice(p.start - r.start, p.stop - r.start) for p, r in zip(part, read_part, strict=True)),
        )
    ]


def _extent(part: tuple[slice, ...]) -> tuple[int, ...]:
    return tuple(s.stop - s.start for s in part)


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


def _host(arr: Any) -> Array:
    return arr.get() if hasattr(arr, "get") and not isinstance(arr, np.ndarray) else arr


def _frames_text(plan: Plan, ids: npt.NDArray[np.int64]) -> str:
    if not len(ids):
        return "no frame"
    if len(ids) > 1:
        return f"frames {ids[0]}..{ids[-1]}"
    where = tuple(int(i) for i in np.unravel_index(int(ids[0]), tuple(plan.dataset.shape.nav)))
    return f"frame {where if len(where) > 1 else where[0]} [flat {ids[0]}]"
