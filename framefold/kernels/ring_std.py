"""Standard deviation of the pixels of a mask, frame by frame, in two passes over float64."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from framefold.kernels.flat import flat_tile
from framefold.kernels.mask_runs import MaskRuns

_FAST = {"reassoc", "contract", "nsz", "arcp"}


def ring_std(tile: npt.NDArray[Any], runs: MaskRuns) -> npt.NDArray[np.float64]:
    """Return the standard deviation (ddof 0) per frame over one mask; NaN if the mask is empty.

    Parameters
    ----------
    tile
        Real whole frames, ``(depth, rows, columns)``.
    runs
        One mask.
    """
    flat = flat_tile(tile)
    out = np.full(flat.depth, np.nan)
    if runs.pixels and tile.size:
        stride = tile.shape[-1] if flat.rows == 1 else flat.row_stride
        std_runs(flat.data, flat.frame_stride, runs.starts(stride), runs.length, out)
    return out


@numba.njit(nogil=True, cache=True, fastmath=_FAST)
def std_runs(data: Any, frame_stride: int, starts: Any, length: Any, out: Any) -> None:  # pragma: no cover
    """Write the standard deviation over the runs of each frame to `out`, float64 ``(depth,)``."""
    pixels = length.sum()
    for f in range(out.shape[0]):
        total = 0.0
        for i in range(starts.shape[0]):
            p = f * frame_stride + starts[i]
            for v in data[p : p + length[i]]:
                total += v
        mean = total / pixels
        square = 0.0
        for i in range(starts.shape[0]):
            p = f * frame_stride + starts[i]
            for v in data[p : p + length[i]]:
                square += (v - mean) * (v - mean)
        out[f] = math.sqrt(square / pixels)


def ring_std_reference(tile: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return what `ring_std` returns, for a bool mask of the frame."""
    return np.asarray(tile[:, mask].astype(np.float64).std(axis=1))
