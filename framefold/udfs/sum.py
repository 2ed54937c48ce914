"""Sum of all frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.kernels.reduce import sum_frames
from framefold.udfcore.buffers import BufferDecl, wide
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.udf import UDF


class SumUDF(UDF):
    """Sum the frames: result ``intensity``, signal shape.

    Integers are summed exactly in 64 bits, floats in double precision. Corrections are applied to the sum.

    Parameters
    ----------
    dtype
        Of the result; None: uint64, int64, float64 or complex128, as the data; with corrections float64 or
        complex128.

    Examples
    --------
    >>> import numpy as np, framefold as ff
    >>> ctx = ff.Context(executor="inline")
    >>> ds = ctx.load(np.ones((4, 2, 3), "uint8"), sig_shape=(2, 3))
    >>> ctx.run_udf(ds, SumUDF())["intensity"].data
    array([[4, 4, 4],
           [4, 4, 4]], dtype=uint64)
    """

    engine = EngineOptions(partial_frames=True, gil="free", corrections="self", device=True)

    def __init__(self, dtype: npt.DTypeLike | None = None) -> None:
        super().__init__(dtype=None if dtype is None else np.dtype(dtype))

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Ask for raw data: a pass that converts them costs more than the sum."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare the exact sum; beside it what follows, with another dtype or corrections."""
        corrected = self.meta.corrections is not None
        if self.params.dtype is None and not corrected:
            return {"intensity": self.buffer("sig", dtype="wide", reduce="sum")}
        source = np.result_type(wide(self.meta.input_dtype), np.float64 if corrected else np.bool_)
        dtype = source if self.params.dtype is None else self.params.dtype
        check_cast(self, "intensity", dtype, source)
        total = self.buffer("sig", dtype="wide", use="private", reduce="sum")
        buffers = {"intensity": self.buffer("sig", dtype=dtype, use="result_only"), "total": total}
        if corrected:
            buffers["count"] = self.buffer("sig", dtype="int64", use="private", reduce="sum")
        return buffers

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Add the frames of the tile."""
        views = self.results
        sum_frames(tile, views.total if "total" in views else views.intensity)
        if "count" in views:
            # per pixel, since live parts can be lost; no postprocess, so that large sums stay on the worker
            views.count += tile.shape[0]

    def get_results(self) -> Mapping[str, Any]:
        """Return the sum, corrected: corrections are linear, once is enough."""
        views = self.results
        if "total" not in views:
            return {"intensity": views.intensity}
        total = views.total
        if "count" in views:
            total = self.meta.corrections.correct_sum(total, views.count)
        return {"intensity": total.astype(views.get_buffer("intensity").dtype, copy=False)}


def check_cast(udf: UDF, name: str, dtype: npt.DTypeLike, source: npt.DTypeLike | None = None) -> None:
    """Refuse a result dtype that would lose the kind of the data (complex to real, float to integer).

    `source` is what is computed; None: the accumulator of the input dtype.
    """
    have = np.dtype(source) if source is not None else wide(udf.meta.input_dtype)
    if not np.can_cast(have, np.dtype(dtype), casting="same_kind"):
        raise UDFError(
            f"{type(udf).__name__}: {name!r} is computed as {have} from data of dtype "
            f"{udf.meta.input_dtype}; dtype={np.dtype(dtype)!s} would lose it: "
            "leave dtype out or give a wider one"
        )
