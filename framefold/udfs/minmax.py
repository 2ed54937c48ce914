"""Largest and smallest value per pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.kernels.minmax import max_frames, min_frames
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.udf import UDF


class MaxUDF(UDF):
    """Find the largest value of each pixel: result ``maximum``, signal shape, dtype of the data.

    A NaN in any frame gives NaN, as in numpy. Without frames the result is 0 or NaN, and invalid.
    """

    engine = EngineOptions(partial_frames=True, gil="free", device=True)

    def __init__(self) -> None:
        super().__init__()

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Ask for raw data."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare ``maximum``."""
        check_order(self)
        return {"maximum": self.buffer("sig", dtype=self.meta.input_dtype, reduce="max")}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Compare the frames of the tile."""
        max_frames(tile, self.results.maximum)

    def get_results(self) -> Mapping[str, Any]:
        """Return the maximum, invalid where nothing was seen."""
        return {"maximum": seen(self, self.results.maximum)}


class MinUDF(UDF):
    """Find the smallest value of each pixel: result ``minimum``, signal shape, dtype of the data.

    A NaN in any frame gives NaN, as in numpy. Without frames the result is 0 or NaN, and invalid.
    """

    engine = EngineOptions(partial_frames=True, gil="free", device=True)

    def __init__(self) -> None:
        super().__init__()

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Ask for raw data."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare ``minimum``."""
        check_order(self)
        return {"minimum": self.buffer("sig", dtype=self.meta.input_dtype, reduce="min")}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Compare the frames of the tile."""
        min_frames(tile, self.results.minimum)

    def get_results(self) -> Mapping[str, Any]:
        """Return the minimum, invalid where nothing was seen."""
        return {"minimum": seen(self, self.results.minimum)}


def check_order(udf: UDF) -> None:
    """Refuse data whose values have no order."""
    if udf.meta.input_dtype.kind not in "buif":
        raise UDFError(
            f"{type(udf).__name__} needs bool, integer or float data, not {udf.meta.input_dtype}: "
            "reduce complex data with a UDF of your own, for instance on numpy.abs(tile)"
        )


def seen(udf: UDF, values: npt.NDArray[Any]) -> Any:
    """Return `values` with their mask; 0 or NaN if no frame was folded."""
    if np.asarray(udf.meta.get_valid_nav_mask()).any():
        return values
    nothing = np.nan if values.dtype.kind == "f" else 0
    return udf.with_mask(np.full_like(values, nothing), False)
