"""Sum over each frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.kernels.reduce import sum_sig
from framefold.kernels.weighted import weighted_sum_sig
from framefold.udfcore.buffers import BufferDecl, wide
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.udf import UDF
from framefold.udfs.sum import check_cast


class SumSigUDF(UDF):
    """Sum the pixels of each frame: result ``intensity``, navigation shape.

    Integers are summed exactly in 64 bits, floats in double precision. Corrections become weights of the
    pixels, in double precision.

    Parameters
    ----------
    dtype
        Of the result; None: uint64, int64, float64 or complex128, as the data; with corrections float64 or
        complex128.

    Examples
    --------
    >>> import numpy as np, framefold as ff
    >>> ctx = ff.Context(executor="inline")
    >>> ds = ctx.load(np.ones((2, 2, 3, 3), "uint8"), sig_shape=(3, 3))
    >>> ctx.run_udf(ds, SumSigUDF())["intensity"].data
    array([[9, 9],
           [9, 9]], dtype=uint64)
    """

    engine = EngineOptions(partial_frames=True, gil="free", corrections="self", device=True)

    def __init__(self, dtype: npt.DTypeLike | None = None) -> None:
        super().__init__(dtype=None if dtype is None else np.dtype(dtype))

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Ask for raw data."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare ``intensity``; parts of one frame add up."""
        corrected = self.meta.corrections is not None
        source = np.result_type(wide(self.meta.input_dtype), np.float64 if corrected else np.bool_)
        if self.params.dtype is None:
            return {"intensity": self.buffer("nav", dtype=source, reduce="sum")}
        check_cast(self, "intensity", self.params.dtype, source)
        return {
            "intensity": self.buffer("nav", dtype=self.params.dtype, use="result_only"),
            "total": self.buffer("nav", dtype=source, use="private", reduce="sum"),
        }

    def get_worker_data(self) -> Mapping[str, Any]:
        """Turn the corrections, which are linear, into a weight and an offset per pixel."""
        given = self.meta.corrections
        if given is None:
            return {}
        weights, offsets = given.pixel_weights(tuple(self.meta.dataset_shape.sig))
        return {"weights": self.xp.asarray(weights), "offsets": self.xp.asarray(offsets)}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Add the pixels of the tile to the numbers of its frames."""
        views = self.results
        out = views.total if "total" in views else views.intensity
        if self.meta.corrections is None:
            sum_sig(tile, out)
            return
        where, data = self.meta.sig_slice.get(), self.worker_data
        weighted_sum_sig(tile, self.xp.ascontiguousarray(data.weights[where]).reshape(-1), out)
        out -= data.offsets[where].sum()

    def get_results(self) -> Mapping[str, Any]:
        """Return the sums in the dtype that was asked for."""
        views = self.results
        if self.params.dtype is None:
            return {"intensity": views.intensity}
        return {"intensity": views.total.astype(self.params.dtype)}
