"""Shapes split into navigation and signal axes, and rectangular slices of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from framefold.errors import DataError


class Shape:
    """The shape of a dataset: navigation (scan) axes first, then signal (detector) axes.

    Parameters
    ----------
    shape
        All extents, navigation first.
    sig_dims
        How many of the last axes are signal axes.

    Examples
    --------
    >>> s = Shape((16, 8, 256, 128), sig_dims=2)
    >>> tuple(s.nav), tuple(s.sig), s.nav.size
    ((16, 8), (256, 128), 128)
    """

    __slots__ = ("_shape", "_sig_dims")

    def __init__(self, shape: Sequence[int], sig_dims: int) -> None:
        self._shape = tuple(int(s) for s in shape)
        self._sig_dims = int(sig_dims)
        if not 0 <= self._sig_dims <= len(self._shape):
            raise DataError(f"sig_dims={sig_dims} does not fit the shape {self._shape}")

    @property
    def nav(self) -> Shape:
        """The navigation part, a shape without signal axes."""
        return Shape(self._shape[: len(self._shape) - self._sig_dims], sig_dims=0)

    @property
    def sig(self) -> Shape:
        """The signal part."""
        return Shape(self._shape[len(self._shape) - self._sig_dims :], sig_dims=self._sig_dims)

    def to_tuple(self) -> tuple[int, ...]:
        """Return all extents."""
        return self._shape

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self._shape)

    @property
    def dims(self) -> int:
        """Number of axes."""
        return len(self._shape)

    @property
    def nav_dims(self) -> int:
        """Number of navigation axes."""
        return len(self._shape) - self._sig_dims

    @property
    def sig_dims(self) -> int:
        """Number of signal axes."""
        return self._sig_dims

    def flatten_nav(self) -> Shape:
        """Return the same shape with all navigation axes joined into one."""
        return Shape((self.nav.size, *self.sig), sig_dims=self._sig_dims)

    def flatten_sig(self) -> Shape:
        """Return the same shape with all signal axes joined into one."""
        return Shape((*self.nav, self.sig.size), sig_dims=1)

    def __iter__(self) -> Iterator[int]:
        return iter(self._shape)

    def __len__(self) -> int:
        return len(self._shape)

    def __getitem__(self, key: Any) -> Any:
        return self._shape[key]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Shape):
            return self._shape == other._shape and self._sig_dims == other._sig_dims
        if isinstance(other, (tuple, list)):
            return self._shape == tuple(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self._shape, self._sig_dims))

    def __add__(self, other: object) -> Shape:
        """Append axes: signal axes if there are any, else navigation axes."""
        if not isinstance(other, (Shape, tuple, list)):
            return NotImplemented
        if isinstance(other, Shape):
            return Shape((*self, *other), sig_dims=self._sig_dims + other._sig_dims)
        return Shape((*self, *other), sig_dims=self._sig_dims + len(other) if self._sig_dims else 0)

    def __radd__(self, other: object) -> Shape:
        """Prepend axes: navigation axes, unless the shape has signal axes only."""
        if not isinstance(other, (tuple, list)):
            return NotImplemented
        return Shape((*other, *self), sig_dims=self._sig_dims)

    def __repr__(self) -> str:
        return f"({', '.join(map(str, self.nav))} | {', '.join(map(str, self.sig))})"


class Slice:
    """A rectangular part of a dataset: `origin` and `shape`, immutable and hashable."""

    __slots__ = ("origin", "shape")

    origin: tuple[int, ...]
    shape: Shape

    def __init__(self, origin: Sequence[int], shape: Shape) -> None:
        if not isinstance(shape, Shape):
            raise DataError(f"Slice needs a Shape, got {type(shape).__name__}")
        if len(origin) != len(shape):
            raise DataError(f"origin {tuple(origin)} and shape {shape} differ in their number of axes")
        object.__setattr__(self, "origin", tuple(int(o) for o in origin))
        object.__setattr__(self, "shape", shape)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"Slice is immutable: cannot set {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return (Slice, (self.origin, self.shape))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slice) and self.origin == other.origin and self.shape == other.shape

    def __hash__(self) -> int:
        return hash((self.origin, self.shape))

    def __repr__(self) -> str:
        return f"<Slice origin={self.origin!r} shape={self.shape!r}>"

    @classmethod
    def from_shape(cls, shape: Sequence[int], sig_dims: int) -> Slice:
        """Return the slice that covers all of `shape`."""
        return cls((0,) * len(shape), Shape(shape, sig_dims=sig_dims))

    @property
    def nav(self) -> Slice:
        """The navigation part."""
        return Slice(self.origin[: self.shape.nav_dims], self.shape.nav)

    @property
    def sig(self) -> Slice:
        """The signal part."""
        return Slice(self.origin[self.shape.nav_dims :], self.shape.sig)

    def is_null(self) -> bool:
        """Tell whether the slice holds no element."""
        return any(s == 0 for s in self.shape)

    def get(self, arr: Any = None, sig_only: bool = False, nav_only: bool = False) -> Any:
        """Return python slices, or the part of `arr` that they select.

        `arr` has the axes of the whole slice, with `sig_only` any leading axes and the signal
        axes, with `nav_only` the navigation axes first.
        """
        part = self.sig if sig_only else self.nav if nav_only else self
        slices = tuple(slice(o, o + s) for o, s in zip(part.origin, part.shape, strict=True))
        if arr is None:
            return slices
        return arr[(Ellipsis, *slices)] if sig_only else arr[slices]

    def _compatible(self, other: Slice) -> None:
        if len(self.shape) != len(other.shape) or self.shape.sig_dims != other.shape.sig_dims:
            raise DataError(f"slices of different dimensionality: {self} and {other}")

    def intersection_with(self, other: Slice) -> Slice:
        """Return the common part; empty extents where there is none."""
        self._compatible(other)
        origin = tuple(max(a, b) for a, b in zip(self.origin, other.origin, strict=True))
        ends = (
            min(a + n, b + m)
            for a, n, b, m in zip(self.origin, self.shape, other.origin, other.shape, strict=True)
        )
        extents = tuple(max(0, e - o) for e, o in zip(ends, origin, strict=True))
        return Slice(origin, Shape(extents, sig_dims=self.shape.sig_dims))

    def shift(self, other: Slice) -> Slice:
        """Return this slice in coordinates relative to the origin of `other`."""
        self._compatible(other)
        return Slice(tuple(a - b for a, b in zip(self.origin, other.origin, strict=True)), self.shape)

    def shift_by(self, offset: Sequence[int]) -> Slice:
        """Return this slice moved by `offset` (one number per axis)."""
        if len(offset) != len(self.origin):
            raise DataError(
                f"offset {tuple(offset)} has {len(offset)} entries, the slice {len(self.origin)} axes"
            )
        return Slice(tuple(int(a + b) for a, b in zip(self.origin, offset, strict=True)), self.shape)

    def discard_nav(self) -> Slice:
        """Return a copy with origin and shape zeroed in the navigation axes (a key for sig parts)."""
        n = self.shape.nav_dims
        return Slice((0,) * n + self.origin[n:], Shape((0,) * n + tuple(self.shape.sig), self.shape.sig_dims))

    def clip_to(self, shape: Shape) -> Slice:
        """Return the part of this slice that lies inside `shape`."""
        return self.intersection_with(Slice((0,) * len(shape), shape))

    def subslices(self, shape: Sequence[int]) -> Iterator[Slice]:
        """Yield parts of at most `shape`, last axis fastest, clipped at the end of this slice."""
        if len(shape) != len(self.shape):
            raise DataError(f"shape {tuple(shape)} does not have the {len(self.shape)} axes of the slice")
        counts = [-(-n // s) if s else 0 for n, s in zip(self.shape, shape, strict=True)]
        for index in np.ndindex(*counts):
            origin = tuple(o + i * s for o, i, s in zip(self.origin, index, shape, strict=True))
            extent = tuple(
                min(s, o0 + n - o) for s, o0, n, o in zip(shape, self.origin, self.shape, origin, strict=True)
            )
            yield Slice(origin, Shape(extent, sig_dims=self.shape.sig_dims))

    def flatten_nav(self, containing_shape: Sequence[int]) -> Slice:
        """Return the slice in flat navigation coordinates of `containing_shape` (all axes).

        Raises
        ------
        DataError
            If the navigation part is not contiguous in the flattened navigation space.
        """
        n = self.shape.nav_dims
        nav_shape = tuple(containing_shape)[:n]
        extent = tuple(self.shape.nav)
        leading = next((i for i, s in enumerate(extent) if s != 1), n)
        if any(s != full for s, full in zip(extent[leading + 1 :], nav_shape[leading + 1 :], strict=True)):
            raise DataError(f"{self} is not contiguous in the navigation shape {nav_shape}")
        start = int(np.ravel_multi_index(self.origin[:n], nav_shape)) if n and self.shape.nav.size else 0
        return Slice(
            (start, *self.origin[n:]),
            Shape((math.prod(extent), *self.shape.sig), sig_dims=self.shape.sig_dims),
        )

    def adjust_for_roi(self, roi: np.ndarray | None) -> Slice:
        """Return the slice in ROI-compressed coordinates; its nav part must be flat."""
        if roi is None:
            return self
        if self.shape.nav_dims != 1:
            raise DataError("adjust_for_roi needs a slice with flat navigation coordinates")
        flat = np.asarray(roi).reshape(-1)
        start = self.origin[0]
        before = int(np.count_nonzero(flat[:start]))
        inside = int(np.count_nonzero(flat[start : start + self.shape[0]]))
        return Slice(
            (before, *self.origin[1:]), Shape((inside, *self.shape.sig), sig_dims=self.shape.sig_dims)
        )
