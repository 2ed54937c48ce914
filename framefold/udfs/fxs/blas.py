"""Products of BLAS inside compiled code: no GIL, no copy, and the compiled code can be cached.

The addresses come from scipy. A pointer baked into the code would be stale in the next process, so each
routine is registered under a name, and compiled code refers to the name.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from numba import types
from numba.extending import get_cython_function_address

from framefold.errors import FramefoldError

# addresses of uplo, trans, n, k, alpha, a, lda, beta, c, ldc; or of transa, transb, m, n, k, alpha, a, lda,
# b, ldb, beta, c, ldc
ARGUMENTS = {"syrk": 10, "gemm": 13}


def _external(name: str) -> Any:
    symbol = f"framefold_{name}"
    llvmlite.binding.add_symbol(symbol, get_cython_function_address("scipy.linalg.cython_blas", name))
    return types.ExternalFunction(symbol, types.void(*(types.intp,) * ARGUMENTS[name[1:]]))


ssyrk, dsyrk, sgemm, dgemm = (_external(name) for name in ("ssyrk", "dsyrk", "sgemm", "dgemm"))


def self_check() -> None:
    """Compare one small product with numpy.

    Raises
    ------
    FramefoldError
        If the BLAS of scipy does not take 32-bit integers, or is broken.
    """
    from framefold.udfs.fxs.c2_kernels import fold_orders  # noqa: PLC0415  # it needs the routines above

    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    packed, sums = np.zeros((1, 6)), np.zeros((1, 3), np.complex128)
    fold_orders(x.reshape(-1), 2, 2, 3, 0, 1, packed, sums, np.zeros((3, 3), np.float32))
    expected = (x[0].T @ x[0])[np.tril_indices(3)]
    if not np.allclose(packed[0], expected):
        raise FramefoldError(
            f"scipy's BLAS gave {packed[0]} for {expected}: reinstall scipy (32-bit integers)"
        )
