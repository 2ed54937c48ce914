"""LiberTEM's view of buffers: `BufferWrapper` with its masks, and the helpers beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.auxdata import AuxData
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.results import ResultBuffer
from framefold.udfcore.shapes import Shape

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]


class BufferWrapper:
    """A declared buffer, and once it has data, an array-like result with its valid mask.

    Parameters
    ----------
    kind, extra_shape, dtype, where, use
        As in ``UDF.buffer``.
    """

    def __init__(
        self,
        kind: str,
        extra_shape: Sequence[int] = (),
        dtype: npt.DTypeLike = "float32",
        where: str | None = None,
        use: str | None = None,
    ) -> None:
        self.declaration = BufferDecl(kind, tuple(extra_shape), dtype, where, use)
        self._data: Array | None = None
        self._ds_shape: Shape | None = None
        self._roi: Flags | None = None
        self._valid_mask: Flags | None = None
        self._full: Array | None = None  # where get_results gave values outside the ROI too

    @property
    def kind(self) -> str:
        """``"nav"``, ``"sig"`` or ``"single"``."""
        return self.declaration.kind

    @property
    def extra_shape(self) -> tuple[int, ...]:
        """Axes of each entry."""
        return self.declaration.extra_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Declared dtype."""
        return np.dtype(self.declaration.dtype)

    @property
    def where(self) -> str | None:
        """None or ``"device"``."""
        return self.declaration.where

    @property
    def use(self) -> str | None:
        """None, ``"private"`` or ``"result_only"``."""
        return self.declaration.use

    reduce = None

    # --- shape and data ----------------------------------------------------------------------

    def set_roi(self, roi: npt.ArrayLike | None) -> None:
        """Remember the region of interest, flat."""
        self._roi = None if roi is None else np.array(roi, dtype=bool).reshape(-1)

    def set_shape_ds(self, dataset_shape: Shape, roi: npt.ArrayLike | None = None) -> None:
        """Remember the shape of the dataset and the region of interest."""
        self._ds_shape = dataset_shape
        self.set_roi(roi)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of the raw data, or None while the dataset is unknown."""
        if self._ds_shape is None:
            return None if self._data is None else self._data.shape
        rows = self._ds_shape.nav.size if self._roi is None else int(np.count_nonzero(self._roi))
        return self.declaration.shape(rows, tuple(self._ds_shape.sig))

    def allocate(self, lib: Any = None) -> None:
        """Make zeroed raw data."""
        shape = self.shape
        if shape is None:
            raise RuntimeError("a buffer cannot be allocated before set_shape_ds")
        if self._data is not None:
            raise RuntimeError("the buffer already has data")
        zeros = lib.zeros if lib is not None and self.where == "device" else np.zeros
        self._data = zeros(shape, dtype=self.dtype)

    def has_data(self) -> bool:
        """Tell whether the buffer has data."""
        return self._data is not None

    @property
    def raw_data(self) -> Array | None:
        """Navigation entries flat and restricted to the region of interest, the others as they are."""
        return self._data

    @property
    def data(self) -> Array:
        """The data in the shape of the dataset; outside the ROI NaN, 0, False, '', NaT or None."""
        if self._data is None:
            raise ValueError("this buffer has no data")
        data = self._data
        if self._ds_shape is None:
            return data
        if self.kind != "nav":
            return data.reshape(self.declaration.shape(0, tuple(self._ds_shape.sig)))
        if self._full is not None:
            return self._full
        full = (*self._ds_shape.nav, *self.extra_shape)
        if self._roi is None or data.shape == full:
            return data.reshape(full)
        flat = np.full((self._roi.size, *self.extra_shape), _outside(self.dtype), dtype=self.dtype)
        flat[self._roi] = data.reshape((-1, *self.extra_shape))
        return flat.reshape(full)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.data, dtype=dtype) if copy else np.asarray(self.data, dtype=dtype)

    # --- validity ----------------------------------------------------------------------------

    def make_default_mask(
        self, valid_nav_mask: npt.ArrayLike, dataset_shape: Shape, roi: npt.ArrayLike | None = None
    ) -> Flags:
        """Return the raw mask without a word from the UDF: merged frames for nav, all True otherwise."""
        rows = dataset_shape.nav.size if roi is None else int(np.count_nonzero(roi))
        shape = self.declaration.shape(rows, tuple(dataset_shape.sig))
        if self.kind != "nav":
            return np.ones(shape, dtype=bool)
        flags = np.asarray(valid_nav_mask, dtype=bool).reshape((-1,) + (1,) * len(self.extra_shape))
        return np.broadcast_to(flags, shape).copy()

    @property
    def valid_mask(self) -> Flags:
        """Where `data` is valid, in its shape."""
        if self._valid_mask is None or self._ds_shape is None:
            raise RuntimeError("the buffer has no valid mask yet")
        mask = self._valid_mask
        if self.kind != "nav":
            return mask
        full = (*self._ds_shape.nav, *self.extra_shape)
        if self._roi is None:
            return mask.reshape(full)
        flat = np.zeros((self._roi.size, *self.extra_shape), dtype=bool)
        flat[self._roi] = mask.reshape((-1, *self.extra_shape))
        return flat.reshape(full)

    @valid_mask.setter
    def valid_mask(self, mask: Flags) -> None:
        self._valid_mask = mask

    @property
    def masked_data(self) -> np.ma.MaskedArray[Any, Any]:
        """`data` masked where it is not valid."""
        return np.ma.array(self.data, mask=~self.valid_mask)

    @property
    def raw_masked_data(self) -> np.ma.MaskedArray[Any, Any]:
        """`raw_data` masked where it is not valid."""
        mask = self._valid_mask
        if mask is None:
            raise RuntimeError("the buffer has no valid mask yet")
        return np.ma.array(self.raw_data, mask=~mask)

    @property
    def valid_slice_bounding(self) -> tuple[slice, ...]:
        """The smallest rectangle that holds all valid data."""
        return get_bbox_slice(self.valid_mask)

    def get_valid_slice_inner(self, axis: int = 0) -> tuple[slice, ...]:
        """Return the first run along `axis` of which everything is valid."""
        return get_inner_slice(self.valid_mask, axis=axis)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} kind={self.kind} dtype={self.dtype} extra_shape={self.extra_shape}>"


class PlaceholderBufferWrapper(BufferWrapper):
    """The declaration of a buffer that exists only in results."""


class AuxBufferWrapper(AuxData):
    """Auxiliary data under LiberTEM's name: declared first, then filled by `set_buffer`.

    ``UDF.aux_data`` does both; see `framefold.udfcore.auxdata.AuxData`.
    """

    def __init__(
        self, kind: str, extra_shape: Sequence[int] = (), dtype: npt.DTypeLike = "float32", data: Any = None
    ) -> None:
        given = np.zeros(0, dtype=dtype) if data is None else data
        super().__init__(given, kind, tuple(extra_shape), dtype)

    def set_buffer(self, buf: npt.ArrayLike) -> None:
        """Set the data."""
        AuxBufferWrapper.__init__(self, self.kind, self.extra_shape, self.dtype, buf)

    @property
    def raw_data(self) -> Array:
        """The data as ``(entries, *extra_shape)``."""
        extra = self.extra_shape
        return self.array.reshape((-1, *extra) if extra and extra != (1,) else (-1,))

    @property
    def data(self) -> Array:
        """The same as `raw_data`."""
        return self.raw_data

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `raw_data`."""
        return self.raw_data.shape

    def __reduce__(self) -> tuple[Any, ...]:
        return (AuxBufferWrapper, (self.kind, self.extra_shape, self.dtype, self.array))


