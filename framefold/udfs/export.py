"""Hand every frame to a sink, in order: what ``ctx.export`` and ``framefold convert`` run."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.source import Sink
from framefold.udfcore.udf import UDF


class ExportUDF(UDF):
    """Write the frames of a run that are not missing to a `Sink`; runs inline, since a sink has one owner.

    Parameters
    ----------
    sink
        Receives ``write(start, frames)`` with the row of the first of consecutive frames.
    dtype
        Of the frames written; None: that of the dataset, or float32 with corrections.
    rows
        Which row of the sink each frame of the dataset is; None: its own number.
    """

    engine = EngineOptions(whole_frames=True, order="stream", lanes=1)

    def __init__(
        self, sink: Sink, dtype: npt.DTypeLike | None = None, rows: npt.NDArray[np.int64] | None = None
    ) -> None:
        super().__init__(sink=sink, dtype=dtype, rows=rows)

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Take the frames as they are; they are cast when written."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> dict[str, BufferDecl]:
        """Declare the number of frames written."""
        return {"written": self.buffer("single", dtype="int64", reduce="sum")}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Write a tile of whole frames."""
        dtype, rows, ids = self.params.dtype, self.params.rows, self.meta.frame_ids
        where = ids if rows is None else rows[ids]
        gaps = np.flatnonzero(np.diff(where) != 1) + 1
        for a, b in zip([0, *gaps], [*gaps, len(where)], strict=True):
            part = tile[a:b]
            self.params.sink.write(int(where[a]), part if dtype is None else part.astype(dtype))
        self.results.written += len(tile)
