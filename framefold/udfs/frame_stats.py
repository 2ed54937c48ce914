"""Numbers that describe each frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.kernels.frame_moments import add_frame_moments
from framefold.kernels.minmax import max_sig, min_sig
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.udf import UDF
from framefold.udfs.minmax import check_order


class FrameStatsUDF(UDF):
    """Describe each frame: results ``minimum``, ``maximum`` (dtype of the data), ``mean``, ``std`` (float64)
    and ``saturated`` (int64), navigation shape.

    Parameters
    ----------
    saturation
        Pixels at or above this value count as saturated; None: the largest integer of the dtype, for floats
        infinity.
    """  # noqa: D205  # the results belong together

    engine = EngineOptions(gil="free", device=True)

    def __init__(self, saturation: float | None = None) -> None:
        super().__init__(saturation=saturation)

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Ask for raw data."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare the numbers; parts of a frame add to them one after the other."""
        check_order(self)
        dtype = self.meta.input_dtype
        return {
            "minimum": self.buffer("nav", dtype=dtype, reduce="min"),
            "maximum": self.buffer("nav", dtype=dtype, reduce="max"),
            "mean": self.buffer("nav", dtype="float64"),
            "std": self.buffer("nav", dtype="float64", use="result_only"),
            "saturated": self.buffer("nav", dtype="int64"),
            "pixels": self.buffer("nav", dtype="int64", use="private"),
            "m2": self.buffer("nav", dtype="float64", use="private"),
        }

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Add the pixels of the tile to the numbers of its frames."""
        r = self.results
        min_sig(tile, r.minimum)
        max_sig(tile, r.maximum)
        add_frame_moments(tile, r.pixels, r.mean, r.m2)
        limit = self._limit()
        # rare: the second look costs only frames that need it; a device would have to be waited for
        if self.xp is not np or (r.maximum >= limit).any():
            r.saturated += (tile >= limit).reshape(tile.shape[0], -1).sum(axis=1)

    def get_results(self) -> Mapping[str, Any]:
        """Return the numbers; 0 where a frame was not seen."""
        r = self.results
        seen = r.pixels > 0
        with np.errstate(invalid="ignore"):
            std = np.sqrt(r.m2 / np.maximum(r.pixels, 1))
        zero = r.minimum.dtype.type(0)
        return {
            "minimum": np.where(seen, r.minimum, zero),
            "maximum": np.where(seen, r.maximum, zero),
            "mean": r.mean,
            "std": std,
            "saturated": r.saturated,
        }

    def _limit(self) -> float:
        if self.params.saturation is not None:
            return float(self.params.saturation)
        dtype = self.meta.input_dtype
        return float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0 if dtype.kind == "b" else np.inf
