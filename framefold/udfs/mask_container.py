"""Masks as users give them (arrays, sparse arrays, functions, stacks), made uniform once per process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.kernels.apply_masks import (
    Mask,
    PartMasks,
    apply_masks,
    apply_shifted,
    prepare_part,
    result_dtype,
    sum_dtype,
    work_dtype,
)
from framefold.udfcore.meta import UDFMeta
from framefold.udfcore.namespace import xp_of

# an array, a stack of arrays, a sparse array, a function that returns one of these, or a list of them
Masks: TypeAlias = Any


class MaskContainer:
    """The masks of a UDF, evaluated for a signal shape when they are first needed.

    Parameters
    ----------
    masks
        Arrays of the signal shape, stacks with one more axis in front, scipy or pydata sparse arrays,
        functions without arguments that return these, or a list of any of them.
    dtype
        Cast all masks to it; None: keep.
    count
        Number of masks, if it is to be known without evaluating functions; checked later.
    """

    def __init__(self, masks: Masks, dtype: npt.DTypeLike | None = None, count: int | None = None) -> None:
        if masks is None or (isinstance(masks, (list, tuple)) and not masks):
            raise UDFError("there are no masks: give an array, a function, or a list of them")
        self._given = masks
        self._dtype = None if dtype is None else np.dtype(dtype)
        self._count = count
        self._lock = threading.Lock()
        self._found: dict[tuple[int, ...], tuple[Mask, ...]] = {}

    def resolve(self, sig: Iterable[int]) -> tuple[Mask, ...]:
        """Return all masks for frames of shape `sig`; functions are called once.

        Raises
        ------
        UDFError
            If a mask has another shape, is not numeric, or their number is not `count`.
        """
        shape = tuple(int(n) for n in sig)
        with self._lock:
            if shape not in self._found:
                masks = tuple(_flatten(self._given, shape, self._dtype))
                if self._count is not None and len(masks) != self._count:
                    raise UDFError(f"mask_count={self._count}, but there are {len(masks)} masks")
                self._found[shape] = masks
            return self._found[shape]

    def count(self, sig: Iterable[int]) -> int:
        """Return the number of masks."""
        return len(self.resolve(sig)) if self._count is None else self._count

    def dtype(self, sig: Iterable[int]) -> np.dtype[Any]:
        """Return the joint dtype of all masks."""
        if self._dtype is not None:
            return self._dtype
        return np.result_type(*(m.dtype for m in self.resolve(sig)))

    def result_dtype(self, meta: UDFMeta) -> np.dtype[Any]:
        """Return the dtype of the sums as users see them."""
        return result_dtype(meta.input_dtype, self.dtype(meta.dataset_shape.sig))

    def sum_dtype(self, meta: UDFMeta) -> np.dtype[Any]:
        """Return the dtype to add parts of a frame in."""
        return sum_dtype(meta.input_dtype, self.dtype(meta.dataset_shape.sig))


class MaskEngine:
    """Applies the masks of a container to tiles; keeps what it prepared for each signal part."""

    def __init__(self, container: MaskContainer, sparse: bool | None = None, shifted: bool = False) -> None:
        self._container = container
        self._sparse = sparse
        self._shifted = shifted
        self._parts: dict[tuple[Any, ...], PartMasks] = {}
        self._on_device: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    def add(
        self,
        meta: UDFMeta,
        tile: npt.NDArray[Any],
        out: npt.NDArray[Any],
        shifts: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Add the sums over each mask to `out`, ``(depth, masks)``; masks move by `shifts` if given."""
        key = (meta.tiling_scheme_idx, tile.shape[1:], tile.dtype)
        if not isinstance(tile, np.ndarray):
            self._add_on_device(key, meta, tile, out)
            return
        part = self._parts.get(key)
        if part is None:
            masks = self._container.resolve(meta.dataset_shape.sig)
            where = meta.sig_slice.get()
            part = self._parts[key] = prepare_part(masks, where, tile.dtype, self._sparse, self._shifted)
        if shifts is None:
            apply_masks(part, tile, out)
        else:
            apply_shifted(part, tile, shifts, out)

    def _add_on_device(self, key: tuple[Any, ...], meta: UDFMeta, tile: Any, out: Any) -> None:
        """Multiply the pixels that some mask holds by all masks, exactly for integers."""
        found = self._on_device.get(key)
        if found is None:
            masks, where = self._container.resolve(meta.dataset_shape.sig), meta.sig_slice.get()
            stack = np.stack([m.array(where).reshape(-1) for m in masks])
            pixels = np.flatnonzero((stack != 0).any(axis=0))
            sums = sum_dtype(tile.dtype, stack.dtype)
            if sums.kind == "i":  # in double precision where that is exact: devices are slow with integers
                largest = float(np.abs(stack).max(initial=0))
                sums = np.result_type(
                    work_dtype(tile.dtype, stack.dtype, largest, stack.shape[1]), np.float64
                )
            xp = xp_of(tile)
            found = xp.asarray(pixels), xp.asarray(stack[:, pixels].T.astype(sums))
            self._on_device[key] = found
        pixels, weights = found
        product = tile.reshape(tile.shape[0], -1)[:, pixels].astype(weights.dtype) @ weights
        out += product.astype(out.dtype)


