"""LiberTEM's UDFs that return or store frames as they are: `PickUDF`, `RecordUDF`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.compat.libertem.udf import UDF
from framefold.udfcore.buffers import BufferDecl, MergeView


class PickUDF(UDF):
    """The frames themselves: ``intensity`` of shape ``(frames, *sig)``, meant for few of them."""

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Take the data as they are."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> dict[str, BufferDecl]:
        """Declare ``intensity``."""
        shape, roi = self.meta.dataset_shape, self.meta.roi
        n = shape.nav.size if roi is None else int(np.count_nonzero(roi))
        return {"intensity": self.buffer("single", (n, *shape.sig), dtype=self.meta.input_dtype)}

    def process_tile(self, tile: Any) -> None:
        """Put a tile in its place."""
        self.results.intensity[self.meta.slice.get()] = tile

    def merge(self, dest: MergeView, src: MergeView) -> None:
        """Add a partition: all other frames of it are zero."""
        dest.intensity += src.intensity


class RecordUDF(UDF):
    """Writes the data as a ``.npy`` file, replacing what is there.

    Parameters
    ----------
    filename
        The file.
    _is_master
        True on the object that the user makes: only that one creates the file.
    """

    def __init__(self, filename: Any, _is_master: bool = True) -> None:
        self._is_master = _is_master
        super().__init__(filename=filename, _is_master=False)

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Take the data as they are."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> dict[str, BufferDecl]:
        """No buffers."""
        return {}

    def _map(self, mode: Any) -> Any:
        return np.lib.format.open_memmap(
            self.params.filename, mode=mode, dtype=self.meta.input_dtype, shape=tuple(self.meta.dataset_shape)
        )

    def preprocess(self) -> None:
        """Create the file, once."""
        if self.meta.roi is not None:
            raise RuntimeError("RecordUDF writes whole datasets: run it without roi")
        if self._is_master:
            self._map("w+")

    def get_task_data(self) -> dict[str, Any]:
        """Map the file."""
        shape = self.meta.dataset_shape
        return {"frames": self._map("r+").reshape((shape.nav.size, *shape.sig))}

    def process_tile(self, tile: Any) -> None:
        """Write a tile."""
        self.task_data.frames[self.meta.slice.get()] = tile
