"""Sum of frames per class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.kernels.grouped import sum_grouped
from framefold.udfcore.auxdata import AuxData
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.udf import UDF


class GroupedSumUDF(UDF):
    """Sum and average the frames of each class in one pass.

    Results: ``sum`` ``(n, *sig)`` in 64 bits or double precision, ``mean`` ``(n, *sig)``, ``count`` ``(n,)``.

    Parameters
    ----------
    labels
        Class 0 .. n - 1 of every frame, navigation shape, integers; negative: of no class.
    n
        Number of classes; None: one more than the largest label.

    Raises
    ------
    UDFError
        If a label is not below `n`, or labels are not integers.
    """

    engine = EngineOptions(gil="free", device=True)

    def __init__(self, labels: npt.ArrayLike | AuxData, n: int | None = None) -> None:
        aux = labels if isinstance(labels, AuxData) else self._labels(labels)
        largest = int(aux.array.max(initial=-1))
        classes = largest + 1 if n is None else int(n)
        if classes <= largest:
            raise UDFError(
                f"GroupedSumUDF: label {largest} does not fit in n={classes} classes 0 .. {classes - 1}"
            )
        if classes < 1:
            raise UDFError("GroupedSumUDF: no frame belongs to a class; labels start at 0")
        super().__init__(labels=aux, n=classes)

    @classmethod
    def _labels(cls, labels: npt.ArrayLike) -> AuxData:
        given = np.asarray(labels)
        if given.dtype.kind not in "bui":
            raise UDFError(f"GroupedSumUDF: labels are integers, not {given.dtype}")
        return cls.aux_data(given.astype(np.int64), "nav", dtype="int64")

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Ask for raw data."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare one sum and one counter per class."""
        shape = (self.params.n, *self.meta.dataset_shape.sig)
        double = np.complex128 if self.meta.input_dtype.kind == "c" else np.float64
        return {
            "sum": self.buffer("single", shape, dtype="wide", reduce="sum"),
            "mean": self.buffer("single", shape, dtype=double, use="result_only"),
            "count": self.buffer("single", self.params.n, dtype="int64", reduce="sum"),
        }

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Add the frames of the tile to the sums of their classes."""
        labels = self.params.labels
        sum_grouped(tile, labels, self.results.sum[(slice(None), *self.meta.sig_slice.get())])
        if self.meta.tiling_scheme_idx == 0:  # once per frame, not per part of it
            self.results.count += self._members(labels)

    def _members(self, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        n = self.params.n
        return np.bincount(np.where(labels < 0, n, labels), minlength=n + 1)[:n]

    def get_results(self) -> Mapping[str, Any]:
        """Return the sums, the averages (NaN and invalid for empty classes) and the counts."""
        total, count = self.results.sum, self.results.count
        full = count.reshape(-1, *(1,) * (total.ndim - 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = total / full
        return {"sum": total, "mean": self.with_mask(mean, full > 0), "count": count}