def wrap_result(result: ResultBuffer) -> BufferWrapper:
    """Return a framefold result as a `BufferWrapper`."""
    d = result.declaration
    out = BufferWrapper(d.kind, d.extra_shape, d.dtype, d.where, d.use)
    out._data = _writable(result.raw_data)
    out._full = result._full
    out._ds_shape = result.dataset_shape
    out.set_roi(result.roi)
    out._valid_mask = result.raw_valid_mask
    return out


def wrap_flags(flags: Flags, dataset_shape: Shape, roi: Flags | None) -> BufferWrapper:
    """Return flags per frame, in navigation shape, as a navigation buffer that is valid everywhere."""
    out = BufferWrapper("nav", dtype=bool)
    out.set_shape_ds(dataset_shape, roi)
    out._data = flags.reshape(-1) if out._roi is None else flags.reshape(-1)[out._roi]
    out._valid_mask = np.ones(out._data.shape, dtype=bool)
    return out


def _writable(arr: Array) -> Array:
    """Return a view that may be written to where the memory allows it: LiberTEM's results may."""
    view = arr.view()
    try:
        view.flags.writeable = True
    except ValueError:
        return arr.copy()
    return view


def _outside(dtype: np.dtype[Any]) -> Any:
    if dtype.kind in "iuV":
        return np.zeros((), dtype=dtype)
    return "" if dtype.kind in "SU" else None


