"""A source from anything that is indexed like an array: dask, zarr, a Fortran-ordered file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.counter import ReadCounter
from framefold.io.output import check_tile, output_for
from framefold.io.rectangles import flat_depth, rectangles
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import ReadStats
from framefold.udfcore.tile import TileSlice


class IndexedSource:
    """Frames of an array-like object that a function opens.

    Parameters
    ----------
    opener
        Picklable, without arguments; returns an object whose ``[slices]`` gives a numpy array.
    shape, dtype
        Of that object.
    chunks
        Extents that are cheap to read together, one per axis.
    read_path
        For `ReadStats`.
    path
        File or directory, empty for objects in memory.
    valid
        Bool per frame, flat; None: all are there.
    """

    is_view = False

    def __init__(
        self,
        opener: Callable[[], Any],
        shape: Shape,
        dtype: np.dtype[Any],
        chunks: tuple[int, ...],
        *,
        identity: str,
        read_path: str,
        path: str = "",
        metadata: Metadata | None = None,
        valid: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self._opener, self._array = opener, None
        self.shape, self.dtype = shape, dtype.newbyteorder("=")
        self.identity, self.path = identity, path
        self.metadata = metadata or Metadata()
        self.valid = valid
        self._chunks, self._read_path = chunks, read_path
        nav = tuple(shape.nav)
        sig = (min(c, n) for c, n in zip(chunks[len(nav) :], shape.sig, strict=True))
        self.natural_chunks = (flat_depth(chunks[: len(nav)], nav), *sig)
        lost = "" if valid is None else f"{int((~valid).sum())} of {valid.size} frames are missing"
        self._counter = ReadCounter(read_path, lost)

    def read(self, tile: TileSlice, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return the values of `tile`; see `Source.read`."""
        nav = tuple(self.shape.nav)
        check_tile(tile, math.prod(nav), tuple(self.shape.sig), self.path or self.identity)
        began = time.perf_counter()
        out = output_for(tile, self.dtype, out, self.path or self.identity)
        if self._array is None:
            self._array = self._opener()
        at = tile.start
        for rect in rectangles(tile.start, tile.stop, nav):
            n = math.prod(s.stop - s.start for s in rect)
            block = out[at - tile.start : at - tile.start + n]
            try:
                got = np.asarray(self._array[(*rect, *tile.sig)])  # type: ignore[index]  # opened above
            except (DataError, OSError):
                raise
            except Exception as exc:
                # whatever the library raises on damaged data, the user needs to know where
                name = self.path or self.identity
                raise DataError(f"{name}: cannot read frames {at}..{at + n - 1}: {exc}") from exc
            block[...] = got.reshape(block.shape)
            at += n
        self._counter.add(out.nbytes, time.perf_counter() - began)
        return out

    def stats(self) -> ReadStats:
        """Return what was read so far in this process."""
        return self._counter.stats()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (
            self._opener, self.shape, self.dtype, self._chunks, self.identity, self._read_path, self.path,
            self.metadata, self.valid,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<IndexedSource {self.path or self._read_path} {self.shape} {self.dtype}>"


def _rebuild(
    opener: Callable[[], Any], shape: Shape, dtype: np.dtype[Any], chunks: tuple[int, ...],
    identity: str, read_path: str, path: str, metadata: Metadata, valid: npt.NDArray[np.bool_] | None,
) -> IndexedSource:  # fmt: skip
    return IndexedSource(
        opener, shape, dtype, chunks, identity=identity, read_path=read_path, path=path, metadata=metadata,
        valid=valid,
    )  # fmt: skip
