"""LiberTEM's `UDF` and what surrounds it, on framefold's engine."""

from __future__ import annotations

import warnings
from collections.abc import ItemsView, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from framefold.compat.libertem.buffers import AuxBufferWrapper, BufferWrapper, wrap_result
from framefold.compat.libertem.corrections import CorrectionSet
from framefold.compat.libertem.notprovided import NotProvided
from framefold.compat.libertem.shapes import Shape, Slice
from framefold.udfcore.backend import Backends
from framefold.udfcore.buffers import BufferDecl, MergeView, ResultViews
from framefold.udfcore.meta import RunInfo
from framefold.udfcore.meta import UDFMeta as _Meta
from framefold.udfcore.udf import UDF as _UDF

Array = npt.NDArray[Any]


class UseDiscouragedWarning(FutureWarning):
    """Something works, but there is a better way that is there to stay."""


def _discourage(better: str) -> None:
    warnings.warn(
        f"access by item is discouraged, because it looks like a dict of something else; use {better}",
        UseDiscouragedWarning,
        stacklevel=3,
    )


class UDFData(ResultViews):
    """``self.results``: arrays by attribute, `BufferWrapper` objects by item."""

    __slots__ = ("_owner",)

    _owner: Any

    def __init__(self, decls: Mapping[str, BufferDecl], where: str, owner: Any = None) -> None:
        super().__init__(decls, where)
        object.__setattr__(self, "_owner", owner)

    def __getitem__(self, name: str) -> BufferWrapper:
        _discourage("the attribute for the array, get_buffer(name) for the buffer")
        return self.get_buffer(name)

    def get_buffer(self, name: str) -> Any:
        """Return the buffer with its declaration; `data` has the shape of the dataset."""
        decl = self._decls[name]
        out = BufferWrapper(decl.kind, decl.extra_shape, decl.dtype, decl.where, decl.use)
        out._data = self.__dict__.get(name)
        meta = getattr(self._owner, "meta", None)
        if meta is not None:
            rows = out._data.shape[0] if out._data is not None and decl.kind == "nav" else None
            if rows in (None, meta._info.rows.n_rows):
                out.set_shape_ds(meta.dataset_shape, meta.roi)
            if meta._mask is not None:
                out._valid_mask = out.make_default_mask(meta._mask, meta.dataset_shape, meta.roi)
        return out

    def get(self, name: str, default: Any = None) -> Any:
        """Return the array called `name`, or `default`."""
        return getattr(self, name) if name in self._decls else default

    def items(self) -> ItemsView[str, BufferWrapper]:
        """Return pairs of name and buffer."""
        return self.as_dict().items()

    def values(self) -> Any:
        """Return the buffers."""
        return self.as_dict().values()

    def as_dict(self) -> dict[str, BufferWrapper]:
        """Return the buffers by name."""
        return {name: self.get_buffer(name) for name in self._decls}

    def __reduce__(self) -> tuple[Any, ...]:
        return (*super().__reduce__(), self._owner)

    def __setstate__(self, owner: Any) -> None:
        object.__setattr__(self, "_owner", owner)


class MergeAttrMapping(MergeView):
    """``dest`` and ``src`` of ``merge``: arrays by attribute; by item too, with a warning."""

    __slots__ = ()

    def __init__(
        self, decls: Mapping[str, Any], arrays: Mapping[str, Array] | None = None, where: str = "merge"
    ) -> None:
        if arrays is None:  # LiberTEM's form: only the arrays
            arrays = decls
            decls = {k: BufferDecl("single", np.shape(v), np.asarray(v).dtype) for k, v in arrays.items()}
        super().__init__(decls, arrays, where)

    def __getitem__(self, name: str) -> Any:
        _discourage("the attribute")
        return getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        _discourage("the attribute")
        setattr(self, name, value)


class UDFMeta(_Meta):
    """``self.meta`` with the names that LiberTEM has beside framefold's."""

    __slots__ = ()

    @property
    def slice(self) -> Slice:
        """The current unit in flat, ROI-compressed navigation and signal coordinates; None on the head."""
        part: Any = super().slice
        if part is None:
            return None  # type: ignore[return-value]  # on the head only, as framefold's own
        return Slice.of(part)

    @property
    def sig_slice(self) -> Slice:
        """The current part of the signal axes."""
        return Slice.of(super().sig_slice)

    @property
    def dataset_shape(self) -> Shape:
        """Shape of the whole dataset, without ROI."""
        return Shape.of(super().dataset_shape)

    @property
    def partition_shape(self) -> Shape:
        """Rows of the partition after the ROI, and the signal shape; an error on the head node."""
        return Shape.of(super().partition_shape)

    @property
    def _slice(self) -> Slice | None:
        return self.slice

    @property
    def _partition_slice(self) -> Slice | None:
        if self._partition is None:
            return None
        a, b = self._partition
        sig = self.dataset_shape.sig
        return Slice((a, *(0,) * sig.dims), Shape((b - a, *sig), sig_dims=sig.dims))

    @property
    def corrections(self) -> Any:
        """The corrections of the run; without any an empty set."""
        return CorrectionSet() if self._info.corrections is None else self._info.corrections


