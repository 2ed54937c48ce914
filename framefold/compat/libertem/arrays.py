"""LiberTEM's small helpers for numbers, sparse arrays and devices."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.namespace import device_namespace, has_device

Array = npt.NDArray[Any]


# --- libertem.common.math ----------------------------------------------------------------------------


def prod(iterable: Iterable[Any]) -> int:
    """Return the product of integers without overflow.

    Raises
    ------
    ValueError
        If an entry is not an integer or bool.
    """
    result = 1
    for item in iterable:
        if not isinstance(item, (int, np.integer, np.bool_)):
            raise ValueError(f"prod takes integers, not {type(item).__name__} {item!r}")
        result *= int(item)
    return result


def count_nonzero(array: Any) -> int:
    """Return how many entries of a dense or sparse array are not zero."""
    try:
        return int(np.count_nonzero(array))
    except (TypeError, ValueError):
        return int(array.astype(bool).sum())


def flat_nonzero(array: Any) -> npt.NDArray[np.intp]:
    """Return the flat indices of what is not zero."""
    return array.flatten().nonzero()[0]


def make_2D_square(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return ``(n, n)`` for ``(n * n,)``, any other shape as it is."""
    if len(shape) != 1:
        return shape
    size = prod(shape)
    if size < 1:
        raise ValueError(f"shape {shape} is empty")
    side = round(size**0.5)
    return (side, side) if side * side == size else shape


def ndenumerate(array: Any) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Yield pairs of index and value; of a sparse array only where it is not zero."""
    if isinstance(array, np.ndarray):
        yield from np.ndenumerate(array)
        return
    flat = array.flatten()
    for i in flat_nonzero(flat):
        yield tuple(np.unravel_index(i, array.shape)), flat[i]


# --- libertem.common.sparse --------------------------------------------------------------------------


def is_sparse(a: Any) -> bool:
    """Tell whether `a` is a scipy or pydata sparse array."""
    return type(a).__module__.split(".")[0] in ("scipy", "sparse", "cupyx") and hasattr(a, "nnz")


def to_dense(a: Any) -> Array:
    """Return a numpy array of the same values."""
    if hasattr(a, "toarray"):
        return np.asarray(a.toarray())
    return np.asarray(a.todense() if hasattr(a, "todense") else a)


def to_sparse(a: Any, shape: Any = None) -> Any:
    """Return ``sparse.COO`` of the same values; coordinates or pairs (coordinate, bool) need `shape`."""
    import sparse  # noqa: PLC0415  # slow to import

    if isinstance(a, (tuple, list)):
        if all(isinstance(v, (int, np.integer)) for v in a):
            a = ((tuple(a), True),)
        values = {bool(v) for _, v in a}
        if len(values) != 1:
            raise ValueError("coordinates of a region must be all True or all False")
        (on,) = values
        return sparse.COO.from_iter(
            [(tuple(c), v) for c, v in a], shape=tuple(shape), fill_value=not on, dtype=bool
        )
    if isinstance(a, sparse.COO):
        return a
    if isinstance(a, sparse.SparseArray):
        return a.asformat("coo")
    return sparse.COO.from_scipy_sparse(a) if hasattr(a, "tocoo") else sparse.COO.from_numpy(np.asarray(a))


def sparse_to_coo(a: Any, shape: Any = None) -> Any:
    """Return `a` itself if it is None or a numpy array, else ``sparse.COO``."""
    return a if a is None or isinstance(a, np.ndarray) else to_sparse(a, shape)


def assert_sparse(a: Any) -> Any:
    """Return `a`, which must be sparse."""
    if not is_sparse(a):
        raise TypeError(f"expected a sparse array, got {type(a).__name__}")
    return a


# --- libertem.common.numba ---------------------------------------------------------------------------


def rmatmul(left_dense: Array, right_sparse: Any) -> Array:
    """Return the dense product of a dense with a sparse matrix."""
    if left_dense.ndim != 2 or right_sparse.ndim != 2:
        raise ValueError(
            f"rmatmul multiplies matrices, not shapes {left_dense.shape} and {right_sparse.shape}"
        )
    if left_dense.shape[1] != right_sparse.shape[0]:
        raise ValueError(f"the shapes {left_dense.shape} and {right_sparse.shape} cannot be multiplied")
    return np.asarray((right_sparse.T @ left_dense.T).T)


# --- libertem.common.backend, libertem.utils.devices -------------------------------------------------

_CPU, _CUDA = "LIBERTEM_USE_CPU", "LIBERTEM_USE_CUDA"


def _device(name: str, other: str) -> int | None:
    if name in os.environ and other in os.environ:
        raise RuntimeError(f"both {_CPU} and {_CUDA} are set: unset one of them")
    return int(os.environ[name]) if name in os.environ else None


def get_use_cuda() -> int | None:
    """Return the CUDA device that this process should use, or None."""
    return _device(_CUDA, _CPU)


def get_use_cpu() -> int | None:
    """Return the CPU that this process should use, 0 by default, or None if it should use CUDA."""
    cpu = _device(_CPU, _CUDA)
    return 0 if cpu is None and get_use_cuda() is None else cpu


def set_use_cuda(cuda_device: int) -> None:
    """Use a CUDA device in this process."""
    os.environ[_CUDA] = str(cuda_device)
    os.environ.pop(_CPU, None)


def set_use_cpu(cpu: int) -> None:
    """Use the CPU in this process."""
    os.environ.pop(_CUDA, None)
    os.environ[_CPU] = str(cpu)


def get_device_class() -> str:
    """Return ``"cpu"`` or ``"cuda"``."""
    return "cpu" if get_use_cuda() is None else "cuda"


def has_cupy() -> bool:
    """Tell whether cupy works."""
    return has_device()


def detect() -> dict[str, Any]:
    """Return the devices of this machine: ``{"cpus": [...], "cudas": [...], "has_cupy": bool}``."""
    cudas: list[int] = []
    if has_device():
        cudas = list(range(int(device_namespace().cuda.runtime.getDeviceCount())))
    return {"cpus": list(range(physical_cpus())), "cudas": cudas, "has_cupy": bool(cudas)}


def physical_cpus() -> int:
    """Return the number of CPU cores, not counting hyper-threads where that is known."""
    try:
        import psutil  # noqa: PLC0415  # comes with dask.distributed

        found = psutil.cpu_count(logical=False)
    except ImportError:
        found = None
    return int(found or os.cpu_count() or 1)
