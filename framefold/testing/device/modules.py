"""The submodules of the stand-in: ``fft``, ``linalg``, ``random``, ``cuda``; ``scipy`` for ``cupyx``."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix, issparse

from framefold.testing.device.array import ndarray, wrapped
from framefold.testing.device.functions import lookup
from framefold.testing.device.traffic import OutOfMemoryError, traffic

_DRAWS = (
    "beta", "binomial", "chisquare", "exponential", "gamma", "geometric", "integers", "poisson", "power",
    "random", "standard_exponential", "standard_gamma", "standard_normal", "uniform",
)  # fmt: skip


class Module:
    """A submodule of CuPy by its name and that of its model."""

    def __init__(self, theirs: str, ours: str) -> None:
        self._theirs, self._ours = theirs, ours

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lookup(self._theirs, importlib.import_module(self._ours), name)


class Generator:
    """A random generator that draws on the device."""

    def __init__(self, seed: Any = None) -> None:
        self._rng = np.random.default_rng(seed)

    def __getattr__(self, name: str) -> Any:
        if name not in _DRAWS:
            raise AttributeError(f"'cupy.random.Generator' has no attribute {name!r}")
        draw = getattr(self._rng, name)
        return lambda *args, **kwargs: wrapped(np.asarray(draw(*args, **kwargs)))


class _Null:
    """The stream on which everything runs."""

    def synchronize(self) -> None:
        """Wait until the device has done its work."""
        traffic.waited()


class CsrMatrix:
    """A sparse matrix, of device arrays (data, indices, indptr) or of SciPy, that multiplies dense ones."""

    __array_ufunc__ = None  # dense @ sparse comes to __rmatmul__, as in CuPy
    _kind: Any = staticmethod(csr_matrix)

    def __init__(self, given: Any, shape: tuple[int, int] | None = None) -> None:
        if issparse(given):
            self._matrix = self._kind(given)
            traffic.copied_in(self._matrix.data.nbytes)
        elif all(isinstance(part, ndarray) for part in given):
            self._matrix = self._kind(tuple(part._host for part in given), shape=shape)
        else:
            raise TypeError(f"Unsupported types {[type(part) for part in given]}")
        if self._matrix.dtype.char not in "?fdFD":
            raise ValueError("Only bool, float32, float64, complex64 and complex128 are supported")
        self.shape, self.dtype = self._matrix.shape, self._matrix.dtype

    def __matmul__(self, dense: Any) -> ndarray:
        return ndarray(self._matrix @ self._checked(dense))

    def __rmatmul__(self, dense: Any) -> ndarray:
        return ndarray(self._checked(dense) @ self._matrix)

    def _checked(self, dense: Any) -> Any:
        if not isinstance(dense, ndarray):
            raise TypeError(f"unsupported type {type(dense)}")
        return dense._host


class CscMatrix(CsrMatrix):
    """The same, in compressed columns."""

    _kind: Any = staticmethod(csc_matrix)


fft = Module("cupy.fft", "numpy.fft")
linalg = Module("cupy.linalg", "numpy.linalg")
scipy = SimpleNamespace(
    fft=Module("cupyx.scipy.fft", "scipy.fft"),
    ndimage=Module("cupyx.scipy.ndimage", "scipy.ndimage"),
    special=Module("cupyx.scipy.special", "scipy.special"),
    sparse=SimpleNamespace(csr_matrix=CsrMatrix, csc_matrix=CscMatrix),
)
random = SimpleNamespace(default_rng=Generator, Generator=Generator)
cuda = SimpleNamespace(
    runtime=SimpleNamespace(getDeviceCount=lambda: 1),
    memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    Stream=SimpleNamespace(null=_Null()),
)
