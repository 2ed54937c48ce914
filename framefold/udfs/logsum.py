"""Sum of log-scaled frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from framefold.errors import UDFError
from framefold.kernels.logsum import add_logs, log_table
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.udf import UDF


class LogSumUDF(UDF):
    """Sum log-scaled frames: result ``logsum`` = sum log(x - min x + 1), signal shape, float64.

    Shows what is weak but present in many frames beside what is bright in few; the minimum is that of each
    frame.
    """

    engine = EngineOptions(whole_frames=True, gil="free", device=True)

    def __init__(self) -> None:
        super().__init__()

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Ask for raw data: logarithms of short integers come from a table."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare ``logsum``."""
        if self.meta.input_dtype.kind not in "buif":
            raise UDFError(f"LogSumUDF needs bool, integer or float data, not {self.meta.input_dtype}")
        return {"logsum": self.buffer("sig", dtype="float64", reduce="sum")}

    def get_worker_data(self) -> Mapping[str, Any]:
        """Make the table of logarithms."""
        return {"table": log_table()}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Add the logarithms of the frames."""
        add_logs(tile, self.results.logsum, self.worker_data.table)
