"""What opens an array object, of whatever library; none of them is imported before it is needed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfcore.source import Source


def array_opener(source: Any) -> Callable[..., Source] | None:
    """Return what opens an array object, without importing its library."""
    root, name = type(source).__module__.split(".")[0], type(source).__name__
    if isinstance(source, np.ndarray):
        return _open_numpy
    if root in ("scipy", "sparse"):
        return _open_sparse
    if root == "dask" and hasattr(source, "chunks"):
        return _open_dask
    if root == "zarr":
        return _open_zarr
    if root == "h5py" and name == "Dataset":
        from framefold.io.hdf5 import from_h5py, open_hdf5  # noqa: PLC0415  # loads h5py

        taken = [p for p in inspect.signature(open_hdf5).parameters.values() if p.name not in ("path", "key")]
        return _with_signature(from_h5py, taken)
    return None


def _with_signature(
    function: Callable[..., Any], parameters: Iterable[inspect.Parameter]
) -> Callable[..., Any]:
    """Return `function` with the signature whose options are allowed."""

    def call(source: Any, **options: Any) -> Any:
        return function(source, **options)

    first = inspect.Parameter("source", inspect.Parameter.POSITIONAL_ONLY)
    call.__signature__ = inspect.Signature([first, *parameters])  # type: ignore[attr-defined]
    return call


def _open_numpy(array: npt.NDArray[Any], *, sig_dims: int | None = None, sig_shape: Any = None) -> Source:
    from framefold.io.memmap_array import open_memmap  # noqa: PLC0415  # each kind of array loads its own
    from framefold.io.memory import ArraySource  # noqa: PLC0415

    if isinstance(array, np.memmap):
        return open_memmap(array, _sig_dims(sig_dims, sig_shape))
    return ArraySource(array, _sig_dims(sig_dims, sig_shape))


def _open_sparse(array: Any, *, sig_dims: int | None = None, sig_shape: Any = None) -> Source:
    from framefold.io.memory import SparseSource  # noqa: PLC0415

    return SparseSource(array, sig_dims=sig_dims, sig_shape=sig_shape)


def _open_dask(array: Any, *, sig_dims: int | None = None, sig_shape: Any = None) -> Source:
    from framefold.io.dask_array import open_dask  # noqa: PLC0415

    return open_dask(array, _sig_dims(sig_dims, sig_shape))


def _open_zarr(
    array: Any, *, key: str | None = None, sig_dims: int | None = None, sig_shape: Any = None
) -> Source:
    from framefold.io.zarr import from_zarr  # noqa: PLC0415

    return from_zarr(
        array, key=key, sig_dims=None if sig_dims is sig_shape is None else _sig_dims(sig_dims, sig_shape)
    )


def _sig_dims(sig_dims: int | None, sig_shape: tuple[int, ...] | None) -> int:
    if sig_shape is None:
        return 2 if sig_dims is None else sig_dims
    if sig_dims not in (None, len(sig_shape)):
        raise DataError(f"sig_dims={sig_dims} contradicts sig_shape={tuple(sig_shape)}")
    return len(sig_shape)
