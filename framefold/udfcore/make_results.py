"""From merged buffers to results: bind a copy of the head node's UDF, run `get_results`, check them."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError, UnknownBufferError, annotate, did_you_mean
from framefold.udfcore.binding import bind_aux_whole
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.merge import Frozen, Merger
from framefold.udfcore.plan import Plan, UDFPlan
from framefold.udfcore.results import ResultBuffer, Saver, Snapshot, UDFResult
from framefold.udfcore.roi import RowMap
from framefold.udfcore.shapes import Shape
from framefold.udfcore.udf import UDF, ArrayWithMask

Array = npt.NDArray[Any]


class ResultMaker:
    """Turns frozen buffers into results: binds a copy of the head's UDF and runs `get_results`."""

    def __init__(
        self,
        plan: Plan,
        merger: Merger,
        provenance: Callable[[], Mapping[str, Any]],
        saver: Saver | None = None,
    ) -> None:
        self._plan = plan
        self._merger = merger
        self._provenance = provenance
        self._saver = saver

    def snapshot(self, report: Callable[[], dict[str, Any]], *, final: bool) -> Snapshot:
        """Return the state of the merger now."""
        merger = self._merger
        with merger.lock:
            frozen = merger.finish() if final else merger.freeze()
            plan = self._plan if frozen[0].ids is None else of_length(self._plan, len(frozen[0].ids))
            merged = merger.merged.copy()
            if frozen[0].ids is not None:
                merged = np.logical_and.reduce([f.merged for f in frozen])
            udfs = [bound_copy(u, p, f, plan) for u, p, f in zip(merger.udfs, plan.udfs, frozen, strict=True)]
            version, n_frames = merger.version, merger.n_frames
            window = None if merger.windows is None else merger.windows.stated()
            versions = (merger.oldest_params or 0, merger.newest_params)
        nav = tuple(plan.dataset.shape.nav) if frozen[0].ids is None else (len(merged),)
        damage = plan.rows.expand(merged, False).reshape(nav)

        def make() -> tuple[UDFResult, ...]:
            stated, about = report(), self._provenance()
            if window is not None:  # of these results, not of now
                stated["window"] = window
            return tuple(
                UDFResult(
                    results_of(udf, p, f), _damage(plan, f, damage), stated,
                    {**about, "udf": p.name, "parameters": _plain(udf._kwargs)}, f.frames, self._saver,
                    _coverage(p, f), f.ids,
                )
                for udf, p, f in zip(udfs, plan.udfs, frozen, strict=True)
            )  # fmt: skip

        return Snapshot(damage, version, time.time(), n_frames, versions, final, make)


