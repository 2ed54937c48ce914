"""What users get back: `ResultBuffer`, `UDFResult`, `Snapshot`."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError, annotate, did_you_mean
from framefold.udfcore.buffers import BufferDecl, ResultViews
from framefold.udfcore.merge import Frozen, Merger
from framefold.udfcore.metadata import Axis
from framefold.udfcore.plan import Plan, UDFPlan, bind_aux_whole
from framefold.udfcore.udf import UDF, ArrayWithMask

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]
Saver = Callable[..., None]  # (path, result, overwrite=) -> None; given by the layer that knows formats


class ResultBuffer:
    """One result: an array with its kind, its valid mask and its axes. Arrays are read-only.

    Attributes
    ----------
    name, kind, extra_shape, use
        As declared.
    axes
        Calibrated axes of the nav or sig part; empty for ``single``.
    """

    def __init__(self, name: str, decl: BufferDecl, plan: UDFPlan, raw: Array, mask: Flags) -> None:
        self.name = name
        self.kind = decl.kind
        self.extra_shape = decl.extra_shape
        self.use = decl.use
        self._plan = plan
        self._raw = _read_only(raw)
        self._mask = mask

    @property
    def raw_data(self) -> Array:
        """Navigation results flat and ROI-compressed, the others as they are."""
        return self._raw

    @property
    def data(self) -> Array:
        """The result in full navigation or signal shape; outside the ROI NaN, or 0 for integers."""
        if self.kind != "nav":
            return self._raw
        info = self._plan.info
        nav = tuple(info.dataset_shape.nav)
        if info.rows.ids is None:
            return self._raw.reshape((*nav, *self._raw.shape[1:]))
        full = info.rows.expand(self._raw, _outside(self._raw.dtype))
        return _read_only(full.reshape((*nav, *self._raw.shape[1:])))

    @property
    def valid_mask(self) -> Flags:
        """Bool of the shape of `data`: True where the value rests on data."""
        if self.kind != "nav":
            return self._mask
        info = self._plan.info
        full = info.rows.expand(np.asarray(self._mask), False)
        return _read_only(full.reshape((*info.dataset_shape.nav, *self._mask.shape[1:])))

    @property
    def masked_data(self) -> np.ma.MaskedArray[Any, Any]:
        """`data` as a numpy masked array, masked where invalid."""
        return np.ma.MaskedArray(self.data, mask=~self.valid_mask)

    @property
    def raw_masked_data(self) -> np.ma.MaskedArray[Any, Any]:
        """`raw_data` as a numpy masked array."""
        return np.ma.MaskedArray(self._raw, mask=~self._mask)

    @property
    def valid_slice_bounding(self) -> tuple[slice, ...]:
        """The smallest rectangle of `data` that holds every valid value."""
        mask = self.valid_mask
        if not mask.any():
            return tuple(slice(0, 0) for _ in mask.shape)
        found = []
        for axis in range(mask.ndim):
            on = np.flatnonzero(mask.any(axis=tuple(i for i in range(mask.ndim) if i != axis)))
            found.append(slice(int(on[0]), int(on[-1]) + 1))
        return tuple(found)

    def get_valid_slice_inner(self, axis: int = 0) -> tuple[slice, ...]:
        """Return the largest run of fully valid entries along `axis`, and everything along the others."""
        mask = self.valid_mask
        full = mask.all(axis=tuple(i for i in range(mask.ndim) if i != axis))
        edges = np.flatnonzero(np.diff(np.concatenate(([0], full.astype(np.int8), [0]))))
        runs = edges.reshape(-1, 2)
        best = runs[np.argmax(runs[:, 1] - runs[:, 0])] if len(runs) else (0, 0)
        return tuple(
            slice(int(best[0]), int(best[1])) if i == axis else slice(0, n) for i, n in enumerate(mask.shape)
        )

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Calibrated axes of the navigation or signal part of `data`."""
        stated = self._plan.info.axes
        nav = self._plan.info.dataset_shape.nav.dims
        return {"nav": stated[:nav], "sig": stated[nav:]}.get(self.kind, ())

    @property
    def roi(self) -> Flags | None:
        """The region of interest of the run, or None."""
        return self._plan.info.roi

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of the values."""
        return self._raw.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `data`."""
        if self.kind != "nav":
            return self._raw.shape
        return (*self._plan.info.dataset_shape.nav, *self._raw.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.data, dtype=dtype) if copy else np.asarray(self.data, dtype=dtype)

    def __repr__(self) -> str:
        return f"<ResultBuffer {self.name!r} {self.kind} {self.shape} {self.dtype}>"


