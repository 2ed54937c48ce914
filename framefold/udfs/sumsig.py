"""Sum over each frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.kernels.reduce import sum_sig
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.udf import UDF
from framefold.udfs.sum import check_cast


class SumSigUDF(UDF):
    """Sum the pixels of each frame: result ``intensity``, navigation shape.

    Integers are summed exactly in 64 bits, floats in double precision.

    Parameters
    ----------
    dtype
        Of the result; None: uint64, int64, float64 or complex128, as the data.

    Examples
    --------
    >>> import numpy as np, framefold as ff
    >>> ctx = ff.Context(executor="inline")
    >>> ds = ctx.load(np.ones((2, 2, 3, 3), "uint8"), sig_shape=(3, 3))
    >>> ctx.run_udf(ds, SumSigUDF())["intensity"].data
    array([[9, 9],
           [9, 9]], dtype=uint64)
    """

    engine = EngineOptions(partial_frames=True, gil="free")

    def __init__(self, dtype: npt.DTypeLike | None = None) -> None:
        super().__init__(dtype=None if dtype is None else np.dtype(dtype))

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Ask for raw data."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare ``intensity``; parts of one frame add up."""
        if self.params.dtype is None:
            return {"intensity": self.buffer("nav", dtype="wide", reduce="sum")}
        check_cast(self, "intensity", self.params.dtype)
        return {
            "intensity": self.buffer("nav", dtype=self.params.dtype, use="result_only"),
            "total": self.buffer("nav", dtype="wide", use="private", reduce="sum"),
        }

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Add the pixels of the tile to the numbers of its frames."""
        views = self.results
        sum_sig(tile, views.intensity if self.params.dtype is None else views.total)

    def get_results(self) -> Mapping[str, Any]:
        """Return the sums in the dtype that was asked for."""
        views = self.results
        if self.params.dtype is None:
            return {"intensity": views.intensity}
        return {"intensity": views.total.astype(self.params.dtype)}
