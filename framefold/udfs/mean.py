"""Mean of all frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.kernels.reduce import sum_frames
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.udf import UDF
from framefold.udfs.sum import check_cast


class MeanUDF(UDF):
    """Average the frames: result ``mean``, signal shape, float64 (complex128 for complex data).

    Pixels that no frame reached are NaN and invalid.

    Parameters
    ----------
    dtype
        Of the result; None: float64 or complex128.
    """

    engine = EngineOptions(partial_frames=True, gil="free", corrections="self", device=True)

    def __init__(self, dtype: npt.DTypeLike | None = None) -> None:
        super().__init__(dtype=None if dtype is None else np.dtype(dtype))

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Ask for raw data."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare ``mean``: tiles are added, the engine divides by the frames that each pixel saw."""
        double = np.complex128 if self.meta.input_dtype.kind == "c" else np.float64
        if self.params.dtype is None:
            return {"mean": self.buffer("sig", dtype=double, reduce="mean")}
        check_cast(self, "mean", self.params.dtype, double)
        return {
            "mean": self.buffer("sig", dtype=self.params.dtype, use="result_only"),
            "average": self.buffer("sig", dtype=double, use="private", reduce="mean"),
        }

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Add the frames of the tile."""
        views = self.results
        sum_frames(tile, views.mean if self.params.dtype is None else views.average)

    def get_results(self) -> Mapping[str, Any]:
        """Return the mean in the dtype that was asked for."""
        views = self.results
        average = views.mean if self.params.dtype is None else views.average
        if self.meta.corrections is not None:  # linear: once for the mean instead of for every frame
            average = self.meta.corrections.correct_sum(average, 1)
        mask = np.asarray(self.meta.get_valid_nav_mask()).any()
        return {"mean": self.with_mask(average.astype(self.params.dtype or average.dtype, copy=False), mask)}
