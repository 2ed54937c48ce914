"""LiberTEM-live's monitors: the last frame, or the sum of the last partition."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from framefold.compat.libertem.udf import UDF
from framefold.udfcore.buffers import BufferDecl, MergeView


class SignalMonitorUDF(UDF):
    """The last frame of the partition that was merged last: ``intensity`` of signal shape."""

    def get_backends(self) -> tuple[str, ...]:
        """All but coordinate lists, of which no row can be taken."""
        return tuple(b for b in self.BACKEND_ALL if "scipy" not in b or "coo" not in b)

    def get_result_buffers(self) -> dict[str, BufferDecl]:
        """Declare ``intensity``."""
        return {"intensity": self.buffer("sig", dtype=self.meta.input_dtype, where="device")}

    def process_tile(self, tile: Any) -> None:
        """Keep the last frame."""
        self.results.intensity[:] = self.forbuf(tile[[-1]], self.results.intensity)

    def merge(self, dest: MergeView, src: MergeView) -> None:
        """Replace."""
        dest.intensity[:] = src.intensity


class PartitionMonitorUDF(UDF):
    """The sum of the partition that was merged last: ``intensity`` of signal shape.

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
        """Replace."""
        dest.intensity[:] = src.intensity