def reshaped_view(a: Array, shape: Any) -> Array:
    """Return a view of `a` with another shape.

    Raises
    ------
    AttributeError
        If that needs a copy.
    """
    reshaped = a.reshape(shape)
    if a.size and not np.may_share_memory(a, reshaped):
        raise AttributeError(
            f"an array of shape {a.shape} has no view of shape {shape}: it is not contiguous"
        )
    return reshaped


def get_inner_slice(arr: Array, axis: int = 0) -> tuple[slice, ...]:
    """Return the first run along `axis` where `arr` is nowhere zero, and everything along the others."""
    full = np.all(arr != 0, axis=tuple(i for i in range(arr.ndim) if i != axis))
    on = np.flatnonzero(full)
    if len(on):
        start = int(on[0])
        off = np.flatnonzero(~full[start:])
        run = slice(start, start + int(off[0]) if len(off) else len(full))
    else:
        run = slice(0, 0)
    return tuple(run if i == axis else slice(None) for i in range(arr.ndim))


def get_bbox(arr: Array) -> tuple[int, ...]:
    """Return first and last index of what is not zero along each axis: ``(y0, y1, x0, x1, ...)``."""
    found: list[int] = []
    on = np.abs(arr) > 1e-8 if arr.dtype.kind in "fc" else arr != 0
    for axis in range(arr.ndim):
        hit = np.flatnonzero(on.any(axis=tuple(i for i in range(arr.ndim) if i != axis)))
        found += [int(hit[0]), int(hit[-1])] if len(hit) else [arr.shape[axis], arr.shape[axis] - 1]
    return tuple(found)


def get_bbox_slice(arr: Array) -> tuple[slice, ...]:
    """Return the smallest rectangle that holds everything that is not zero."""
    box = get_bbox(arr)
    return tuple(slice(a, b + 1) for a, b in zip(box[::2], box[1::2], strict=True))


def zeros_aligned(size: Any, dtype: npt.DTypeLike) -> Array:
    """Return zeros that begin on a page."""
    return empty_aligned(size, dtype, zero=True)


def empty_aligned(size: Any, dtype: npt.DTypeLike, *, zero: bool = False) -> Array:
    """Return an array that begins on a page of 4 KiB."""
    shape = (int(size),) if np.ndim(size) == 0 else tuple(int(n) for n in size)
    kind = np.dtype(dtype)
    if kind.hasobject or not math.prod(shape):
        return np.zeros(shape, dtype=kind)
    raw = (np.zeros if zero else np.empty)(math.prod(shape) * kind.itemsize + 4096, dtype=np.uint8)
    start = -raw.ctypes.data % 4096
    return raw[start : start + math.prod(shape) * kind.itemsize].view(kind).reshape(shape)