def _flatten(given: Masks, sig: tuple[int, ...], dtype: np.dtype[Any] | None) -> Iterator[Mask]:
    if isinstance(given, Callable):  # type: ignore[arg-type]  # typing does not know Callable as a class
        yield from _flatten(given(), sig, dtype)
    elif isinstance(given, np.ndarray):
        stack = given[None] if given.ndim == len(sig) else given
        _check(stack.shape[1:], stack.dtype, sig, given.shape)
        for mask in stack:
            yield Mask(sig, dense=np.asarray(mask, dtype=dtype))
    elif hasattr(given, "tocoo") or hasattr(given, "coords"):
        yield from _from_sparse(given, sig, dtype)
    elif isinstance(given, Iterable):
        for one in given:
            yield from _flatten(one, sig, dtype)
    else:
        raise UDFError(
            f"a mask is a {type(given).__name__}; masks are arrays, sparse arrays, functions that return "
            f"them, or lists of these"
        )


def _from_sparse(given: Any, sig: tuple[int, ...], dtype: np.dtype[Any] | None) -> Iterator[Mask]:
    coo = given.tocoo() if hasattr(given, "tocoo") else given
    if getattr(coo, "fill_value", 0) != 0:
        raise UDFError(f"a sparse mask has fill value {coo.fill_value}, expected 0")
    coords = np.stack([np.asarray(c, dtype=np.int64) for c in _coordinates(coo)])
    shape = tuple(int(n) for n in coo.shape)
    stack_shape = (1, *shape) if len(shape) == len(sig) else shape
    _check(stack_shape[1:], coo.data.dtype, sig, shape)
    if len(shape) == len(sig):
        coords = np.concatenate([np.zeros((1, coords.shape[1]), dtype=np.int64), coords])
    flat = np.ravel_multi_index(tuple(coords[1:]), sig)
    order = np.lexsort((flat, coords[0]))
    values = np.asarray(coo.data)[order].astype(dtype or coo.data.dtype)
    bounds = np.searchsorted(coords[0][order], np.arange(stack_shape[0] + 1))
    for a, b in zip(bounds[:-1], bounds[1:], strict=True):
        index, where = np.unique(flat[order][a:b], return_inverse=True)
        if len(index) == b - a:
            weights = values[a:b]
        else:  # COO may state a pixel twice: its weights add up
            weights = np.zeros(len(index), dtype=values.dtype)
            np.add.at(weights, where, values[a:b])
        yield Mask(sig, index=index.astype(np.int64), values=weights)


def _coordinates(coo: Any) -> Iterable[Any]:
    coords = getattr(coo, "coords", None)
    return (coo.row, coo.col) if coords is None else coords


def _check(shape: Iterable[int], dtype: np.dtype[Any], sig: tuple[int, ...], given: tuple[int, ...]) -> None:
    if tuple(shape) != sig:
        raise UDFError(f"a mask has shape {tuple(given)}, the frames have shape {sig}")
    if dtype.kind not in "biufc":
        raise UDFError(f"a mask has dtype {dtype}, expected bool or numbers")
