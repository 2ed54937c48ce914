"""Checks of what `Source.read` is asked for, and the array it writes to."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfcore.tile import TileSlice


def output_for(
    tile: TileSlice, dtype: np.dtype[Any], out: npt.NDArray[Any] | None, name: str
) -> npt.NDArray[Any]:
    """Return `out` if it fits `tile`, a new array if it is None.

    Raises
    ------
    DataError
        If `out` has another shape, dtype or memory order.
    """
    if out is None:
        return np.empty(tile.shape, dtype)
    if out.shape != tile.shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise DataError(
            f"{name}: out must be C-contiguous, shape {tile.shape}, {dtype}; got {out.shape}, {out.dtype}"
        )
    return out


def check_tile(tile: TileSlice, frames: int, sig: tuple[int, ...], name: str) -> None:
    """Refuse frames or pixels that are not there.

    Raises
    ------
    DataError
        With the range that is allowed.
    """
    if not 0 <= tile.start <= tile.stop <= frames:
        raise DataError(f"{name} has frames 0..{frames - 1}, asked for {tile.start}..{tile.stop - 1}")
    fits = len(tile.sig) == len(sig)
    # a plain loop: this runs for every tile
    for s, n in zip(tile.sig, sig):  # noqa: B905  # of equal length, or refused anyway
        fits = fits and 0 <= s.start <= s.stop <= n
    if not fits:
        raise DataError(f"{name} has frames of shape {sig}, asked for the part {tile.sig}")
