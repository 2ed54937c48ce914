"""Percentiles of all pixel values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.kernels import histogram as kernel
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.udf import UDF

_BINS = 65536


class PercentileUDF(UDF):
    """Find percentiles of the pixel values of all frames: result ``percentile``, one per `q`, float64.

    Exact for integers of up to 16 bits (as ``numpy.percentile``, linear). Other data are counted in 65536
    bins over `range`; result ``error`` is then the width of a bin, and 0 otherwise. Values outside `range`
    count as lying at its ends.

    Parameters
    ----------
    q
        Percentiles, 0 .. 100.
    range
        Between which the values lie; needed unless the data are short integers.
    """

    engine = EngineOptions(partial_frames=True, gil="free", device=True)

    def __init__(
        self,
        q: float | Sequence[float] = (0, 25, 50, 75, 100),
        range: tuple[float, float] | None = None,  # noqa: A002  # numpy's name
    ) -> None:
        wanted = tuple(float(v) for v in np.atleast_1d(np.asarray(q, dtype=np.float64)))
        if not all(0 <= v <= 100 for v in wanted):
            raise UDFError(f"PercentileUDF: q must lie within 0 .. 100, got {q!r}")
        if range is not None and not (np.isfinite(range).all() and range[0] < range[1]):
            raise UDFError(f"PercentileUDF: range must be two finite ascending numbers, got {range!r}")
        super().__init__(q=wanted, range=None if range is None else (float(range[0]), float(range[1])))

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Ask for raw data."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare the counters."""
        dtype = self.meta.input_dtype
        results = {
            "percentile": self.buffer("single", len(self.params.q), dtype="float64", use="result_only"),
            "error": self.buffer("single", dtype="float64", use="result_only"),
        }
        if kernel.has_value_counts(dtype):
            n = len(kernel.possible_values(dtype))
            return {**results, "values": self.buffer("single", n, dtype="int64", use="private", reduce="sum")}
        if dtype.kind not in "uif":
            raise UDFError(f"PercentileUDF needs bool, integer or float data, not {dtype}")
        if self.params.range is None:
            raise UDFError(
                f"PercentileUDF of {dtype} data needs range=(low, high) before it starts, for instance from "
                "MinUDF and MaxUDF"
            )
        return {**results, "bins": self.buffer("single", _BINS, dtype="int64", use="private", reduce="sum")}

    def get_worker_data(self) -> Mapping[str, Any]:
        """Lay out the bins."""
        if self.params.range is None:
            return {}
        low, high = self.params.range
        return {"edges": self.xp.asarray(np.linspace(low, high, _BINS + 1))}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Count the pixels of the tile."""
        views = self.results
        if "values" in views:
            kernel.count_values(tile, views.values)
        else:
            kernel.count_bins(np.clip(tile, *self.params.range), self.worker_data.edges, views.bins)

    def get_results(self) -> Mapping[str, Any]:
        """Return the percentiles of the counted values; NaN without frames."""
        views = self.results
        if "values" in views:
            values = kernel.possible_values(self.meta.input_dtype).astype(np.float64)
            counts, error = views.values, 0.0
        else:
            low, high = self.params.range
            edges = np.linspace(low, high, _BINS + 1)
            values, counts, error = (edges[:-1] + edges[1:]) / 2, views.bins, (high - low) / _BINS
        found = percentiles_of_counts(values, counts, np.array(self.params.q))
        return {"percentile": self.with_mask(found, bool(counts.any())), "error": np.array([error])}


def percentiles_of_counts(
    values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], q: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return what ``numpy.percentile(numpy.repeat(values, counts), q)`` does, without making that array."""
    total = int(counts.sum())
    if not total:
        return np.full(len(q), np.nan)
    upto = np.cumsum(counts)
    place = q / 100 * (total - 1)
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, total - 1)
    a, b = (values[np.searchsorted(upto, k, side="right")] for k in (below, above))
    result: npt.NDArray[np.float64] = a + (b - a) * (place - below)
    return result
