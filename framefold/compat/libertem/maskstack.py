"""`MaskContainer`: masks made late from factories, cut to parts of the signal and cached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.compat.libertem.arrays import is_sparse, to_dense, to_sparse
from framefold.udfcore.namespace import device_namespace, scipy_of
from framefold.udfcore.shapes import Slice
from framefold.udfcore.tiling import TilingScheme

_SPARSE = ("scipy.sparse", "scipy.sparse.csr", "scipy.sparse.csc", "sparse.pydata", "sparse.pydata.GCXS")


class MaskContainer:
    """A stack of masks.

    Parameters
    ----------
    mask_factories
        A function that returns a stack, or functions that return one mask each.
    dtype
        Of the masks; None: as they are made.
    use_sparse
        None: sparse if all masks are. True, False, or the name of a kind of sparse matrix.
    count
        Number of masks, where it should be known without making them.
    backend
        ``"numpy"`` or a cupy backend.
    default_sparse
        The kind that True and None stand for.
    """

    def __init__(
        self,
        mask_factories: Callable[[], Any] | Sequence[Callable[[], Any]],
        dtype: npt.DTypeLike | None = None,
        use_sparse: bool | str | None = None,
        count: int | None = None,
        backend: str | None = None,
        default_sparse: str = "scipy.sparse",
    ) -> None:
        if not (use_sparse is None or isinstance(use_sparse, bool) or use_sparse in _SPARSE):
            raise ValueError(
                f"use_sparse={use_sparse!r} is not None, True, False or one of {', '.join(_SPARSE)}"
            )
        self.mask_factories = mask_factories
        self.backend = backend or "numpy"
        self._dtype = dtype
        self._count = count
        self._wanted = default_sparse if use_sparse is True else use_sparse
        self._default_sparse = default_sparse
        if (
            use_sparse is None
            and default_sparse.startswith("sparse.pydata")
            and self.backend.startswith("cup")
        ):
            self._wanted = False  # pydata sparse knows no cupy
        self._stack: Any = None
        self._cache: dict[Any, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    @property
    def computed_masks(self) -> Any:
        """All masks as one stack, numpy or ``sparse.COO``; made when first asked for."""
        if self._stack is None:
            self._stack = self._make()
        return self._stack

    def _make(self) -> Any:
        if callable(self.mask_factories):
            parts = [self.mask_factories()]
        else:
            made = [f() for f in self.mask_factories]
            # scipy matrices have two axes only, so they cannot become a stack of one
            made = [to_sparse(m) if is_sparse(m) else np.asarray(m) for m in made]
            parts = [m.reshape((1, *m.shape)) for m in made]
        if self._wanted is False or (self._wanted is None and not all(is_sparse(p) for p in parts)):
            return np.concatenate([to_dense(p) for p in parts])
        import sparse  # noqa: PLC0415  # slow to import

        return sparse.concatenate([to_sparse(p) for p in parts])

    @property
    def use_sparse(self) -> str | bool:
        """The kind of sparse matrix in use, or False."""
        if self._wanted is None:
            self._wanted = self._default_sparse if is_sparse(self.computed_masks) else False
        return self._wanted

    @property
    def dtype(self) -> Any:
        """dtype of the masks."""
        return self.computed_masks.dtype if self._dtype is None else self._dtype

    def __len__(self) -> int:
        if self._count is not None:
            return self._count
        return len(self.computed_masks) if callable(self.mask_factories) else len(self.mask_factories)

    def get(self, key: Slice, dtype: Any = None, sparse_backend: Any = None, transpose: bool = True,
            backend: str | None = None) -> Any:  # fmt: skip
        """Return the masks of the signal part of `key`, as a matrix ``(pixels, masks)``."""
        if not isinstance(key, Slice):
            raise TypeError(f"MaskContainer.get takes a Slice, not {type(key).__name__}")
        return self.get_masks_for_slice(key.discard_nav(), dtype, sparse_backend, transpose, backend)

    def get_for_idx(self, scheme: TilingScheme, idx: int, *args: Any, **kwargs: Any) -> Any:
        """Return the masks of one part of a tiling scheme."""
        return self.get_masks_for_slice(scheme[idx], *args, **kwargs)

    def get_for_sig_slice(self, sig_slice: Slice, *args: Any, **kwargs: Any) -> Any:
        """Return the masks of a part of the signal axes."""
        return self.get_masks_for_slice(sig_slice, *args, **kwargs)

    def get_masks_for_slice(
        self, slice_: Slice, dtype: Any = None, sparse_backend: Any = None, transpose: bool = True,
        backend: str | None = None,
    ) -> Any:  # fmt: skip
        """Return the masks of a slice, ``(pixels, masks)``; the other way round without `transpose`."""
        dtype = np.dtype(self.dtype if dtype is None else dtype)
        kind = self.use_sparse if sparse_backend is None else sparse_backend
        backend = self.backend if backend is None else backend
        key = (slice_, dtype, kind, transpose, backend)
        if key not in self._cache:
            m = slice_.get(self.computed_masks, sig_only=True).reshape((len(self.computed_masks), -1))
            self._cache[key] = _matrix(m.T if transpose else m, dtype, kind, backend)
        return self._cache[key]


def _matrix(m: Any, dtype: np.dtype[Any], kind: Any, backend: str) -> Any:
    if kind is False:
        dense = np.ascontiguousarray(to_dense(m).astype(dtype))
        if backend.startswith("cup"):
            return device_namespace().asarray(dense)
        return dense
    coo = to_sparse(m).astype(dtype)
    if kind == "sparse.pydata":
        return coo
    if kind == "sparse.pydata.GCXS":
        return coo.asformat("gcxs")
    matrix = coo.to_scipy_sparse()
    matrix = matrix.tocsc() if kind == "scipy.sparse.csc" else matrix.tocsr()
    import scipy.sparse  # noqa: PLC0415  # slow to import

    plain = scipy.sparse.csc_matrix(matrix) if kind == "scipy.sparse.csc" else scipy.sparse.csr_matrix(matrix)
    if backend.startswith("cup"):
        return getattr(scipy_of(device_namespace(), "sparse"), type(plain).__name__)(plain)
    return plain
