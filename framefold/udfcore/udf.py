"""The class that users write: `UDF`."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from framefold.errors import InvalidMaskError, UDFError
from framefold.udfcore.auxdata import AuxData
from framefold.udfcore.backend import Backends, forbuf
from framefold.udfcore.buffers import BufferDecl, MergeView, ResultViews
from framefold.udfcore.meta import RunInfo, UDFMeta
from framefold.udfcore.namespace import namespace
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.params import Namespace


class UDFMethod(enum.Enum):
    """Which ``process_*`` method the engine calls."""

    TILE = "tile"
    FRAME = "frame"
    PARTITION = "partition"


class ArrayWithMask:
    """Data together with their valid mask, as `UDF.with_mask` returns them."""

    def __init__(self, data: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> None:
        self.data = data
        self.mask = mask

    @property
    def arr(self) -> npt.NDArray[Any]:
        """The data."""
        return self.data


class UDF(Backends):
    """A user-defined reduction: subclass it, declare buffers, define one ``process_*`` method.

    Keyword arguments become ``self.params``; `AuxData` among them appear there as views of the part
    that belongs to the current unit of work. A worker makes its own object by ``cls(**kwargs)``.

    Every `merge` must be associative and commutative: partitions arrive in any order and grouping.

    Examples
    --------
    >>> import numpy as np
    >>> class MaxFrame(UDF):
    ...     def get_result_buffers(self):
    ...         return {"maximum": self.buffer("sig", dtype="float32", reduce="max")}
    ...     def process_frame(self, frame):
    ...         np.maximum(self.results.maximum, frame, out=self.results.maximum)
    """

    USE_NATIVE_DTYPE: ClassVar[type] = bool  # the neutral element of numpy.result_type
    TILE_SIZE_BEST_FIT: ClassVar[object] = object()
    TILE_SIZE_MAX: ClassVar[float] = float("inf")
    TILE_DEPTH_DEFAULT: ClassVar[object] = object()
    TILE_DEPTH_MAX: ClassVar[float] = float("inf")
    UDF_METHOD: ClassVar[type[UDFMethod]] = UDFMethod

    engine: ClassVar[EngineOptions] = EngineOptions()

    def __init__(self, **kwargs: Any) -> None:
        self._kwargs = kwargs
        self.pre_transforms: tuple[Any, ...] = ()
        self.params: Any = Namespace("parameter", kwargs)
        self.results: Any = ResultViews({}, type(self).__name__)
        self.task_data: Any = Namespace("task datum")
        self.worker_data: Any = Namespace("worker datum")
        self.meta: UDFMeta = None  # type: ignore[assignment]  # set by the engine before any hook runs

    # --- what users define -------------------------------------------------------------------

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Return the declared buffers by name; cheap and pure, called several times."""
        raise NotImplementedError(f"{type(self).__name__} must define get_result_buffers")

    def get_method(self) -> UDFMethod:
        """Return which method the engine calls: by default tile, then frame, then partition."""
        for method in (UDFMethod.TILE, UDFMethod.FRAME, UDFMethod.PARTITION):
            if hasattr(self, f"process_{method.value}"):
                return method
        raise TypeError(
            f"{type(self).__name__} has no process_tile, process_frame or process_partition: "
            f"define one of them"
        )

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Return the dtype that the UDF wants; joined with the dataset's by `numpy.result_type`."""
        return np.float32

    def get_tiling_preferences(self) -> Mapping[str, Any]:
        """Return ``{"depth": frames, "total_size": bytes}``, wishes for the shape of tiles.

        ``"multiple"``: tiles and partitions hold a multiple of so many rows, but for the last of the run, of
        a segment of live data, and where the user asks for others (``partition_frames=``).
        """
        return {"depth": self.TILE_DEPTH_DEFAULT, "total_size": self.TILE_SIZE_MAX}

    def get_backends(self) -> Sequence[str] | str:
        """Return the array backends that the UDF takes, most wanted first.

        By default numpy, and CuPy where ``engine.device`` says so.
        """
        return (self.BACKEND_NUMPY, self.BACKEND_CUPY) if self.engine.device else (self.BACKEND_NUMPY,)

    def get_task_data(self) -> Mapping[str, Any]:
        """Return what ``self.task_data`` holds during one partition."""
        return {}

    def get_worker_data(self) -> Mapping[str, Any]:
        """Return what ``self.worker_data`` holds on a worker for the whole run (plans, masks)."""
        return {}

    def preprocess(self) -> None:
        """Prepare buffers: per partition on the workers, once on the head before merging starts."""

    def postprocess(self) -> None:
        """Finish a partition on the worker; ``self.results`` holds its whole buffers."""

    def before_shipping(self) -> None:
        """Complete the large buffers before they leave the worker; ``self.results`` holds only these.

        For work that gathers over partitions in ``self.worker_data``, such as batches for BLAS. Called when
        deltas are taken; at the end of each partition where buffers do not stay (deterministic runs).
        """

    def merge(self, dest: Any, src: Any) -> None:
        """Join the partial `src` into `dest`; the default assigns navigation rows."""
        for name in src:
            target, part = getattr(dest, name), getattr(src, name)
            if not np.can_cast(part.dtype, target.dtype, casting="same_kind"):
                raise UDFError(f"cannot merge {name!r}: {part.dtype} into {target.dtype}")
            target[...] = part

    def get_results(self) -> Mapping[str, Any]:
        """Return the results by name, from merged buffers; pure, may be called at any time."""
        return {
            name: getattr(self.results, name)
            for name in self.results
            if self.results.get_buffer(name).use is None
        }

    def get_plots(self) -> Sequence[Any]:
        """Return what is worth drawing, as `PlotSpec` objects; empty: all 1-D and 2-D results."""
        return ()

    def cleanup(self) -> None:
        """Release what `get_task_data` or `preprocess` acquired, at the end of a partition."""
        self.task_data = Namespace("task datum")

    # --- what users call ---------------------------------------------------------------------

    def buffer(
        self,
        kind: str,
        extra_shape: tuple[int, ...] | int = (),
        dtype: npt.DTypeLike = "float32",
        where: str | None = None,
        use: str | None = None,
        *,
        reduce: str | None = None,
        large: bool = False,
        fill: Any = None,
    ) -> BufferDecl:
        """Declare a result buffer; see `BufferDecl` for the arguments.

        ``dtype="wide"`` is the accumulator in which sums of the input dtype are exact, or float64.
        """
        return BufferDecl(kind, extra_shape, dtype, where, use, reduce, large, fill)  # type: ignore[arg-type]

    @classmethod
    def aux_data(
        cls,
        data: npt.ArrayLike,
        kind: str,
        extra_shape: tuple[int, ...] = (),
        dtype: npt.DTypeLike = "float32",
    ) -> AuxData:
        """Make auxiliary data to pass as a parameter; see `AuxData`."""
        return AuxData(data, kind, extra_shape, dtype)

    @staticmethod
    def with_mask(data: npt.ArrayLike, mask: npt.ArrayLike | bool) -> ArrayWithMask:
        """Attach a valid mask to a result in `get_results`.

        Raises
        ------
        InvalidMaskError
            If `mask` is not bool or cannot be broadcast to the shape of `data`.
        """
        array = np.asarray(data)
        given = np.asarray(mask)
        if given.dtype != np.bool_:
            raise InvalidMaskError(f"the mask has dtype {given.dtype}, expected bool")
        try:
            full = np.broadcast_to(given, array.shape)
        except ValueError as exc:
            raise InvalidMaskError(
                f"the mask of shape {given.shape} cannot be broadcast to the data of shape {array.shape}"
            ) from exc
        return ArrayWithMask(array, full)

    def forbuf(self, arr: Any, target: Any) -> Any:
        """Convert `arr` to the backend and shape of `target` (densify, transfer, reshape)."""
        return forbuf(arr, target)

    @property
    def xp(self) -> Any:
        """The array namespace of the current backend: numpy or cupy."""
        return np if self.meta is None else namespace(self.meta.array_backend)

    @property
    def requires_custom_merge(self) -> bool:
        """Whether some buffer can only be merged by a `merge` of its own."""
        return any(
            d.kind != "nav" and d.reduce is None and d.use != "result_only"
            for d in self.get_result_buffers().values()
        )

    def _make_views(self, decls: Mapping[str, BufferDecl], where: str) -> ResultViews:
        """Return what becomes ``self.results``; a seam for other dialects of the same interface."""
        return ResultViews(decls, where)

    def _make_merge_view(
        self, decls: Mapping[str, BufferDecl], arrays: Mapping[str, npt.NDArray[Any]], where: str
    ) -> MergeView:
        """Return what becomes ``dest`` or ``src`` of `merge`."""
        return MergeView(decls, arrays, where)

    def _make_meta(self, info: RunInfo) -> UDFMeta:
        """Return what becomes ``self.meta``."""
        return UDFMeta(info)

    def _results_made(self, results: Mapping[str, Any]) -> None:
        """Look at the checked results, as `ResultBuffer` objects, before the user does."""

    def copy(self) -> UDF:
        """Return a fresh object with the same parameters."""
        twin = type(self)(**self._kwargs)
        twin.pre_transforms = self.pre_transforms
        return twin

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={_short(v)}' for k, v in self._kwargs.items())})"


def merge_call(udf: UDF) -> Callable[[Any, Any], Any]:
    """Return how to call ``udf.merge``: by keyword where the signature has ``dest`` and ``src``."""
    names = set(inspect.signature(udf.merge).parameters)
    if {"dest", "src"} <= names:
        return lambda dest, src: udf.merge(dest=dest, src=src)
    return udf.merge


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


__all__ = ["UDF", "ArrayWithMask", "AuxData", "MergeView", "UDFMethod"]
