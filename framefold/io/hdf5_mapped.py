"""Contiguous, uncompressed datasets: views of the mapped file."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError


class MappedReader:
    """Reads a contiguous dataset through a memory map.

    Attributes
    ----------
    native
        Whether the stored values need no byte swap, so that views can be handed out.
    """

    path = "mmap"

    def __init__(
        self, file: str, key: str, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...], sig_dims: int
    ) -> None:
        self.file, self.key = file, key
        nav_dims = len(shape) - sig_dims
        self._flat = (math.prod(shape[:nav_dims]), *shape[nav_dims:])
        self._end = offset + math.prod(shape) * dtype.itemsize
        self._require_size()
        self._frames = np.memmap(file, dtype, "r", offset, self._flat).view(np.ndarray)
        self.native = dtype.isnative
        self.reason = "" if self.native else "big endian: bytes are swapped while copying"

    def view(self, start: int, stop: int, sig: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Return a read-only view of the frames, in the stored byte order."""
        # a file that shrank would kill the process with SIGBUS
        self._require_size()
        return self._frames[(slice(start, stop), *sig)]

    def read(self, start: int, stop: int, sig: tuple[slice, ...], out: npt.NDArray[Any]) -> None:
        """Fill `out` with the frames; see `FrameReader`."""
        out[...] = self.view(start, stop, sig)

    def _require_size(self) -> None:
        try:
            size = os.stat(self.file).st_size
        except OSError as exc:
            raise DataError(f"{self.file} vanished while it was read: {exc}") from exc
        if size < self._end:
            raise DataError(
                f"{self.file}, dataset {self.key} is truncated: the file has {size} bytes, "
                f"its pixels end at {self._end}"
            )
