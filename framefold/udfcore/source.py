"""The contract between the engine and whatever delivers frames.

A source says what it has and delivers raw tiles; ROI, corrections, dtype conversion, ``sync_offset``
and the scan shape are the engine's business, so that files and streams cannot differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from framefold.udfcore.metadata import Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.tile import TileSlice


@dataclass(frozen=True, slots=True)
class ReadStats:
    """What a source has read so far in this process, and by which path.

    Attributes
    ----------
    bytes_read
        Bytes delivered, in the native dtype.
    seconds
        Time inside `Source.read`, summed over threads; 0 for views.
    path
        Which path served, for instance ``"mmap"``, ``"decode"``, ``"direct"``, ``"h5py"``.
    reason
        Why the fastest path was not taken; empty if it was.
    """

    bytes_read: int = 0
    seconds: float = 0.0
    path: str = ""
    reason: str = ""


@runtime_checkable
class Source(Protocol):
    """Random access to raw frames.

    An implementation is opened lazily, pickles by path and parameters only (a worker re-opens), and
    its `read` may be called from several threads at once.

    Attributes
    ----------
    shape
        Navigation and signal shape as the file states them. Flat frame index = C order of nav.
    dtype
        Native byte order, as `read` delivers.
    metadata
        Calibration and context.
    natural_chunks
        ``(frames, *sig)`` extents that are cheap to read together: ``(1, *sig)`` for compressed whole
        frames, ``(1, 1, ..., width)`` for anything memory-mapped.
    identity
        Path, size, modification time, format and parameters, for provenance and caches.
    is_view
        True if `read` returns views of memory that already exists and ignores `out`.
    valid
        Bool ``(frames,)``, False where the file lacks the frame (truncated, missing link); None: all there.
        Frames that are not valid are never read.
    """

    @property
    def shape(self) -> Shape: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def metadata(self) -> Metadata: ...
    @property
    def natural_chunks(self) -> tuple[int, ...]: ...
    @property
    def identity(self) -> str: ...
    @property
    def is_view(self) -> bool: ...
    @property
    def valid(self) -> npt.NDArray[np.bool_] | None: ...

    def read(self, tile: TileSlice, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return the raw values of `tile`, shape ``tile.shape``, dtype `dtype`.

        Sources that must decode or copy write into `out` (C-contiguous, right shape and dtype) when it is
        given and return it; sources with `is_view` return a read-only view.

        Raises
        ------
        DataError
            Naming file, frames and cause, if the bytes cannot be had.
        """
        ...

    def stats(self) -> ReadStats:
        """Return what was read so far in this process."""
        ...


class Sink(Protocol):
    """Takes frames one block after the other: what exporters and detector emulators write to."""

    def write(self, start: int, frames: npt.NDArray[Any]) -> None:
        """Take `frames`, shape ``(n, *sig)``, as frames ``start .. start + n`` (flat nav index)."""
        ...

    def close(self) -> None:
        """Finish: everything written is durable afterwards."""
        ...
