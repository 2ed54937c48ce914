"""The newest frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.udf import UDF


class MonitorUDF(UDF):
    """Show the newest frame: result ``intensity``, signal shape, dtype of the data.

    The newest frame is the one with the largest index of all that were folded, in whichever order
    partitions arrive.
    """

    engine = EngineOptions(partial_frames=True, gil="free", device=True)

    def __init__(self) -> None:
        super().__init__()

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Ask for raw data."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare ``intensity``."""
        return {"intensity": self.buffer("sig", dtype=self.meta.input_dtype, reduce="last")}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Keep the last frame of the tile; tiles of one part come in the order of their frames."""
        self.results.intensity[...] = tile[-1]
