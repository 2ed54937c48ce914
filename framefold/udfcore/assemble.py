"""Pieces of frames put together to whole frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.live import SectorSpec

Array = npt.NDArray[Any]


def assemble(data: Sequence[Array], sectors: Sequence[SectorSpec], frames: Any, out: Array) -> None:
    """Write whole frames to `out`.

    Parameters
    ----------
    data
        Per sector ``(pieces, frames, *piece)``.
    sectors
        Where the pieces belong.
    frames
        Which frames: a slice, or indices.
    out
        ``(n, *sig)``; what no piece covers is left as it is.
    """
    for pieces, sector in zip(data, sectors, strict=True):
        for index in range(len(sector.pieces)):
            out[(slice(None), *sector.piece_slices(index))] = pieces[index][frames]


def missing_pixels(
    valid: Sequence[npt.NDArray[np.bool_]], sectors: Sequence[SectorSpec], sig: tuple[int, ...]
) -> npt.NDArray[np.bool_]:
    """Return ``(n, *sig)`` flags: pixels whose piece did not arrive; `valid` per sector ``(n, pieces)``."""
    out = np.zeros((len(valid[0]), *sig), dtype=bool)
    for flags, sector in zip(valid, sectors, strict=True):
        for frame, piece in np.argwhere(~flags).tolist():
            out[frame][sector.piece_slices(piece)] = True
    return out


def coverage(
    counts: npt.NDArray[Any], sectors: Sequence[SectorSpec], sig: tuple[int, ...]
) -> npt.NDArray[Any]:
    """Return counts per piece, in the order of the sectors, as counts per pixel."""
    out = np.zeros(sig, dtype=counts.dtype)
    at = 0
    for sector in sectors:
        for piece in range(len(sector.pieces)):
            out[sector.piece_slices(piece)] = counts[at]
            at += 1
    return out