def _damage(run: Plan, frozen: Frozen, damage: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which frames one UDF holds: the same for all, unless large buffers of a live run came late."""
    if frozen.inside is None:
        return damage
    return run.rows.expand(frozen.inside, False).reshape(damage.shape)


def _coverage(plan: UDFPlan, frozen: Frozen) -> Array | None:
    """Return how many frames each pixel holds: those of the signal buffers, where there are some."""
    if not frozen.coverage:
        return None
    names = [k for k in frozen.arrays if plan.decls[k].kind == "sig"] or [""]
    least = frozen.coverage[names[0]]
    for name in names[1:]:
        least = np.minimum(least, frozen.coverage[name])
    return least


def of_length(run: Plan, n: int) -> Plan:
    """Return the plan of a run without an end as if it had the `n` frames that are kept."""
    rows = RowMap(n, None, 0, np.zeros(0, np.int64))
    udfs = []
    for plan in run.udfs:
        info = plan.info
        shape = Shape((n, *info.dataset_shape.sig), sig_dims=info.dataset_shape.sig.dims)
        source = Shape((n, *info.source_shape.sig), sig_dims=info.source_shape.sig.dims)
        udfs.append(replace(plan, info=replace(info, dataset_shape=shape, source_shape=source, rows=rows)))
    return replace(run, rows=rows, udfs=tuple(udfs))


def bound_copy(udf: UDF, plan: UDFPlan, frozen: Frozen, run: Plan) -> UDF:
    """Return a shallow copy of the head's UDF that sees the frozen buffers."""
    twin = copy.copy(udf)
    twin.params = copy.copy(udf.params)
    vars(twin.params).update(vars(udf.params))
    twin.results = twin._make_views(plan.decls, f"{plan.name}.get_results")
    views = vars(twin.results)
    for name, decl in plan.decls.items():
        arr = frozen.arrays.get(name)
        if arr is not None and decl.reduce == "mean" and decl.kind != "nav":
            frames: Any = frozen.frames[name]
            if decl.kind == "sig" and name in frozen.coverage:
                frames = frozen.coverage[name]
                frames = frames.reshape(frames.shape + (1,) * len(decl.extra_shape))
            with np.errstate(divide="ignore", invalid="ignore"):
                arr = arr / np.asarray(frames, dtype=arr.real.dtype)
        views[name] = arr
    meta = udf._make_meta(plan.info) if frozen.ids is not None else copy.copy(udf.meta)
    meta._mask = frozen.merged
    meta._start = -1
    meta._partition = None
    twin.meta = meta
    bind_aux_whole(twin, run.rows, plan.sig)
    return twin


def results_of(udf: UDF, plan: UDFPlan, frozen: Frozen) -> dict[str, ResultBuffer]:
    """Run `get_results` and check what it returns against the declarations.

    Raises
    ------
    UDFError
        For undeclared or private names, a wrong size or a wrong kind of dtype.
    """
    try:
        returned = udf.get_results()
    except Exception as exc:
        annotate(exc, f"in {plan.name}.get_results", udf=plan.name, stage="get_results")
        raise
    if not isinstance(returned, Mapping):
        raise UDFError(f"{plan.name}.get_results returned {type(returned).__name__}, expected a dict")
    values = dict(returned)
    for name, decl in plan.decls.items():
        if decl.use is None and name not in values:
            values[name] = getattr(udf.results, name)
    out = {}
    for name, value in values.items():
        maybe = plan.decls.get(name)
        if maybe is None:
            raise UnknownBufferError(
                f"{plan.name}.get_results returned {name!r}, which get_result_buffers does not declare; "
                f"declared: {', '.join(plan.decls)}.{did_you_mean(name, plan.decls)}"
            )
        if maybe.use == "private":
            raise UDFError(f"{plan.name}.get_results returned {name!r}, which is declared private")
        out[name] = _result(name, maybe, plan, value, frozen)
    made = {k: out[k] for k in plan.decls if k in out}
    udf._results_made(made)
    return made


def _result(name: str, decl: BufferDecl, plan: UDFPlan, value: Any, frozen: Frozen) -> ResultBuffer:
    mask, everywhere = None, None
    if isinstance(value, ArrayWithMask):
        value, mask = value.data, value.mask
    arr = np.asarray(value)
    rows = len(frozen.merged)
    shape = decl.shape(rows, plan.sig)
    if arr.size != int(np.prod(shape, dtype=np.int64)):
        nav = tuple(plan.info.dataset_shape.nav)
        full = (*nav, *decl.extra_shape)
        if (
            decl.kind == "nav"
            and plan.info.rows.ids is not None
            and arr.size == int(np.prod(full, dtype=np.int64))
        ):
            everywhere = arr.reshape(full)
            arr = arr.reshape((-1, *decl.extra_shape))[plan.info.rows.ids]
            mask = None if mask is None else mask.reshape((-1, *decl.extra_shape))[plan.info.rows.ids]
        else:
            raise UDFError(
                f"{plan.name}.get_results returned {name!r} with shape {arr.shape}, "
                f"declared {decl.kind} {shape}"
            )
    if (
        arr.dtype != decl.dtype
        and _kind(arr.dtype) != _kind(decl.dtype)
        and not (decl.dtype.kind in "fc" and np.can_cast(arr.dtype, decl.dtype, "same_kind"))
    ):
        raise UDFError(
            f"{plan.name}.get_results returned {name!r} as {arr.dtype}, declared {decl.dtype}. "
            f'Declare dtype="{arr.dtype}", or return {_advice(decl.dtype)}.'
        )
    arr = arr.reshape(shape)
    if mask is None:
        if decl.kind == "nav":
            flags = frozen.merged.reshape((rows,) + (1,) * len(decl.extra_shape))
            mask = np.broadcast_to(flags, shape)
        else:
            mask = np.ones(shape, dtype=bool)
            seen = frozen.coverage.get(name, frozen.coverage.get("")) if decl.kind == "sig" else None
            if seen is not None and seen.any():  # pixels of a dead sector rest on nothing
                mask = np.broadcast_to((seen > 0).reshape(plan.sig + (1,) * len(decl.extra_shape)), shape)
            if decl.reduce == "mean" and not frozen.frames.get(name, 1):
                mask = np.zeros(shape, dtype=bool)
    return ResultBuffer(name, decl, plan, arr, np.asarray(mask).reshape(shape), everywhere)


def _kind(dtype: np.dtype[Any]) -> str:
    return "i" if dtype.kind in "iu" else dtype.kind


def _advice(dtype: np.dtype[Any]) -> str:
    return {
        "f": "a real array",
        "i": "integers",
        "u": "integers",
        "b": "booleans",
        "c": "a complex array",
    }.get(dtype.kind, f"an array of {dtype}")


def _plain(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as JSON-like values: arrays by shape and dtype, objects by repr."""
    plain: dict[str, Any] = {}
    for key, value in kwargs.items():
        if isinstance(value, (str, int, float, bool, type(None))):
            plain[key] = value
        elif isinstance(value, np.ndarray) and value.size <= 64 and value.dtype.kind in "biuf":
            plain[key] = value.tolist()
        else:
            plain[key] = repr(value)[:200]
    return plain
