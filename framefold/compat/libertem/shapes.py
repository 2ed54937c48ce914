"""LiberTEM's `Shape` and `Slice`: framefold's with the few differences of behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from framefold.errors import DataError
from framefold.udfcore import shapes

SliceUsageError = DataError


class Shape(shapes.Shape):
    """Prints like a tuple; without axes its size is 0; a tuple from the left goes behind the scan axes."""

    __slots__ = ()

    @classmethod
    def of(cls, shape: shapes.Shape) -> Shape:
        """Return the same shape."""
        return shape if isinstance(shape, cls) else cls(shape.to_tuple(), shape.sig_dims)

    @property
    def nav(self) -> Shape:
        """The navigation part."""
        return Shape.of(super().nav)

    @property
    def sig(self) -> Shape:
        """The signal part."""
        return Shape.of(super().sig)

    def flatten_nav(self) -> Shape:
        """Return the same shape with all navigation axes joined into one."""
        return Shape.of(super().flatten_nav())

    def flatten_sig(self) -> Shape:
        """Return the same shape with all signal axes joined into one."""
        return Shape.of(super().flatten_sig())

    @property
    def size(self) -> int:
        """Number of elements."""
        return super().size if self.dims else 0

    def __add__(self, other: object) -> Shape:
        """Append signal axes."""
        if not isinstance(other, tuple):
            raise NotImplementedError(f"a Shape and a {type(other).__name__} cannot be added: give a tuple")
        return Shape((*self, *other), sig_dims=self.sig_dims + len(other))

    def __radd__(self, other: object) -> Shape:
        """Append navigation axes."""
        if not isinstance(other, tuple):
            return NotImplemented
        return Shape((*self.nav, *other, *self.sig), sig_dims=self.sig_dims)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (shapes.Shape, tuple, list)):
            raise NotImplementedError(f"a Shape cannot be compared with a {type(other).__name__}")
        return super().__eq__(other)

    __hash__ = shapes.Shape.__hash__

    def __repr__(self) -> str:
        return repr(self.to_tuple())


class Slice(shapes.Slice):
    """A slice whose parts are of LiberTEM's kind."""

    __slots__ = ()

    def __init__(self, origin: Sequence[int], shape: shapes.Shape) -> None:
        super().__init__(origin, Shape.of(shape) if isinstance(shape, shapes.Shape) else shape)

    @classmethod
    def of(cls, part: shapes.Slice) -> Slice:
        """Return the same slice."""
        return part if isinstance(part, cls) else cls(part.origin, part.shape)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Slice, (self.origin, self.shape))

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)

    __hash__ = shapes.Slice.__hash__


def _own(name: str) -> Any:
    """Return a method that returns what framefold's does, as a `Slice`."""
    original = getattr(shapes.Slice, name)
    if isinstance(original, property):
        getter: Any = original.fget
        return property(lambda self: Slice.of(getter(self)), doc=original.__doc__)

    def method(self: Slice, *args: Any, **kwargs: Any) -> Slice:
        return Slice.of(original(self, *args, **kwargs))

    method.__name__, method.__doc__ = name, original.__doc__
    return method


for _name in (
    "nav", "sig", "intersection_with", "shift", "shift_by", "discard_nav", "clip_to", "flatten_nav",
    "adjust_for_roi",
):  # fmt: skip
    setattr(Slice, _name, _own(_name))


def _subslices(self: Slice, shape: Sequence[int]) -> Any:
    """Yield parts of at most `shape`, last axis fastest, clipped at the end of this slice."""
    return (Slice.of(part) for part in shapes.Slice.subslices(self, shape))


Slice.subslices = _subslices  # type: ignore[assignment, method-assign]
