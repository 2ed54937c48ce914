"""Histogram of all pixel values."""

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


class HistogramUDF(UDF):
    """Count pixel values in bins: results ``counts`` (int64) and ``edges`` (float64).

    Equals ``numpy.histogram`` of all selected frames, with edges in double precision. Integers of up to 16
    bits need no `range`: each value is counted, and the bins are laid over what occurred.

    Parameters
    ----------
    bins
        Number of bins, or ascending edges.
    range
        Lower and upper end of the bins; pixels outside are not counted. None: smallest and largest value, for
        short integers only.

    Raises
    ------
    UDFError
        If the data are not short integers and neither `range` nor edges are given.
    """

    engine = EngineOptions(partial_frames=True, gil="free", device=True)

    def __init__(
        self,
        bins: int | Sequence[float] | npt.NDArray[Any] = 256,
        range: tuple[float, float] | None = None,  # noqa: A002  # numpy's name
    ) -> None:
        if np.ndim(bins) > 0:
            edges = np.array(bins, dtype=np.float64)
            if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) >= 0).all():
                raise UDFError(f"HistogramUDF: edges must ascend and be at least two, got {bins!r}")
            super().__init__(bins=edges, range=None)
        else:
            n = int(bins)  # type: ignore[arg-type]
            if n < 1:
                raise UDFError(f"HistogramUDF needs at least one bin, got bins={bins!r}")
            if range is not None and not (np.isfinite(range).all() and range[0] <= range[1]):
                raise UDFError(f"HistogramUDF: range must be two finite ascending numbers, got {range!r}")
            super().__init__(bins=n, range=None if range is None else (float(range[0]), float(range[1])))

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Ask for raw data."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare counts per value for short integers, else counts per bin."""
        bins = self.params.bins
        n = bins if isinstance(bins, int) else len(bins) - 1
        dtype = self.meta.input_dtype
        edges = self.buffer("single", n + 1, dtype="float64", use="result_only")
        if kernel.has_value_counts(dtype):
            return {
                "counts": self.buffer("single", n, dtype="int64", use="result_only"),
                "edges": edges,
                "values": self.buffer(
                    "single", len(kernel.possible_values(dtype)), dtype="int64", use="private", reduce="sum"
                ),
            }
        if dtype.kind not in "uif":
            raise UDFError(f"HistogramUDF needs bool, integer or float data, not {dtype}")
        if isinstance(bins, int) and self.params.range is None:
            raise UDFError(
                f"HistogramUDF of {dtype} data needs the ends of the bins before it starts: pass "
                "range=(low, high), for instance from MinUDF and MaxUDF, or edges as bins="
            )
        return {"counts": self.buffer("single", n, dtype="int64", reduce="sum"), "edges": edges}

    def get_task_data(self) -> Mapping[str, Any]:
        """Lay out the bins."""
        return (
            {}
            if kernel.has_value_counts(self.meta.input_dtype)
            else {"edges": self.xp.asarray(self._edges())}
        )

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Count the pixels of the tile."""
        views = self.results
        if "values" in views:
            kernel.count_values(tile, views.values)
        else:
            kernel.count_bins(tile, self.task_data.edges, views.counts)

    def get_results(self) -> Mapping[str, Any]:
        """Return counts and edges."""
        views = self.results
        if "values" not in views:
            return {"counts": views.counts, "edges": self._edges()}
        values = kernel.possible_values(self.meta.input_dtype)
        seen = views.values > 0
        counts, edges = np.histogram(
            values[seen], bins=self.params.bins, range=self.params.range, weights=views.values[seen]
        )
        return {"counts": np.rint(counts).astype(np.int64), "edges": edges.astype(np.float64)}

    def _edges(self) -> npt.NDArray[np.float64]:
        edges = np.histogram_bin_edges(np.zeros(0), self.params.bins, self.params.range)
        return edges.astype(np.float64)
