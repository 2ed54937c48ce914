"""The ways to say which pixels are bad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError


@dataclass(frozen=True)
class BadPixels:
    """Pixels as the user named them: a mask of the frame's shape, or coordinates ``(n, axes)``."""

    data: npt.NDArray[Any]
    shape: tuple[int, ...] | None = None  # of the frame, where coordinates came with it

    @classmethod
    def of(cls, given: Any) -> BadPixels:
        """Read any of the accepted forms."""
        if isinstance(given, BadPixels):
            return given
        if hasattr(given, "nnz") and hasattr(given, "shape"):  # scipy and pydata sparse
            coo = given.tocoo() if hasattr(given, "tocoo") else given
            axes = coo.coords if hasattr(coo, "coords") else (coo.row, coo.col)
            keep = np.asarray(coo.data) != 0
            coords = np.stack([np.asarray(a)[keep] for a in axes], axis=1).astype(np.int64)
            return cls(coords, tuple(given.shape))
        data = np.array(given)
        if data.size == 0 and not isinstance(given, np.ndarray):
            data = np.zeros((0, 0), np.int64)
        if data.dtype.kind not in "bui":
            raise DataError(
                f"excluded_pixels of dtype {data.dtype}: give a bool array, an integer mask or coordinates"
            )
        if data.dtype.kind != "b" and not isinstance(given, np.ndarray):  # a list of coordinates
            data = data.astype(np.int64)
            data = data.reshape(-1, 1) if data.ndim == 1 else data
        data.flags.writeable = False
        return cls(data, None if isinstance(given, np.ndarray) or data.dtype.kind == "b" else ())

    def mask(self, sig: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        """Return the pixels as a bool array of shape `sig`."""
        if self.shape is None and self.data.shape == sig:
            return self.data != 0
        is_list = self.shape is not None or (self.data.dtype.kind != "b" and self.data.ndim == 2)
        if self.shape not in (None, (), sig) or not is_list:
            raise DataError(
                f"excluded_pixels has shape {self.shape or self.data.shape}, the frames have {sig}"
            )
        if self.data.size == 0:
            return np.zeros(sig, np.bool_)
        coords = self.data
        if coords.ndim != 2 or coords.shape[1] != len(sig):
            raise DataError(
                f"excluded_pixels of shape {coords.shape} is neither a mask of frames of shape {sig} nor a "
                f"list of coordinates with {len(sig)} entries each"
            )
        outside = ((coords < 0) | (coords >= np.array(sig))).any(axis=1)
        if outside.any():
            raise DataError(
                f"excluded pixel {tuple(coords[outside][0].tolist())} lies outside frames of shape {sig}"
            )
        out = np.zeros(sig, np.bool_)
        out[tuple(coords.T)] = True
        return out
