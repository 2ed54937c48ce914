"""What users get back: `ResultBuffer`, `UDFResult`, `Snapshot`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError, did_you_mean
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.metadata import Axis
from framefold.udfcore.plan import UDFPlan
from framefold.udfcore.shapes import Shape

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]
Saver = Callable[..., None]  # (path, result, overwrite=) -> None; given by the layer that knows formats


class ResultBuffer:
    """One result: an array with its kind, its valid mask and its axes. Arrays are read-only.

    Attributes
    ----------
    name, kind, extra_shape, use
        As declared.
    declaration
        The whole declaration.
    axes
        Calibrated axes of the nav or sig part; empty for ``single``.
    """

    _ids: npt.NDArray[np.int64] | None = None

    def __init__(
        self,
        name: str,
        decl: BufferDecl,
        plan: UDFPlan,
        raw: Array,
        mask: Flags,
        full: Array | None = None,
    ) -> None:
        self.name = name
        self.declaration = decl
        self.kind = decl.kind
        self.extra_shape = decl.extra_shape
        self.use = decl.use
        self._plan = plan
        self._raw = _read_only(raw)
        self._full = None if full is None else _read_only(full)
        self._mask = mask

    @property
    def raw_data(self) -> Array:
        """Navigation results flat and ROI-compressed, the others as they are."""
        return self._raw

    @property
    def data(self) -> Array:
        """The result in full navigation or signal shape.

        Outside the ROI NaN, or 0 for integers, unless `get_results` gave values for all frames.
        """
        if self.kind != "nav":
            return self._raw
        if self._full is not None:
            return self._full
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
    def raw_valid_mask(self) -> Flags:
        """`valid_mask` in the shape of `raw_data`."""
        return self._mask

    @property
    def frame_ids(self) -> npt.NDArray[np.int64]:
        """Frame numbers of the rows of `raw_data`, int64: flat dataset indices.

        In live runs without an end only the last frames are kept, and numbers go on counting.
        """
        return (
            self._plan.info.rows.frame_ids(0, self._plan.info.rows.n_rows) if self._ids is None else self._ids
        )

    @property
    def dataset_shape(self) -> Shape:
        """Navigation and signal shape that the UDF saw, without ROI."""
        return self._plan.info.dataset_shape

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

    def _repr_html_(self) -> str:
        return _table_html({self.name: self})


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
        frames: Mapping[str, float],
        saver: Saver | None = None,
        coverage: Array | None = None,
        ids: npt.NDArray[np.int64] | None = None,
    ) -> None:
        for buffer in buffers.values():
            buffer._ids = ids
        self._coverage = coverage
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
    def coverage(self) -> Array:
        """Frames folded per detector pixel, int64, signal shape; in files every pixel of a frame is there.

        Live those in the signal buffers of the UDF, if it has some; with ``decay=`` sums of weights, float64.
        """
        if self._coverage is not None:
            return _read_only(self._coverage)
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

    def _repr_html_(self) -> str:
        return _table_html(self._buffers)


def _table_html(results: Mapping[str, ResultBuffer]) -> str:
    from framefold.udfcore.thumbnail import table_html  # noqa: PLC0415  # for notebooks only

    return table_html(results)


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
        return self._made()

    def _made(self) -> tuple[UDFResult, ...]:
        with self._lock:
            if not self._cache:
                self._cache.append(self._make())
        return self._cache[0]

    def _repr_html_(self) -> str:
        state = "complete" if self.final else "so far"
        return f"{self.n_frames} frames, {state}" + "".join(r._repr_html_() for r in self.buffers)

    def __getitem__(self, name: str) -> ResultBuffer:
        for result in self.buffers:
            if name in result:
                return result[name]
        known = [k for r in self.buffers for k in r]
        raise KeyError(f"no result {name!r}; there are: {', '.join(known)}.{did_you_mean(name, known)}")

    def __getattr__(self, name: str) -> ResultBuffer:
        if name.startswith("_"):
            raise AttributeError(name)
        if (
            name == "buffers"
        ):  # get_results raised an AttributeError, for which python comes here: say it again
            self._made()
        for result in self._made():
            if name in result:
                return result[name]
        known = [k for r in self._made() for k in r]
        raise AttributeError(f"no result {name!r}; there are: {', '.join(known)}.{did_you_mean(name, known)}")


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
