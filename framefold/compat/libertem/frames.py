"""Frames in an array or in a flat file, as a source that carries the shim to workers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from framefold.compat.libertem.arrays import is_sparse
from framefold.compat.libertem.install import ensure, job_flag
from framefold.udfcore import shapes as core
from framefold.udfcore.backend import Backends, for_backend
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.source import ReadStats
from framefold.udfcore.tile import TileSlice


class FrameArray:
    """A source of frames in an array or in a flat file; carries the shim to workers.

    Parameters
    ----------
    frames
        ``(n, *sig)``, dense or pydata sparse.
    sig
        Signal shape.
    backend
        Which array backend to announce; dense data become sparse when read.
    path, offset
        The file that `frames` maps, so that workers map it too instead of receiving it.
    """

    is_view = True
    metadata = Metadata()
    valid = None

    def __init__(
        self, frames: Any, sig: tuple[int, ...], backend: str, path: str | None = None, offset: int = 0
    ) -> None:
        self._frames = frames
        self._path = path
        self._offset = offset
        self.backend = backend
        self.shape = core.Shape((len(frames), *sig), sig_dims=len(sig))
        self.dtype = np.dtype(frames.dtype).newbyteorder("=")
        self.is_view = frames.dtype.isnative and backend == Backends.BACKEND_NUMPY
        self.natural_chunks = (1,) * (1 + len(sig))
        self.identity = f"{path or 'memory'} {tuple(self.shape)} {self.dtype}"

    @property
    def path(self) -> str | None:
        """The file, or None."""
        return self._path

    def read(self, tile: TileSlice, out: Any = None) -> Any:
        """Return the frames of `tile`."""
        part = self._frames[(slice(tile.start, tile.stop), *tile.sig)]
        if self.backend != Backends.BACKEND_NUMPY:
            return part if is_sparse(part) else for_backend(part, Backends.BACKEND_SPARSE_COO)
        if is_sparse(part):
            part = part.todense()
        if self.is_view or out is None:
            return part
        out[...] = part
        return out

    def stats(self) -> ReadStats:
        """Return nothing of interest: the memory is there."""
        return ReadStats(path="memory")

    def __reduce__(self) -> tuple[Any, ...]:
        sig = tuple(self.shape.sig)
        if self._path is None:
            frames = self._frames if is_sparse(self._frames) else np.asarray(self._frames)
            return (_again, (job_flag(), frames, sig, self.backend))
        return (_mapped, (job_flag(), self._path, self._frames.dtype, self._offset, sig, self.backend))


def _again(flag: Any, frames: Any, sig: tuple[int, ...], backend: str) -> FrameArray:
    ensure(flag)
    return FrameArray(frames, sig, backend)


def _mapped(
    flag: Any, path: str, dtype: np.dtype[Any], offset: int, sig: tuple[int, ...], backend: str
) -> FrameArray:
    ensure(flag)
    return FrameArray(map_frames(path, dtype, offset, sig), sig, backend, path, offset)


def map_frames(path: str, dtype: Any, offset: int, sig: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Map all whole frames of a flat file."""
    kind = np.dtype(dtype)
    raw = np.memmap(path, dtype=np.uint8, mode="r", offset=offset)
    n = len(raw) // (math.prod(sig) * kind.itemsize)
    return np.memmap(path, dtype=kind, mode="r", offset=offset, shape=(n, *sig))
