"""LiberTEM's tiling scheme and data tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from framefold.compat.libertem.shapes import Shape, Slice
from framefold.udfcore import tiling


class TilingScheme(tiling.TilingScheme):
    """A tiling of the signal axes, made from the shape of a tile."""

    @classmethod
    def make_for_shape(
        cls, tileshape: Sequence[int], dataset_shape: Shape, intent: str | None = None, debug: Any = None
    ) -> TilingScheme:
        """Return the scheme that cuts frames of `dataset_shape` into parts of at most ``tileshape[1:]``."""
        depth, *part = (int(n) for n in tileshape)
        sig = tuple(dataset_shape.sig)
        slices = Slice.from_shape(sig, len(sig)).subslices(part)
        return cls(depth, tuple(s.get() for s in slices), sig)


class DataTile:
    """Frames with their place in the dataset.

    Parameters
    ----------
    data
        ``(depth, *sig part)``.
    tile_slice
        Flat navigation and signal coordinates.
    scheme_idx
        Index of the part in the tiling scheme.
    """

    def __init__(self, data: Any, tile_slice: Slice, scheme_idx: int) -> None:
        self.data: Any = data.data if isinstance(data, DataTile) else data
        self.tile_slice = tile_slice
        self.scheme_idx = scheme_idx
        if int(np.prod(self.data.shape)) != tile_slice.shape.size:
            raise ValueError(f"data of shape {self.data.shape} do not fill the tile {tile_slice}")

    @property
    def flat_data(self) -> Any:
        """One row per frame."""
        return self.data.reshape((self.tile_slice.shape.nav.size, -1))

    @property
    def shape(self) -> tuple[int, ...]:
        """``(depth, *sig part)``."""
        return tuple(self.tile_slice.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return self.tile_slice.shape.size

    @property
    def dtype(self) -> Any:
        """dtype of the data."""
        return self.data.dtype

    @property
    def c_contiguous(self) -> bool | None:
        """Whether the data are C-contiguous; None for sparse arrays."""
        flags = getattr(self.data, "flags", None)
        return None if flags is None else bool(flags.c_contiguous)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self.data, dtype=dtype) if copy else np.asarray(self.data, dtype=dtype)

    def __repr__(self) -> str:
        return f"<DataTile {self.tile_slice} scheme_idx={self.scheme_idx}>"
