"""One UDF object on a worker: its buffers, its bound views, its hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import annotate
from framefold.udfcore.auxdata import AuxData
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.namespace import to_host
from framefold.udfcore.params import Namespace
from framefold.udfcore.plan import Plan, UDFPlan
from framefold.udfcore.task import Task
from framefold.udfcore.udf import UDFMethod, merge_call

Array = npt.NDArray[Any]


class Instance:
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
        # live: parts of large buffers stay apart until they travel, one contiguous array per piece of a frame
        self._kept: dict[tuple[str, int], Array] = {}
        self._keep = plan.resident if run.live is not None else frozenset()
        self._by_frame = plan.method is UDFMethod.FRAME
        self.rebuild({}, 0)

    def rebuild(self, patch: Mapping[str, Any], version: int) -> None:
        """Make the UDF object anew with other parameters."""
        plan = self.plan
        self._kwargs = {**plan.kwargs, **patch}
        udf = self.udf = plan.cls(**self._kwargs)
        self.meta = udf.meta = udf._make_meta(plan.info)
        self.meta.params_version = version
        self.meta.threads_per_worker = self._threads
        self.meta._missing_frame = plan.method is UDFMethod.FRAME
        udf.results = udf._make_views(plan.decls, plan.name)
        self._views = vars(udf.results)
        self._params = vars(udf.params)
        n_nav = self._run.rows.n_nav
        self._aux = {
            k: (v.kind, v.flat(n_nav, plan.sig)) for k, v in self._kwargs.items() if isinstance(v, AuxData)
        }
        self._aux_extra = {k: v.extra_shape for k, v in self._kwargs.items() if isinstance(v, AuxData)}
        udf.worker_data = Namespace("worker datum", udf.get_worker_data())
        self._init_state = dict(vars(udf))
        self._process = f"process_{plan.method.value}"
        self._call: Callable[[Any], Any] = getattr(udf, self._process)
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
                    self._resident[name] = decl.allocate(n, plan.sig, self._where(decl))
                self.buffers[name] = self._resident[name]
            else:
                self.buffers[name] = decl.allocate(n, plan.sig, self._where(decl))
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
                flat = self._aux_placed(flat)
                self._aux_nav[name] = flat if self._aux_extra[name] else flat.reshape(-1, 1)
        meta._partition = self._rows
        meta.partition_index = task.index
        meta._start, meta._count = task.start, n
        meta._shift = getattr(task, "shift", 0)
        meta._sig = None
        self._bind_whole()
        self._hook(
            "get_task_data",
            lambda: vars(udf).__setitem__("task_data", Namespace("task datum", udf.get_task_data())),
        )
        self._hook("preprocess", udf.preprocess)
        self.stage = self._process

    def _where(self, decl: BufferDecl) -> Any:
        """Return the namespace in which a buffer lives: that of the lane if it goes to the device."""
        there = decl.where == "device" or (self.udf.engine.device and decl.dtype.kind in "biufc")
        return self.udf.xp if there else np

    def _aux_placed(self, arr: Any) -> Any:
        """Return auxiliary data where the code of the UDF wants them."""
        return self.udf.xp.asarray(arr) if self.udf.engine.device else arr

    def process(self, tile: Any, start: int, stop: int, part: int) -> None:
        """Call the UDF's ``process_*`` with `tile`, rows ``[start, stop)`` and signal part `part`."""
        meta = self.meta
        meta._start, meta._count = start, stop - start
        self.active = True
        self.unit = (start, stop)
        if part != self._bound_part:
            self._bind_part(part)
        if self._nav or self._aux_nav or self._by_frame:
            a, b = start - self._rows[0], stop - self._rows[0]
            if self._by_frame:
                self._frames(tile, start, a, b)
                self.active = False
                return
            views = self._views
            for name, buf in self._nav:
                views[name] = buf[a:b] if self.plan.decls[name].extra_shape else buf[a:b, 0]
            for name, aux in self._aux_nav.items():
                self._params[name] = aux[a:b] if self._aux_extra[name] else aux[a:b, 0]
        self._call(tile)
        self.active = False

    def _frames(self, tile: Any, start: int, a: int, b: int) -> None:
        """Call `process_frame` for each row; the loop is the price of every frame, so it is bare."""
        meta, call, views = self.meta, self._call, self._views
        meta._count = 1
        names = [k for k, _ in self._nav]
        bufs = [v[a:b] for _, v in self._nav]
        rows = range(start, start + b - a)
        try:
            if self._aux_nav:
                params, aux_names = self._params, list(self._aux_nav)
                aux = [v[a:b] for v in self._aux_nav.values()]
                values = zip(*bufs, strict=True) if bufs else iter([()] * len(rows))
                for row, frame, mine, given in zip(rows, tile, values, zip(*aux, strict=True), strict=False):
                    meta._start = row
                    views.update(zip(names, mine, strict=True))
                    params.update(zip(aux_names, given, strict=True))
                    call(frame)
            elif not bufs:
                for row, frame in zip(rows, tile, strict=False):
                    meta._start = row
                    call(frame)
            elif len(bufs) == 1:
                name = names[0]
                for row, frame, view in zip(rows, tile, bufs[0], strict=False):
                    meta._start = row
                    views[name] = view
                    call(frame)
            else:
                for row, frame, mine in zip(rows, tile, zip(*bufs, strict=True), strict=False):
                    meta._start = row
                    views.update(zip(names, mine))  # noqa: B905  # strict= costs 0.2 us a frame
                    call(frame)
        finally:
            self.unit = (meta._start, meta._start + 1)

    def finish(self) -> dict[str, Array]:
        """Flush, run `postprocess` and return the buffers to ship."""
        udf = self.udf
        self._flush_part()
        self._bind_whole()  # meta keeps describing the last unit
        self._hook("postprocess", udf.postprocess)
        if not self.plan.resident:
            self._hook("before_shipping", udf.before_shipping)
        if self.plan.joined:
            self._hook("merge", self._join)
        self._hook("cleanup", udf.cleanup)
        later = self.plan.resident | self.plan.joined
        out = {k: v for k, v in self.buffers.items() if k not in later}
        self.buffers = {}
        for name in self._views:
            self._views[name] = None
        return {k: to_host(v) for k, v in out.items()}

    def _join(self) -> None:
        """Join the partition into the worker's accumulators by the UDF's own `merge`."""
        decls, joined = self.plan.decls, self.plan.joined
        own = {k: to_host(v) for k, v in self.buffers.items() if decls[k].reduce is None}
        if not joined <= self._resident.keys():  # the first partition is the accumulator
            self._resident.update({k: own[k] for k in joined})
            return
        n = self._rows[1] - self._rows[0]
        nav = {k: decls[k].allocate(n, self.plan.sig) for k in own if k not in joined}
        dest = {k: self._resident[k] if k in joined else nav[k] for k in own}
        merge_call(self.udf)(
            self.udf._make_merge_view(decls, dest, f"{self.plan.name}.merge(dest)"),
            self.udf._make_merge_view(decls, own, f"{self.plan.name}.merge(src)"),
        )
        self.buffers.update(nav)

    def fade(self, weight: float) -> None:
        """Multiply what the large buffers hold by `weight`."""
        for array in (*self._resident.values(), *self._kept.values()):
            array *= weight

    def take_resident(self) -> dict[str, Array]:
        """Return the large buffers and forget them."""
        scheme = self.plan.info.scheme
        for (name, part), view in self._kept.items():
            assert scheme is not None  # parts are parts of a scheme
            self._resident[name][scheme.parts[part]] = view
        self._kept.clear()
        if self.plan.resident and self._resident:
            self._views.update(self._resident)
            self._hook("before_shipping", self.udf.before_shipping)
            self._views.update(dict.fromkeys(self._resident))
        out, self._resident = self._resident, {}
        return {k: to_host(v) for k, v in out.items()}

    # --- binding -----------------------------------------------------------------------------

    def _bind_whole(self) -> None:
        """Bind the views of the whole partition."""
        for name, buf in self.buffers.items():
            self._views[name] = buf
        for name, (kind, flat) in self._aux.items():
            if kind != "nav":
                self._params[name] = self._aux_placed(flat)
            else:
                aux = self._aux_nav[name]
                self._params[name] = aux if self._aux_extra[name] else aux[:, 0]
        self._bound_part = None

    def _bind_part(self, part: int) -> None:
        """Bind signal buffers and aux data to a part; parts that are not contiguous get a copy."""
        if self._part_cache:
            self._flush_part()
        scheme = self.plan.info.scheme
        self.meta._part = part if scheme is not None else None
        if scheme is None:
            where: tuple[slice, ...] = tuple(slice(0, n) for n in self.plan.sig)
        else:
            where = scheme.parts[part]
        self.meta._sig = where
        for name in self._sig:
            kept = self._kept.get((name, part)) if name in self._keep else None
            if kept is not None:
                self._views[name] = kept
                continue
            key: tuple[Any, ...] = (*where, Ellipsis)  # a view also without signal axes
            view = self.buffers[name][key]
            if not view.flags.c_contiguous:
                view = view.copy()
                (self._kept if name in self._keep else self._part_cache)[(name, part)] = view
            self._views[name] = view
        if self._aux:
            for name, (kind, flat) in self._aux.items():
                if kind == "sig":
                    self._params[name] = self._aux_placed(np.ascontiguousarray(flat[where]))
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
                exc, f"in {self.plan.name}.{stage}, {frames_text(self._run, ids)}, {self._run.dataset.name}",
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


def _rows_of(buf: Array, decl: BufferDecl) -> Array:
    """Return a nav buffer so that one row has the shape a frame sees: ``extra``, or ``(1,)``."""
    return buf if decl.extra_shape else buf.reshape(-1, 1)


def frames_text(plan: Plan, ids: npt.NDArray[np.int64]) -> str:
    """Return ``frame (12, 7) [flat 3079]`` or ``frames 3..9`` for messages."""
    if not len(ids):
        return "no frame"
    if len(ids) > 1:
        return f"frames {ids[0]}..{ids[-1]}"
    where = tuple(int(i) for i in np.unravel_index(int(ids[0]), tuple(plan.dataset.shape.nav)))
    return f"frame {where if len(where) > 1 else where[0]} [flat {ids[0]}]"
