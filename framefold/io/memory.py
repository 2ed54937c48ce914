"""Sources from arrays in memory: numpy without a copy, scipy and pydata sparse arrays."""

from __future__ import annotations

import time
import uuid
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.counter import ReadCounter
from framefold.io.output import check_tile, output_for
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import ReadStats
from framefold.udfcore.tile import TileSlice


class ArraySource:
    """Frames of a numpy array: views, no copy. Pickles with its data.

    Parameters
    ----------
    data
        Navigation axes first. Kept as it is if its frames can be numbered without a copy, which is so for
        C-contiguous arrays and for slices along the first axis.
    sig_dims
        How many of the last axes are signal.
    metadata, identity
        Of the source; an identity of its own if not given.
    """

    is_view = True
    valid = None

    def __init__(
        self,
        data: npt.NDArray[Any],
        sig_dims: int = 2,
        *,
        metadata: Metadata | None = None,
        identity: str | None = None,
    ) -> None:
        require_numbers(data.dtype, "the array")
        self.shape = nav_sig(data.shape, sig_dims)
        native = data.astype(data.dtype.newbyteorder("="), copy=False)
        # a view where the strides allow it
        self._flat = native.reshape((self.shape.nav.size, *self.shape.sig)).view()
        self._flat.flags.writeable = False
        self.dtype = native.dtype
        self.metadata = metadata or Metadata()
        self.identity = identity or f"memory:{data.dtype}:{data.shape}:{uuid.uuid4().hex}"
        self.natural_chunks = (1,) * max(0, sig_dims) + tuple(self.shape.sig)[-1:]
        self._counter = ReadCounter("memory")

    def read(self, tile: TileSlice, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return a read-only view; see `Source.read`."""
        check_tile(tile, len(self._flat), self._flat.shape[1:], "the array")
        part = self._flat[(slice(tile.start, tile.stop), *tile.sig)]
        self._counter.add(part.nbytes)
        return part

    def stats(self) -> ReadStats:
        """Return what was read so far in this process."""
        return self._counter.stats()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_array, (
            self._flat.reshape(tuple(self.shape)), self.shape.sig.dims, self.metadata, self.identity
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<ArraySource {self.shape} {self.dtype}>"


def _rebuild_array(data: npt.NDArray[Any], sig_dims: int, metadata: Metadata, identity: str) -> ArraySource:
    return ArraySource(data, sig_dims, metadata=metadata, identity=identity)


class SparseSource:
    """Frames of a sparse array, kept as rows: ``read`` without `out` gives ``sparse.COO`` tiles.

    Parameters
    ----------
    data
        scipy sparse matrix or array of shape ``(frames, pixels)``, or pydata array with any number of axes.
    sig_shape
        Signal shape; None: the last `sig_dims` axes.
    sig_dims
        How many of the last axes are signal; a matrix of scipy has one.
    """

    is_view = False
    valid = None
    backend = "sparse.COO"

    def __init__(
        self, data: Any, *, sig_dims: int | None = None, sig_shape: tuple[int, ...] | None = None
    ) -> None:
        shape, rows = _as_rows(data, sig_dims, sig_shape)
        self._fill(shape, rows, f"memory:{type(data).__name__}:{data.dtype}:{shape}:{uuid.uuid4().hex}")

    def _fill(self, shape: Shape, rows: Any, identity: str) -> None:
        self.shape, self._rows, self.identity = shape, rows, identity
        self.dtype: np.dtype[Any] = rows.dtype
        self.metadata = Metadata()
        self.natural_chunks = (1, *shape.sig)
        self._counter = ReadCounter("memory")

    def read(self, tile: TileSlice, out: npt.NDArray[Any] | None = None) -> Any:
        """Return the values of `tile`: dense in `out` if it is given, else a ``sparse.COO`` array."""
        sig = tuple(self.shape.sig)
        check_tile(tile, self._rows.shape[0], sig, "the sparse array")
        began = time.perf_counter()
        part = self._rows[tile.start : tile.stop].tocoo()
        frame, *pixel = (part.row, *np.unravel_index(part.col, sig))
        inside = np.ones(len(frame), dtype=bool)
        for axis, s in zip(pixel, tile.sig, strict=True):
            inside &= (axis >= s.start) & (axis < s.stop)
        where = [frame[inside], *(a[inside] - s.start for a, s in zip(pixel, tile.sig, strict=True))]
        values = part.data[inside]
        if out is not None:
            out = output_for(tile, self.dtype, out, "the sparse array")
            out[...] = 0
            out[tuple(where)] = values
            result: Any = out
        else:
            import sparse  # noqa: PLC0415  # loads numba; only sparse data need it

            result = sparse.COO(np.stack(where), values, shape=tile.shape, has_duplicates=False)
        self._counter.add(values.nbytes, time.perf_counter() - began)
        return result

    def stats(self) -> ReadStats:
        """Return what was read so far in this process; bytes of the stored values."""
        return self._counter.stats()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_sparse, (self.shape, self._rows, self.identity)

    def __repr__(self) -> str:
        return f"<SparseSource {self.shape} {self.dtype}, {self._rows.nnz} values>"


def _rebuild_sparse(shape: Shape, rows: Any, identity: str) -> SparseSource:
    source = SparseSource.__new__(SparseSource)
    source._fill(shape, rows, identity)
    return source


def require_numbers(dtype: np.dtype[Any], what: str) -> None:
    """Refuse dtypes that are not numbers.

    Raises
    ------
    DataError
        For objects, strings, records and dates.
    """
    if dtype.kind not in "biufc":
        raise DataError(
            f"{what} has dtype {dtype}: frames are bool, integer, floating point or complex numbers"
        )


def nav_sig(shape: tuple[int, ...], sig_dims: int) -> Shape:
    """Return a shape of an array with its last `sig_dims` axes as signal.

    Raises
    ------
    DataError
        If there are not that many, or it is empty.
    """
    if not 0 < sig_dims <= len(shape):
        raise DataError(
            f"an array of shape {tuple(shape)} cannot have {sig_dims} signal axes: give sig_dims= between 1 "
            f"and {len(shape)}"
        )
    if 0 in shape:
        raise DataError(f"an array of shape {tuple(shape)} holds no frame")
    return Shape(shape, sig_dims=sig_dims)


def _as_rows(data: Any, sig_dims: int | None, sig_shape: tuple[int, ...] | None) -> tuple[Shape, Any]:
    """Return shape and CSR rows ``(frames, pixels)`` of a sparse array."""
    import scipy.sparse  # noqa: PLC0415  # only sparse data need it

    require_numbers(data.dtype, "the sparse array")
    is_matrix: bool = scipy.sparse.issparse(data)
    if is_matrix:
        if data.ndim != 2:
            raise DataError(f"a scipy sparse array must be (frames, pixels), got the shape {data.shape}")
        frames, pixels = data.shape
        sig = (pixels,) if sig_shape is None else tuple(sig_shape)
        if int(np.prod(sig)) != pixels or (sig_dims is not None and sig_dims != len(sig)):
            raise DataError(
                f"a sparse matrix with {pixels} columns cannot have frames of shape {sig}"
                + (f" and sig_dims={sig_dims}" if sig_dims is not None else "")
            )
        rows = data.tocsr().copy()
        rows.sum_duplicates()
        return nav_sig((frames, *sig), len(sig)), rows
    if data.fill_value != 0:
        raise DataError(f"sparse data must have the fill value 0, got {data.fill_value}")
    if sig_shape is not None:
        sig_dims = len(sig_shape)
    shape = nav_sig(data.shape, 2 if sig_dims is None else sig_dims)
    if sig_shape is not None and tuple(shape.sig) != tuple(sig_shape):
        raise DataError(
            f"the array has frames of shape {tuple(shape.sig)}, sig_shape={sig_shape} was asked for"
        )
    flat = data.reshape((shape.nav.size, shape.sig.size))
    return shape, flat.tocsr() if hasattr(flat, "tocsr") else flat.asformat("coo").tocsr()
