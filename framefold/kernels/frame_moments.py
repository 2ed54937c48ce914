"""Mean and variance within each frame."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.kernels.formula import flat_frames, or_formula
from framefold.kernels.rows import as_rows
from framefold.kernels.unit_stride import contiguous


def add_frame_moments_reference(
    tile: npt.NDArray[Any],
    n: npt.NDArray[np.int64],
    mean: npt.NDArray[np.float64],
    m2: npt.NDArray[np.float64],
) -> None:
    """Do what `add_frame_moments` does, by numpy."""
    x = flat_frames(tile).astype(np.float64)
    part, total = x.mean(axis=1), n + x.shape[1]
    delta = part - mean
    m2 += ((x - part[:, None]) ** 2).sum(axis=1) + delta**2 * n * x.shape[1] / total
    mean += delta * x.shape[1] / total
    n += x.shape[1]


@or_formula(add_frame_moments_reference)
def add_frame_moments(
    tile: npt.NDArray[Any],
    n: npt.NDArray[np.int64],
    mean: npt.NDArray[np.float64],
    m2: npt.NDArray[np.float64],
) -> None:
    """Merge the pixels of each frame of `tile`, ``(depth, *part)``, into count, mean and M2.

    M2 is the sum of squared deviations. In double precision, in two passes over the row (it is in cache),
    merged pairwise as in `framefold.kernels.stddev`. All outputs have shape ``(depth,)``.
    """
    if tile.dtype.kind not in "buif":
        raise DataError(f"moments of frames need bool, integer or float data, not {tile.dtype}")
    rows = as_rows(tile)
    if rows.dtype.kind == "b":
        rows = as_rows(rows.view(np.uint8))
    elif rows.dtype == np.float16:
        rows = as_rows(rows.astype(np.float32))
    if rows.size:
        _add(rows, n, mean, m2)


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "nsz"})
def _add(rows, n, mean, m2):  # type: ignore[no-untyped-def]
    depth, pixels = rows.shape
    for i in range(depth):
        row = contiguous(rows[i])
        s = 0.0
        for j in range(pixels):
            s += np.float64(row[j])
        part = s / pixels
        s2 = 0.0
        for j in range(pixels):
            d = np.float64(row[j]) - part
            s2 += d * d
        delta = part - mean[i]
        total = n[i] + pixels
        m2[i] += s2 + delta * delta * (n[i] * (pixels / total))
        mean[i] += delta * (pixels / total)
        n[i] = total
