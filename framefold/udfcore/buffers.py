"""Declarations of result buffers, and the arrays and views behind them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError, UnknownBufferError, did_you_mean

Array = npt.NDArray[Any]
Kind = Literal["nav", "sig", "single"]
KINDS: tuple[str, ...] = ("nav", "sig", "single")
USES: tuple[str | None, ...] = (None, "private", "result_only")
REDUCTIONS: tuple[str | None, ...] = (None, "sum", "max", "min", "mean", "last")


@dataclass(frozen=True)
class BufferDecl:
    """What `UDF.buffer` returns: the declaration of one result buffer.

    Attributes
    ----------
    kind
        ``"nav"``: one entry per frame; ``"sig"``: one per detector pixel; ``"single"``: one in all.
    extra_shape
        Axes of each entry.
    dtype
        Of the array; ``"wide"`` in a declaration is replaced by an accumulator type by `resolve`.
    where
        None or ``"device"``.
    use
        None, ``"private"`` (hidden from the user) or ``"result_only"`` (made by `get_results`).
    reduce
        How the buffer merges itself, or None.
    large
        Stays on the worker and travels as deltas. Snapshots of a run share a copy, which is read-only.
    fill
        Start value, or None for zero or the identity of `reduce`.
    """

    kind: str
    extra_shape: tuple[int, ...] = ()
    dtype: Any = "float32"
    where: str | None = None
    use: str | None = None
    reduce: str | None = None
    large: bool = False
    fill: Any = None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("kind", self.kind, KINDS),
            ("where", self.where, (None, "device")),
            ("use", self.use, USES),
            ("reduce", self.reduce, REDUCTIONS),
        ):
            if value not in allowed:
                raise UDFError(f"buffer {name}={value!r} is not one of {', '.join(map(repr, allowed))}")
        extra = self.extra_shape
        extra = (int(extra),) if isinstance(extra, (int, np.integer)) else tuple(int(n) for n in extra)
        if any(n < 0 for n in extra):
            raise UDFError(f"buffer extra_shape {extra} has a negative extent")
        object.__setattr__(self, "extra_shape", extra)
        if self.dtype != "wide":
            try:
                object.__setattr__(self, "dtype", np.dtype(self.dtype))
            except TypeError as exc:
                raise UDFError(f"buffer dtype {self.dtype!r} is not a numpy dtype or 'wide'") from exc

    def resolve(self, input_dtype: npt.DTypeLike) -> BufferDecl:
        """Return the declaration with ``dtype="wide"`` replaced by the accumulator of `input_dtype`."""
        decl = self
        if isinstance(decl.dtype, str):
            decl = replace(decl, dtype=wide(input_dtype))
        if decl.reduce == "mean" and decl.dtype.kind not in "fc":
            raise UDFError(f'reduce="mean" needs a float or complex buffer, not {decl.dtype}')
        return decl

    def shape(self, rows: int, sig: tuple[int, ...]) -> tuple[int, ...]:
        """Return the array shape for `rows` frames of signal shape `sig`."""
        if self.kind == "nav":
            return (rows, *self.extra_shape)
        if self.kind == "sig":
            return (*sig, *self.extra_shape)
        return self.extra_shape or (1,)

    def nbytes(self, rows: int, sig: tuple[int, ...]) -> int:
        """Return the size in bytes for `rows` frames."""
        return math.prod(self.shape(rows, sig)) * int(self.dtype.itemsize)

    @property
    def start(self) -> Any:
        """The value that the buffer holds before anything is folded."""
        if self.fill is not None:
            return self.fill
        if self.reduce in ("max", "min"):
            return _extreme(self.dtype, lowest=self.reduce == "max")
        return 0

    def allocate(self, rows: int, sig: tuple[int, ...], xp: Any = np) -> Any:
        """Return a new array of namespace `xp` that holds the start value everywhere."""
        start = self.start
        shape = self.shape(rows, sig)
        if self.dtype.kind in "Mm" or (isinstance(start, (int, float)) and start == 0):
            return xp.zeros(shape, dtype=self.dtype)
        return xp.full(shape, start, dtype=self.dtype)


def wide(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return the dtype in which sums of `dtype` neither overflow nor round.

    bool, unsigned -> uint64; signed -> int64; float -> float64; complex -> complex128.
    """
    dt = np.dtype(dtype)
    table = {"b": "uint64", "u": "uint64", "i": "int64", "f": "float64", "c": "complex128"}
    if dt.kind not in table:
        raise UDFError(f'dtype="wide" is not defined for input of dtype {dt}')
    return np.result_type(dt, table[dt.kind]) if dt.itemsize > 8 else np.dtype(table[dt.kind])


