"""LiberTEM's sums over frames and pixels: `SumUDF`, `SumSigUDF`, `LogsumUDF`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.compat.libertem.udf import UDF
from framefold.udfcore.buffers import BufferDecl, MergeView


class SumUDF(UDF):
    """Sum of all frames: ``intensity`` of signal shape.

    Parameters
    ----------
    dtype
        Wanted dtype; the sum has its joint type with the data.
    """

    def __init__(self, dtype: npt.DTypeLike = "float32") -> None:
        super().__init__(dtype=dtype)

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Return the parameter."""
        return self.params.dtype

    def get_backends(self) -> tuple[str, ...]:
        """All backends."""
        return self.BACKEND_ALL

    def get_result_buffers(self) -> dict[str, BufferDecl]:
        """Declare ``intensity``."""
        return {"intensity": self.buffer("sig", dtype=self.meta.input_dtype, where="device")}

    def process_tile(self, tile: Any) -> None:
        """Add the frames of a tile."""
        self.results.intensity += self.forbuf(tile.sum(axis=0), self.results.intensity)

    def merge(self, dest: MergeView, src: MergeView) -> None:
        """Add a partition."""
        dest.intensity += src.intensity


class SumSigUDF(UDF):
    """Sum of each frame: ``intensity`` of navigation shape."""

    def get_backends(self) -> tuple[str, ...]:
        """All backends."""
        return self.BACKEND_ALL

    def get_result_buffers(self) -> dict[str, BufferDecl]:
        """Declare ``intensity``."""
        dtype = np.result_type(self.meta.input_dtype, np.float32)
        return {"intensity": self.buffer("nav", dtype=dtype, where="device")}

    def process_tile(self, tile: Any) -> None:
        """Add the pixels of a tile."""
        flat = tile.reshape((tile.shape[0], -1))
        self.results.intensity += self.forbuf(flat.sum(axis=1), self.results.intensity)


def run_sumsig(ctx: Any, dataset: Any) -> Any:
    """Run `SumSigUDF`."""
    return ctx.run_udf(dataset=dataset, udf=SumSigUDF())


class LogsumUDF(UDF):
    """Sum of ``log(frame - min(frame) + 1)``: ``logsum`` of signal shape."""

    def get_backends(self) -> tuple[str, ...]:
        """Backends with more than two axes."""
        return tuple(b for b in self.BACKEND_ALL if "scipy" not in b)

    def get_result_buffers(self) -> dict[str, BufferDecl]:
        """Declare ``logsum``."""
        return {"logsum": self.buffer("sig", dtype="float32", where="device")}

    def process_frame(self, frame: Any) -> None:
        """Add a frame."""
        self.results.logsum += self.forbuf(np.log(frame - np.min(frame) + 1), self.results.logsum)

    def merge(self, dest: MergeView, src: MergeView) -> None:
        """Add a partition."""
        dest.logsum += src.logsum


def run_logsum(ctx: Any, dataset: Any, roi: Any = None) -> Any:
    """Run `LogsumUDF`."""
    return ctx.run_udf(dataset=dataset, udf=LogsumUDF(), roi=roi)
