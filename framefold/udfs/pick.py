"""Frames as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.udf import UDF


class PickUDF(UDF):
    """Load frames, usually few, chosen by the ROI: result ``intensity``, ``(frames, *sig)``.

    The dtype is that of the data. Frames that the dataset lacks are 0 and invalid.

    Examples
    --------
    >>> import numpy as np, framefold as ff
    >>> ctx = ff.Context(executor="inline")
    >>> ds = ctx.load(np.arange(12).reshape(2, 2, 1, 3), sig_shape=(1, 3))
    >>> ctx.run_udf(ds, PickUDF(), roi=(1, 0))["intensity"].data
    array([[[6, 7, 8]]])
    """

    engine = EngineOptions(gil="free", device=True)

    def __init__(self) -> None:
        super().__init__()

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Ask for raw data."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare rows, which travel per partition, and the result that is made of all of them."""
        meta = self.meta
        sig = tuple(meta.dataset_shape.sig)
        n = math.prod(meta.dataset_shape.nav) if meta.roi is None else int(np.count_nonzero(meta.roi))
        return {
            "intensity": self.buffer("single", (n, *sig), dtype=meta.input_dtype, use="result_only"),
            "rows": self.buffer("nav", sig, dtype=meta.input_dtype, use="private"),
        }

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Copy the tile to its place."""
        self.results.rows[(slice(None), *self.meta.sig_slice.get())] = tile

    def get_results(self) -> Mapping[str, Any]:
        """Return the rows as they are."""
        rows = self.results.rows
        mask = np.asarray(self.meta.get_valid_nav_mask())
        return {"intensity": self.with_mask(rows, mask.reshape(-1, *(1,) * (rows.ndim - 1)))}