def _extreme(dtype: np.dtype[Any], lowest: bool) -> Any:
    if dtype.kind == "b":
        return not lowest
    if dtype.kind in "ui":
        info = np.iinfo(dtype)
        return info.min if lowest else info.max
    if dtype.kind == "f":
        return -np.inf if lowest else np.inf
    raise UDFError(f'reduce="max" and "min" are not defined for dtype {dtype}')


class BoundBuffer:
    """A declaration with the array that is bound to it at the moment (`ResultViews.get_buffer`)."""

    def __init__(self, decl: BufferDecl, data: Array) -> None:
        self.decl = decl
        self.data = data

    @property
    def raw_data(self) -> Array:
        """The same array; nav entries flat and ROI-compressed."""
        return self.data

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.data.shape

    def __getattr__(self, name: str) -> Any:
        if name in BufferDecl.__dataclass_fields__:
            return getattr(self.decl, name)
        raise AttributeError(name)


class ResultViews:
    """``self.results`` in a UDF: one view per declared buffer, rebound for each unit of work.

    Assignment writes into the buffer: ``self.results.x = v`` means ``self.results.x[...] = v``.
    """

    __slots__ = ("__dict__", "_decls", "_where")

    _decls: Mapping[str, BufferDecl]
    _where: str

    def __init__(self, decls: Mapping[str, BufferDecl], where: str) -> None:
        object.__setattr__(self, "_decls", decls)
        object.__setattr__(self, "_where", where)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        declared = ", ".join(self._decls)
        raise UnknownBufferError(
            f"{self._where}: no result buffer {name!r}; declared: {declared}."
            f"{did_you_mean(name, self._decls)}"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        view = getattr(self, name)
        if view is value:  # augmented assignment already worked in place
            return
        if view is None:
            raise UDFError(
                f"{self._where}: buffer {name!r} is result_only; return it from get_results instead"
            )
        view[...] = value

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def get_buffer(self, name: str) -> BoundBuffer:
        """Return declaration and array of a buffer."""
        return BoundBuffer(self._decls[name], getattr(self, name))

    def keys(self) -> Iterable[str]:
        """Return the names of all buffers."""
        return self._decls.keys()

    def items(self) -> Iterable[tuple[str, Any]]:
        """Return pairs of name and view."""
        return [(k, self.__dict__[k]) for k in self._decls]

    def __contains__(self, name: object) -> bool:
        return name in self._decls

    def __iter__(self) -> Iterator[str]:
        return iter(self._decls)

    def __len__(self) -> int:
        return len(self._decls)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_views, (type(self), self._decls, self._where, dict(self.__dict__)))


def _views(cls: type[ResultViews], decls: Any, where: str, arrays: dict[str, Array]) -> ResultViews:
    """Make views anew: what copies and pickles of them are made of."""
    views = cls.__new__(cls)
    object.__setattr__(views, "_decls", decls)
    object.__setattr__(views, "_where", where)
    views.__dict__.update(arrays)
    return views


class MergeView(ResultViews):
    """``dest`` and ``src`` of `UDF.merge`: arrays by attribute or by item."""

    __slots__ = ()

    def __init__(self, decls: Mapping[str, BufferDecl], arrays: Mapping[str, Array], where: str) -> None:
        super().__init__({k: decls[k] for k in arrays}, where)
        self.__dict__.update(arrays)