class UDFResult(Mapping[str, ResultBuffer]):
    """The results of one UDF by name.

    Attributes
    ----------
    damage
        Bool, navigation shape: frames that are inside.
    report
        Times, bytes, executor, retries, warnings.
    provenance
        Versions, parameters, dataset, ROI and corrections.
    """

    def __init__(
        self,
        buffers: Mapping[str, ResultBuffer],
        damage: Flags,
        report: Mapping[str, Any],
        provenance: Mapping[str, Any],
        frames: Mapping[str, int],
        saver: Saver | None = None,
    ) -> None:
        self._buffers = dict(buffers)
        self._saver = saver
        self.damage = damage
        self.report = report
        self.provenance = provenance
        self.frames = frames

    def __getitem__(self, name: str) -> ResultBuffer:
        try:
            return self._buffers[name]
        except KeyError:
            raise KeyError(
                f"no result {name!r}; there are: {', '.join(self._buffers)}."
                f"{did_you_mean(name, self._buffers)}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._buffers)

    def __len__(self) -> int:
        return len(self._buffers)

    def __getattr__(self, name: str) -> ResultBuffer:
        if name.startswith("_") or name not in self.__dict__.get("_buffers", {}):
            raise AttributeError(
                f"no result {name!r}; there are: {', '.join(self.__dict__.get('_buffers', {}))}"
            )
        return self._buffers[name]

    @property
    def coverage(self) -> npt.NDArray[np.int64]:
        """Frames folded per detector pixel, int64, signal shape; in files every pixel of a frame is there."""
        plan = next(iter(self._buffers.values()))._plan
        return np.full(plan.sig, int(self.damage.sum()), dtype=np.int64)

    def save(self, path: Any, *, overwrite: bool = False) -> None:
        """Write all results to `path`; the suffix chooses the format (``.nxs``, ``.zarr``, ``.npz``, ...)."""
        if self._saver is None:
            raise UDFError("this result was made without a context: use framefold.io.save.save_result")
        self._saver(path, self, overwrite=overwrite)

    def to_xarray(self) -> Any:
        """Return an ``xarray.Dataset`` with calibrated coordinates (needs xarray)."""
        import xarray  # noqa: PLC0415  # optional

        return xarray.Dataset({name: _data_array(buf) for name, buf in self.items()})

    def __repr__(self) -> str:
        return f"<UDFResult {', '.join(f'{k} {b.shape} {b.dtype}' for k, b in self.items())}>"


def _data_array(buf: ResultBuffer) -> Any:
    import xarray  # noqa: PLC0415

    axes = buf.axes
    names = [a.name or f"{buf.kind}{i}" for i, a in enumerate(axes)]
    names += [f"{buf.name}_{i}" for i in range(len(buf.shape) - len(axes))]
    coords = {
        n: (n, a.values(size), {"units": a.units}) for n, a, size in zip(names, axes, buf.shape, strict=False)
    }
    return xarray.DataArray(buf.data, dims=names, coords=coords, name=buf.name)


@dataclass(frozen=True)
class Snapshot:
    """All results at one moment of a run, immutable; computed when first looked at.

    Attributes
    ----------
    damage
        Bool, navigation shape: frames that are inside.
    version
        Merges so far.
    time
        Unix time, s.
    n_frames
        Frames inside.
    params_version
        Oldest and newest parameter version inside.
    final
        Whether the run is complete.
    """

    damage: Flags
    version: int
    time: float
    n_frames: int
    params_version: tuple[int, int]
    final: bool
    _make: Callable[[], tuple[UDFResult, ...]] = field(repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    _cache: list[tuple[UDFResult, ...]] = field(default_factory=list, repr=False, compare=False)

    @property
    def buffers(self) -> tuple[UDFResult, ...]:
        """The result of each UDF; `get_results` runs on first access."""
        with self._lock:
            if not self._cache:
                self._cache.append(self._make())
        return self._cache[0]

    def __getitem__(self, name: str) -> ResultBuffer:
        for result in self.buffers:
            if name in result:
                return result[name]
        known = [k for r in self.buffers for k in r]
        raise KeyError(f"no result {name!r}; there are: {', '.join(known)}.{did_you_mean(name, known)}")

    def __getattr__(self, name: str) -> ResultBuffer:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as exc:
            raise AttributeError(str(exc)) from None


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

    def snapshot(self, report: Callable[[], Mapping[str, Any]], *, final: bool) -> Snapshot:
        """Return the state of the merger now."""
        merger, plan = self._merger, self._plan
        with merger.lock:
            frozen = merger.finish() if final else merger.freeze()
            merged = merger.merged.copy()
            udfs = [bound_copy(u, p, f, plan) for u, p, f in zip(merger.udfs, plan.udfs, frozen, strict=True)]
            version, n_frames = merger.version, merger.n_frames
            versions = (merger.oldest_params or 0, merger.newest_params)
        damage = plan.rows.expand(merged, False).reshape(tuple(plan.dataset.shape.nav))

        def make() -> tuple[UDFResult, ...]:
            stated, about = report(), self._provenance()
            return tuple(
                UDFResult(
                    results_of(udf, p, f), damage, stated,
                    {**about, "udf": p.name, "parameters": _plain(udf._kwargs)}, f.frames, self._saver,
                )
                for udf, p, f in zip(udfs, plan.udfs, frozen, strict=True)
            )  # fmt: skip

        return Snapshot(damage, version, time.time(), n_frames, versions, final, make)


def bound_copy(udf: UDF, plan: UDFPlan, frozen: Frozen, run: Plan) -> UDF:
    """Return a shallow copy of the head's UDF that sees the frozen buffers."""
    twin = copy.copy(udf)
    twin.params = copy.copy(udf.params)
    vars(twin.params).update(vars(udf.params))
    twin.results = ResultViews(plan.decls, f"{plan.name}.get_results")
    views = vars(twin.results)
    for name, decl in plan.decls.items():
        arr = frozen.arrays.get(name)
        if arr is not None and decl.reduce == "mean" and decl.kind != "nav":
            with np.errstate(divide="ignore", invalid="ignore"):
                arr = arr / np.asarray(frozen.frames[name], dtype=arr.real.dtype)
        views[name] = arr
    meta = copy.copy(udf.meta)
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
            values[name] = udf.results[name]
    out = {}
    for name, value in values.items():
        maybe = plan.decls.get(name)
        if maybe is None:
            raise UDFError(
                f"{plan.name}.get_results returned {name!r}, which get_result_buffers does not declare; "
                f"declared: {', '.join(plan.decls)}.{did_you_mean(name, plan.decls)}"
            )
        if maybe.use == "private":
            raise UDFError(f"{plan.name}.get_results returned {name!r}, which is declared private")
        out[name] = _result(name, maybe, plan, value, frozen)
    return {k: out[k] for k in plan.decls if k in out}


def _result(name: str, decl: BufferDecl, plan: UDFPlan, value: Any, frozen: Frozen) -> ResultBuffer:
    mask = None
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
            if decl.reduce == "mean" and not frozen.frames.get(name, 1):
                mask = np.zeros(shape, dtype=bool)
    return ResultBuffer(name, decl, plan, arr, np.asarray(mask).reshape(shape))


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


def _outside(dtype: np.dtype[Any]) -> Any:
    """Return the value that stands outside the ROI."""
    if dtype.kind in "fc":
        return np.nan
    if dtype.kind in "Mm":
        return np.array("NaT", dtype=dtype)
    if dtype.kind == "O":
        return None
    return np.zeros((), dtype=dtype)


def _read_only(arr: Array) -> Array:
    view = arr.view()
    view.flags.writeable = False
    return view


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
