"""A partition under LiberTEM's interface: a range of frames that hands out its own tiles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from framefold.compat.libertem.arrays import is_sparse
from framefold.compat.libertem.shapes import Shape, Slice
from framefold.compat.libertem.tiles import DataTile, TilingScheme
from framefold.udfcore.backend import for_backend
from framefold.udfcore.tile import TileSlice

if TYPE_CHECKING:
    from framefold.compat.libertem.dataset import DataSet

Flags = npt.NDArray[np.bool_]


class Partition:
    """Frames ``[start, stop)`` of a dataset."""

    def __init__(self, dataset: DataSet, start: int, stop: int) -> None:
        self._dataset = dataset
        self._start_frame, self._num_frames = start + dataset.meta.sync_offset, stop - start
        sig = dataset.shape.sig
        self.slice = Slice((start, *(0,) * sig.dims), Shape((stop - start, *sig), sig_dims=sig.dims))
        self.meta = dataset.meta

    @property
    def shape(self) -> Shape:
        """Frames and signal shape."""
        return Shape.of(self.slice.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of the raw frames."""
        return self.meta.dtype

    def get_locations(self) -> None:
        """Return None: any worker will do."""

    def get_frame_count(self, roi: Flags | None = None) -> int:
        """Return the number of frames inside `roi`."""
        start, n = self.slice.origin[0], self.slice.shape[0]
        return n if roi is None else int(np.count_nonzero(np.reshape(roi, -1)[start : start + n]))

    def get_tiles(
        self, tiling_scheme: Any = None, dest_dtype: npt.DTypeLike = "float32", roi: Flags | None = None,
        array_backend: str | None = None,
    ) -> Iterator[DataTile]:  # fmt: skip
        """Yield the tiles of the partition; navigation coordinates are flat and ROI-compressed."""
        ds = self._dataset
        if ds.tileshape is not None:
            tiling_scheme = TilingScheme.make_for_shape(ds.tileshape, ds.shape)
        if tiling_scheme is None:
            tiling_scheme = self._whole()
        yield from self._tiles(tiling_scheme, dest_dtype, roi, array_backend)

    def _whole(self) -> TilingScheme:
        return TilingScheme.make_for_shape(self.shape.to_tuple(), self._dataset.shape)

    def _tiles(
        self, scheme: Any, dest_dtype: npt.DTypeLike, roi: Flags | None, array_backend: str | None
    ) -> Iterator[DataTile]:
        ds = self._dataset
        start, n = self.slice.origin[0], self.slice.shape[0]
        ids = np.arange(start, start + n)
        first = start
        if roi is not None:
            flat = np.asarray(roi, dtype=bool).reshape(-1)
            ids = ids[flat[start : start + n]]
            first = int(np.count_nonzero(flat[:start]))
        rows = np.arange(first, first + len(ids))
        if ds.engine.valid is not None:
            have = ds.engine.valid[ids]
            ids, rows = ids[have], rows[have]
        for a in range(0, len(ids), scheme.depth):
            some, where = ids[a : a + scheme.depth], int(rows[a])
            for index, part in scheme.slices:
                data = self._read(some + ds.meta.sync_offset, part.get(), dest_dtype, array_backend)
                shape = Shape((len(some), *part.shape), sig_dims=part.shape.dims)
                yield DataTile(data, Slice((where, *part.origin), shape), index)

    def _read(self, ids: Any, sig: Any, dtype: npt.DTypeLike, backend: str | None) -> Any:
        runs = np.split(ids, np.flatnonzero(np.diff(ids) != 1) + 1)
        source = self._dataset.engine.source
        pieces = [source.read(TileSlice(int(r[0]), int(r[-1]) + 1, sig), None) for r in runs]
        if is_sparse(pieces[0]):
            import sparse  # noqa: PLC0415  # slow to import

            data = sparse.concatenate(pieces).astype(dtype)
        else:
            data = np.ascontiguousarray(np.concatenate(pieces), dtype=dtype)
        return data if backend is None else for_backend(data, backend)

    def get_macrotile(
        self,
        dest_dtype: npt.DTypeLike = "float32",
        roi: Flags | None = None,
        array_backend: str | None = None,
    ) -> DataTile:
        """Return the whole partition as one tile."""
        tiles = list(self._tiles(self._whole(), dest_dtype, roi, array_backend))
        if tiles:
            return tiles[0]
        shape = Shape((0, *self.slice.shape.sig), sig_dims=self.slice.shape.sig.dims)
        return DataTile(np.zeros(shape.to_tuple(), dtype=dest_dtype), Slice(self.slice.origin, shape), 0)

    def __repr__(self) -> str:
        return f"<Partition [{self._start_frame}:{self._start_frame + self._num_frames}]>"
