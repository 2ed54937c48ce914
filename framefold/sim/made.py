"""Sources whose frames are made when they are read."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.io.counter import ReadCounter
from framefold.io.output import check_tile, output_for
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import ReadStats
from framefold.udfcore.tile import TileSlice

Array = npt.NDArray[Any]


class Made(ABC):
    """The part of `framefold.udfcore.source.Source` that is the same for all synthetic data."""

    dtype: np.dtype[Any]
    counter: ReadCounter
    what = "the synthetic data"

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """Navigation and signal shape."""

    @abstractmethod
    def frames(self, start: int, stop: int, out: Array | None = None) -> Array:
        """Make frames ``start .. stop`` (flat index), ``(n, *sig)``."""

    @property
    def natural_chunks(self) -> tuple[int, ...]:
        """Whole frames: a part of one costs as much."""
        return (1, *self.shape.sig)

    @property
    def is_view(self) -> bool:
        """False: frames are made when read."""
        return False

    @property
    def valid(self) -> None:
        """All frames are there."""
        return None

    def read(self, tile: TileSlice, out: Array | None = None) -> Array:
        """Return a tile."""
        sig = tuple(self.shape.sig)
        check_tile(tile, self.shape.nav.size, sig, self.what)
        out = output_for(tile, self.dtype, out, self.what)
        began = time.perf_counter()
        if tile.shape[1:] == sig and out.flags.c_contiguous:
            self.frames(tile.start, tile.stop, out=out)
        else:
            out[...] = self.frames(tile.start, tile.stop)[(slice(None), *tile.sig)]
        self.counter.add(out.nbytes, time.perf_counter() - began)
        return out

    def stats(self) -> ReadStats:
        """Return what was made so far in this process."""
        return self.counter.stats()
