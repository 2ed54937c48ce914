"""A function per frame as a UDF: what ``ctx.map`` runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.namespace import is_device
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.udf import UDF, UDFMethod

# numpy reductions with a kernel. The result has the dtype of the plain call on a frame of the dataset:
#
#     function      bool   uint8..64   int8..64   float32   float64   complex
#     sum           int64  uint64      int64      float32   float64   as given
#     mean          float64                       float32   float64   as given
#     std, var      float64                       float32   float64   (plain call)
#     max, min      as given                                          (plain call)
#
# Accumulation is exact for integers, in double precision for floats.
_KERNELS: dict[Callable[..., Any], str] = {
    np.sum: "sum", np.mean: "mean", np.std: "std", np.var: "var",
    np.max: "max", np.min: "min", np.amax: "max", np.amin: "min",
}  # fmt: skip
_REAL_ONLY = ("std", "var", "max", "min")


class AutoUDF(UDF):
    """Apply a function to each frame: result ``result``, navigation shape and the shape of what `f` returns.

    `f` is called on a frame of ones first, to learn shape and dtype; dicts, strings and everything else that
    is no numeric array are kept as objects. ``numpy.sum, mean, std, var, max, min`` run as built-in kernels
    on the raw data, with the dtype of the plain call.

    Parameters
    ----------
    f
        ``f(frame)``; the frame has at least single precision, except for the functions above.
    monitor
        Add the result ``monitor``: the value of the newest frame.
    """

    engine = EngineOptions(device=True)

    def __init__(self, f: Callable[[npt.NDArray[Any]], Any], monitor: bool = False) -> None:
        if not callable(f):
            raise UDFError(f"AutoUDF needs a function of one frame, got {type(f).__name__}")
        super().__init__(f=f, monitor=monitor)
        self._learnt: dict[tuple[tuple[int, ...], str], npt.NDArray[Any]] = {}

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Ask for raw data where a kernel does the work."""
        return self.USE_NATIVE_DTYPE if self._kernel() else np.float32

    def get_method(self) -> UDFMethod:
        """Choose tiles for kernels, frames for everything else."""
        return UDFMethod.TILE if self._kernel() else UDFMethod.FRAME

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare ``result`` from what the function returns for a frame of ones."""
        one = self._example()
        kernel = self._kernel()
        use = "result_only" if kernel else None
        buffers = {"result": self.buffer("nav", one.shape, dtype=one.dtype, use=use)}
        if self.params.monitor:
            buffers["monitor"] = self.buffer("single", one.shape, dtype=one.dtype, use="result_only")
        if kernel in ("sum", "mean"):
            buffers["total"] = self.buffer("nav", dtype="wide", use="private", reduce="sum")
        elif kernel in ("max", "min"):
            buffers["extreme"] = self.buffer("nav", dtype=self.meta.input_dtype, use="private", reduce=kernel)
        elif kernel:
            buffers["pixels"] = self.buffer("nav", dtype="int64", use="private")
            buffers["mean"] = self.buffer("nav", dtype="float64", use="private")
            buffers["m2"] = self.buffer("nav", dtype="float64", use="private")
        return buffers

    def process_frame(self, frame: npt.NDArray[Any]) -> None:
        """Keep what the function returns for the frame."""
        returned, buffer = self.params.f(frame), self.results.result
        if buffer.dtype == object:
            buffer[0] = returned
            return
        value = as_value(returned)
        expected = () if buffer.shape == (1,) and value.shape == () else buffer.shape
        if value.shape != expected:
            raise UDFError(
                f"the function returned shape {value.shape} for frame {self._where()}, but {expected} for a "
                "frame of ones: return the same shape for every frame, or a dict to keep any object"
            )
        if value.dtype != buffer.dtype and not np.can_cast(value.dtype, buffer.dtype, casting="same_kind"):
            raise UDFError(
                f"the function returned {value.dtype} for frame {self._where()}, but {buffer.dtype} for a "
                "frame of ones: convert the result to one dtype"
            )
        buffer[...] = value

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Reduce the frames of the tile with a kernel."""
        # here, since ctx.map brings this file in with `import framefold`, and numba takes 0.3 s
        from framefold.kernels.frame_moments import add_frame_moments  # noqa: PLC0415
        from framefold.kernels.minmax import max_sig, min_sig  # noqa: PLC0415
        from framefold.kernels.reduce import sum_sig  # noqa: PLC0415

        r = self.results
        if "total" in r:
            sum_sig(tile, r.total)
        elif "extreme" in r:
            (max_sig if known_reduction(self.params.f) == "max" else min_sig)(tile, r.extreme)
        else:
            add_frame_moments(tile, r.pixels, r.mean, r.m2)

    def get_results(self) -> Mapping[str, Any]:
        """Return the values, and the newest one as ``monitor``."""
        result = self._finished()
        merged = np.flatnonzero(np.asarray(self.meta.get_valid_nav_mask()))
        if self._kernel() in ("max", "min"):
            valid = np.zeros(len(result), np.bool_)
            valid[merged] = True
            result = np.where(valid, result, result.dtype.type(0))
        if not self.params.monitor:
            return {"result": result}
        newest = result[merged[-1]] if len(merged) else np.zeros_like(self._example())
        return {"result": result, "monitor": self.with_mask(newest, bool(len(merged)))}

    def _finished(self) -> npt.NDArray[Any]:
        kernel, r = self._kernel(), self.results
        if kernel is None:
            return r.result
        dtype = self._example().dtype
        size = self.meta.dataset_shape.sig.size
        if kernel in ("max", "min"):
            return r.extreme
        with np.errstate(over="ignore"):
            if kernel == "sum":
                return r.total.astype(dtype)
            if kernel == "mean":
                return (r.total / size).astype(dtype)
            variance = r.m2 / size
            return (np.sqrt(variance) if kernel == "std" else variance).astype(dtype)

    def _kernel(self) -> str | None:
        """Return the name of the kernel that does what the function does, or None."""
        name = known_reduction(self.params.f)
        if self.meta is None:  # asked before any run
            return name
        dtype = self.meta.dataset_dtype
        if self.meta.input_dtype.kind == "c" or dtype.kind == "c":
            return name if name not in _REAL_ONLY else None
        half_or_odd = dtype.kind not in "buif" or dtype == np.float16
        return None if half_or_odd or not self.meta.dataset_shape.sig.size else name

    def _example(self) -> npt.NDArray[Any]:
        """Return what the function gives for a frame of ones, computed once."""
        sig, dtype = tuple(self.meta.dataset_shape.sig), self.meta.input_dtype
        key = (sig, dtype.str)
        if key not in self._learnt:
            self._learnt[key] = as_value(self.params.f(np.ones(sig, dtype)))
        return self._learnt[key]

    def _where(self) -> str:
        index = tuple(int(i) for i in self.meta.coordinates[0])
        return f"{index if len(index) > 1 else index[0]}"


