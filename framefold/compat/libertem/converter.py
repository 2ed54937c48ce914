"""Stands in for the package ``sparseconverter`` where it is not installed; its real twin is better."""

from __future__ import annotations

from typing import Any

from framefold.udfcore.backend import Backends, backend_of
from framefold.udfcore.backend import for_backend as _for_backend

NUMPY = Backends.BACKEND_NUMPY
NUMPY_MATRIX = Backends.BACKEND_NUMPY_MATRIX
CUDA = Backends.BACKEND_CUDA
CUPY = Backends.BACKEND_CUPY
SPARSE_COO = Backends.BACKEND_SPARSE_COO
SPARSE_GCXS = Backends.BACKEND_SPARSE_GCXS
SPARSE_DOK = Backends.BACKEND_SPARSE_DOK
SCIPY_COO = Backends.BACKEND_SCIPY_COO
SCIPY_CSR = Backends.BACKEND_SCIPY_CSR
SCIPY_CSC = Backends.BACKEND_SCIPY_CSC
SCIPY_COO_ARRAY = Backends.BACKEND_SCIPY_COO_ARRAY
SCIPY_CSR_ARRAY = Backends.BACKEND_SCIPY_CSR_ARRAY
SCIPY_CSC_ARRAY = Backends.BACKEND_SCIPY_CSC_ARRAY
CUPY_SCIPY_COO = Backends.BACKEND_CUPY_SCIPY_COO
CUPY_SCIPY_CSR = Backends.BACKEND_CUPY_SCIPY_CSR
CUPY_SCIPY_CSC = Backends.BACKEND_CUPY_SCIPY_CSC

BACKENDS = frozenset(Backends.BACKEND_ALL)
CPU_BACKENDS = Backends.CPU_BACKENDS
CUDA_BACKENDS = Backends.CUDA_BACKENDS
CUPY_BACKENDS = Backends.CUPY_BACKENDS
SPARSE_BACKENDS = Backends.SPARSE_BACKENDS
DENSE_BACKENDS = Backends.DENSE_BACKENDS
ND_BACKENDS = Backends.ND_BACKENDS
D2_BACKENDS = Backends.D2_BACKENDS

ArrayBackend = str
ArrayT = Any


def get_backend(arr: Any) -> str:
    """Return the backend of an array."""
    return backend_of(arr)


def get_device_class(backend: str | None) -> str:
    """Return ``"cpu"`` or ``"cuda"``."""
    return "cuda" if backend in CUDA_BACKENDS else "cpu"


def for_backend(arr: Any, backend: str | None, strict: bool = True) -> Any:
    """Return `arr` in another backend."""
    return arr if backend is None else _for_backend(arr, backend)
