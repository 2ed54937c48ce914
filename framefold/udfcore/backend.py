"""Array backends: their names, what they are, and conversion between them.

The names equal those of the ``sparseconverter`` package, which does the conversions when it is
installed; dense numpy needs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.udfcore.namespace import MISSING, device_namespace, has_device, is_device

NUMPY = "numpy"
CUDA = "cuda"
CUPY = "cupy"
_SCIPY = tuple(f"scipy.sparse.{f}_{k}" for k in ("matrix", "array") for f in ("coo", "csr", "csc"))
_PYDATA = ("sparse.COO", "sparse.GCXS", "sparse.DOK")
_CUPY_SPARSE = tuple(f"cupyx.scipy.sparse.{f}_matrix" for f in ("coo", "csr", "csc"))


class Backends:
    """The names of array backends as class attributes, inherited by `UDF`."""

    BACKEND_NUMPY: ClassVar[str] = NUMPY
    BACKEND_CUDA: ClassVar[str] = CUDA
    BACKEND_CUPY: ClassVar[str] = CUPY
    BACKEND_NUMPY_MATRIX: ClassVar[str] = "numpy.matrix"
    BACKEND_SCIPY_COO: ClassVar[str] = "scipy.sparse.coo_matrix"
    BACKEND_SCIPY_CSR: ClassVar[str] = "scipy.sparse.csr_matrix"
    BACKEND_SCIPY_CSC: ClassVar[str] = "scipy.sparse.csc_matrix"
    BACKEND_SCIPY_COO_ARRAY: ClassVar[str] = "scipy.sparse.coo_array"
    BACKEND_SCIPY_CSR_ARRAY: ClassVar[str] = "scipy.sparse.csr_array"
    BACKEND_SCIPY_CSC_ARRAY: ClassVar[str] = "scipy.sparse.csc_array"
    BACKEND_SPARSE_COO: ClassVar[str] = "sparse.COO"
    BACKEND_SPARSE_GCXS: ClassVar[str] = "sparse.GCXS"
    BACKEND_SPARSE_DOK: ClassVar[str] = "sparse.DOK"
    BACKEND_CUPY_SCIPY_COO: ClassVar[str] = "cupyx.scipy.sparse.coo_matrix"
    BACKEND_CUPY_SCIPY_CSR: ClassVar[str] = "cupyx.scipy.sparse.csr_matrix"
    BACKEND_CUPY_SCIPY_CSC: ClassVar[str] = "cupyx.scipy.sparse.csc_matrix"

    CPU_BACKENDS: ClassVar[frozenset[str]] = frozenset({NUMPY, "numpy.matrix", *_SCIPY, *_PYDATA})
    CUPY_BACKENDS: ClassVar[frozenset[str]] = frozenset({CUPY, *_CUPY_SPARSE})
    CUDA_BACKENDS: ClassVar[frozenset[str]] = frozenset({CUDA, CUPY, *_CUPY_SPARSE})
    SPARSE_BACKENDS: ClassVar[frozenset[str]] = frozenset({*_SCIPY, *_PYDATA, *_CUPY_SPARSE})
    DENSE_BACKENDS: ClassVar[frozenset[str]] = frozenset({NUMPY, "numpy.matrix", CUDA, CUPY})
    D2_BACKENDS: ClassVar[frozenset[str]] = frozenset({"numpy.matrix", *_SCIPY, *_CUPY_SPARSE})
    ND_BACKENDS: ClassVar[frozenset[str]] = frozenset({NUMPY, CUDA, CUPY, *_PYDATA})
    BACKEND_ALL: ClassVar[tuple[str, ...]] = (
        NUMPY,
        CUDA,
        CUPY,
        "numpy.matrix",
        *_SCIPY,
        *_PYDATA,
        *_CUPY_SPARSE,
    )


def backend_of(arr: Any) -> str:
    """Return the backend name of an array object."""
    if isinstance(arr, np.matrix):
        return "numpy.matrix"
    if isinstance(arr, np.ndarray):
        return NUMPY
    if is_device(arr):
        return CUPY
    module, name = type(arr).__module__, type(arr).__name__
    root = module.split(".")[0]
    if root == "sparse":
        return f"sparse.{name}"
    if root == "scipy":
        return f"scipy.sparse.{name}"
    if root == "cupyx":
        return f"cupyx.scipy.sparse.{name}"
    return NUMPY


def to_dense(arr: Any) -> npt.NDArray[Any]:
    """Return `arr` as a numpy array of the same number of axes."""
    for method in ("todense", "toarray", "get"):  # pydata sparse, scipy sparse, cupy
        if not isinstance(arr, np.ndarray) and hasattr(arr, method):
            return np.asarray(getattr(arr, method)())
    return np.asarray(arr)


def for_backend(arr: Any, backend: str) -> Any:
    """Convert an array; two-dimensional backends take ``(depth, pixels)``.

    Raises
    ------
    UDFError
        If the package of the backend is not installed.
    """
    current = backend_of(arr)
    if current == backend or (backend == CUDA and current == NUMPY):
        return arr
    if backend in (NUMPY, CUDA):
        return to_dense(arr)
    if backend == CUPY:
        return device_namespace().asarray(to_dense(arr))
    if backend in Backends.D2_BACKENDS and arr.ndim != 2:
        arr = arr.reshape((arr.shape[0], -1))
    try:
        import sparseconverter  # noqa: PLC0415  # optional extra
    except ImportError:
        return _without_converter(arr, backend)
    return sparseconverter.for_backend(arr, backend)


def _without_converter(arr: Any, backend: str) -> Any:
    import scipy.sparse  # noqa: PLC0415

    name = backend.rsplit(".", 1)[-1]
    if backend in _SCIPY:
        return getattr(scipy.sparse, name)(to_dense(arr))
    if backend in _PYDATA:
        import sparse  # noqa: PLC0415

        return getattr(sparse, name).from_numpy(to_dense(arr))
    if backend == "numpy.matrix":
        return np.asmatrix(to_dense(arr))
    raise UDFError(
        f"backend {backend!r} needs the package sparseconverter: pip install 'framefold[backends]'"
    )


def forbuf(arr: Any, target: Any) -> Any:
    """Convert `arr` so that it can be written to `target`: same backend, same shape."""
    converted = for_backend(arr, backend_of(target))
    return converted.reshape(target.shape) if converted.shape != target.shape else converted


def choose_backend(source_backend: str, wanted: tuple[str, ...], allowed: Sequence[str] | None) -> str:
    """Return the backend for a UDF: that of the source if it takes it, sparse stays sparse, else its first.

    A device is used where `allowed` names it before numpy (and there is one), or where the UDF takes nothing
    else.

    Raises
    ------
    UDFError
        If `allowed` and `wanted` have nothing in common.
    """
    usable = [b for b in wanted if allowed is None or b in allowed]
    if not usable:
        raise UDFError(
            f"the UDF takes the backends {', '.join(wanted)}, the run allows "
            f"{', '.join(sorted(allowed or ()))}: no overlap"
        )
    if allowed is not None:
        first = min(usable, key=list(allowed).index)
        if first in Backends.CUDA_BACKENDS and has_device():
            return first
    cpu = [b for b in usable if b in Backends.CPU_BACKENDS]
    if not cpu:
        if has_device():
            return usable[0]
        raise UDFError(f"the UDF takes only {', '.join(usable)}: {MISSING}")
    if source_backend in cpu:
        return source_backend
    if source_backend in Backends.SPARSE_BACKENDS:
        sparse_first = [b for b in cpu if b in Backends.SPARSE_BACKENDS]
        if sparse_first:
            return sparse_first[0]
    return cpu[0]