def known_reduction(f: Callable[..., Any]) -> str | None:
    """Return the kernel name of a numpy reduction over a whole frame, also as ``functools.partial``."""
    if isinstance(f, functools.partial):
        if f.args or any(k != "axis" or v is not None for k, v in f.keywords.items()):
            return None
        f = f.func
    try:
        return _KERNELS.get(f)
    except TypeError:  # not hashable
        return None


def as_value(returned: Any) -> npt.NDArray[Any]:
    """Return what a function gave as an array; of dtype object and no axes where it is not numeric."""
    if is_device(returned) or (isinstance(returned, np.ndarray) and returned.dtype.kind in "buifcmMV"):
        return returned
    if not isinstance(returned, dict | str | bytes | set | type(None)):
        try:
            value = np.asarray(returned)
        except ValueError:  # ragged
            value = np.empty((), object)
        if value.dtype.kind in "buifcmM":
            return value
    box = np.empty((), object)
    box[()] = returned
    return box


def auto_udf(
    f: Callable[..., Any], dataset: Any = None, corrections: Any = None, pre: tuple[Any, ...] = ()
) -> AutoUDF:
    """Return the UDF that ``ctx.map`` runs for `f`.

    The dataset, corrections and transforms decide in the plan, through ``meta``, whether a kernel serves.
    """
    return AutoUDF(f)
