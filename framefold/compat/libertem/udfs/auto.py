"""LiberTEM's `AutoUDF`: a function of a frame as a UDF."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from framefold.compat.libertem.udf import UDF
from framefold.udfcore.buffers import BufferDecl


class AutoUDF(UDF):
    """What a function returns for each frame: ``result``; with `monitor` also that of the last frame.

    Parameters
    ----------
    f
        Called with each frame, and once with ones to learn shape and dtype.
    monitor
        Add the buffer ``monitor``.
    """

    def __init__(self, f: Callable[[Any], Any], monitor: bool = False) -> None:
        super().__init__(f=f, monitor=monitor)

    def auto_buffer(self, var: Any) -> BufferDecl:
        """Return the declaration for values like `var`."""
        return self.buffer("nav", var.shape, var.dtype)

    def auto_monitor_buffer(self, var: Any) -> BufferDecl:
        """Return the declaration for one value like `var`."""
        return self.buffer("single", var.shape, var.dtype, use="result_only")

    def get_result_buffers(self) -> dict[str, BufferDecl]:
        """Call the function once."""
        ones = np.ones(tuple(self.meta.dataset_shape.sig), dtype=self.meta.input_dtype)
        value = np.array(self.params.f(ones))
        found = {"result": self.auto_buffer(value)}
        if self.params.monitor:
            found["monitor"] = self.auto_monitor_buffer(value)
        return found

    def process_frame(self, frame: Any) -> None:
        """Call the function."""
        self.results.result[:] = np.array(self.params.f(frame))

    def get_results(self) -> dict[str, Any]:
        """Pick the last frame that is in."""
        if not self.params.monitor:
            return {}
        inside = np.flatnonzero(np.asarray(self.meta.get_valid_nav_mask()))
        return {"monitor": self.results.result[inside[-1] if len(inside) else 0]}