class UDF(_UDF):
    """The base class of UDFs under LiberTEM's name, with LiberTEM's dialect of results and aux data."""

    BACKEND_ALL: ClassVar[tuple[str, ...]] = (
        *(f"cupyx.scipy.sparse.{f}_matrix" for f in ("csr", "csc", "coo")),
        *(f"scipy.sparse.{f}_array" for f in ("coo", "csc", "csr")),
        *(f"scipy.sparse.{f}_matrix" for f in ("csr", "csc", "coo")),
        Backends.BACKEND_CUPY,
        Backends.BACKEND_NUMPY,
        Backends.BACKEND_SPARSE_COO,
        Backends.BACKEND_SPARSE_GCXS,
    )

    @classmethod
    def aux_data(
        cls,
        data: npt.ArrayLike,
        kind: str,
        extra_shape: tuple[int, ...] = (),
        dtype: npt.DTypeLike = "float32",
    ) -> AuxBufferWrapper:
        """Make auxiliary data to pass as a parameter."""
        return AuxBufferWrapper(kind, extra_shape, dtype, data)

    @property
    def requires_custom_merge_all(self) -> bool:
        """Whether ``merge_all`` cannot be a plain concatenation."""
        return any(d.kind != "nav" for d in self.get_result_buffers().values())

    def _make_views(self, decls: Mapping[str, BufferDecl], where: str) -> UDFData:
        return UDFData(decls, where, self)

    def _make_merge_view(
        self, decls: Mapping[str, BufferDecl], arrays: Mapping[str, Array], where: str
    ) -> MergeAttrMapping:
        return MergeAttrMapping(decls, arrays, where)

    def _make_meta(self, info: RunInfo) -> UDFMeta:
        return UDFMeta(info)

    def _results_made(self, results: Mapping[str, Any]) -> None:
        if type(self)._do_get_results is not UDF._do_get_results:
            vars(self)["_made"] = results
            self._do_get_results()

    def _do_get_results(self) -> dict[str, BufferWrapper]:
        """Return the finished results; overridden by UDFs that check them in place."""
        return {name: wrap_result(r) for name, r in vars(self)["_made"].items()}


class NoOpUDF(UDF):
    """Does nothing with the data.

    Parameters
    ----------
    preferred_input_dtype
        What the data are converted to; native by default.
    """

    def __init__(self, preferred_input_dtype: npt.DTypeLike = UDF.USE_NATIVE_DTYPE) -> None:
        super().__init__(preferred_input_dtype=preferred_input_dtype)

    def process_tile(self, tile: Any) -> None:
        """Ignore the tile."""

    def get_result_buffers(self) -> dict[str, BufferDecl]:
        """No buffers."""
        return {}

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Return the parameter."""
        return self.params.preferred_input_dtype


@runtime_checkable
class UDFFrameMixin(Protocol):
    """Has ``process_frame``."""

    def process_frame(self, frame: Any) -> None:
        """Take a frame."""


@runtime_checkable
class UDFTileMixin(Protocol):
    """Has ``process_tile``."""

    def process_tile(self, tile: Any) -> None:
        """Take a tile."""


@runtime_checkable
class UDFPartitionMixin(Protocol):
    """Has ``process_partition``."""

    def process_partition(self, partition: Any) -> None:
        """Take a partition."""


@runtime_checkable
class UDFPreprocessMixin(Protocol):
    """Has ``preprocess``."""

    def preprocess(self) -> None:
        """Prepare buffers."""


@runtime_checkable
class UDFPostprocessMixin(Protocol):
    """Has ``postprocess``."""

    def postprocess(self) -> None:
        """Finish a partition."""


@runtime_checkable
class UDFMergeAllMixin(Protocol):
    """Has ``merge_all``."""

    def merge_all(self, ordered_results: Any) -> Any:
        """Join all partials at once; framefold never needs it."""


def check_cast(fromvar: Any, tovar: Any) -> None:
    """Refuse a cast between the dtypes of two arrays that could lose information.

    Raises
    ------
    TypeError
        Naming both dtypes.
    """
    if not np.can_cast(fromvar.dtype, tovar.dtype, casting="safe"):
        raise TypeError(f"casting from {fromvar.dtype} to {tovar.dtype} is not safe")


class UDFParams(dict[str, Any]):
    """Parameters of UDFs; a type for annotations, since framefold's jobs carry their own."""


class UDFProtocol(Backends):
    """The constants of `UDF`, for code that types against them."""

    USE_NATIVE_DTYPE = UDF.USE_NATIVE_DTYPE
    TILE_SIZE_BEST_FIT = UDF.TILE_SIZE_BEST_FIT
    TILE_SIZE_MAX = UDF.TILE_SIZE_MAX
    TILE_DEPTH_DEFAULT = UDF.TILE_DEPTH_DEFAULT
    TILE_DEPTH_MAX = UDF.TILE_DEPTH_MAX
    BACKEND_ALL = UDF.BACKEND_ALL
    UDF_METHOD = UDF.UDF_METHOD


class UDFPartRunner:
    """Named so that it can be imported; partitions are folded by framefold's engine."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotProvided("UDFPartRunner", " Run the UDF with Context.run_udf.")
