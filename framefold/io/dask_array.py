"""dask arrays as sources: every tile is computed in the thread that folds it."""

from __future__ import annotations

import functools
from typing import Any

from framefold.errors import DataError
from framefold.io.indexed import IndexedSource
from framefold.io.memory import require_numbers
from framefold.udfcore.shapes import Shape


class _Computed:
    """Computes what is indexed, without a scheduler: the executor above has the threads."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __getitem__(self, key: tuple[slice, ...]) -> Any:
        return self._array[key].compute(scheduler="synchronous")


def open_dask(array: Any, sig_dims: int = 2) -> IndexedSource:
    """Return the source for a dask array; its chunks are the natural chunks.

    Raises
    ------
    DataError
        If chunk sizes are unknown, or the axes do not fit.
    """
    require_numbers(array.dtype, "the dask array")
    if any(n != n for n in array.shape):
        raise DataError("the dask array has unknown chunk sizes: call compute_chunk_sizes() on it first")
    if not 0 < sig_dims <= array.ndim or 0 in array.shape:
        raise DataError(f"a dask array of shape {array.shape} cannot have {sig_dims} signal axes")
    return IndexedSource(
        functools.partial(_Computed, array),
        Shape(array.shape, sig_dims=sig_dims),
        array.dtype,
        tuple(max(c) for c in array.chunks),
        identity=f"dask:{array.name}",
        read_path="dask",
    )
