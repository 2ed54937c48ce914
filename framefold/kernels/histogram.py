"""Counts of pixel values: exact for short integers, in bins for everything else."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.kernels.formula import or_formula
from framefold.kernels.rows import as_rows
from framefold.kernels.unit_stride import contiguous


def has_value_counts(dtype: npt.DTypeLike) -> bool:
    """Tell whether every value of `dtype` can have its own counter: bool and integers of up to 16 bits."""
    dt = np.dtype(dtype)
    return dt.kind in "bui" and dt.itemsize <= 2


def possible_values(dtype: npt.DTypeLike) -> npt.NDArray[np.int64]:
    """Return all values of a short integer `dtype` in ascending order."""
    dt = np.dtype(dtype)
    if dt.kind == "b":
        return np.arange(2)
    info = np.iinfo(dt)
    return np.arange(info.min, info.max + 1)


def count_values_reference(tile: npt.NDArray[Any], counts: npt.NDArray[np.int64]) -> None:
    """Do what `count_values` does, by numpy."""
    low = int(possible_values(tile.dtype)[0])
    counts += np.bincount(tile.reshape(-1).astype(np.int64) - low, minlength=len(counts))


@or_formula(count_values_reference)
def count_values(tile: npt.NDArray[Any], counts: npt.NDArray[np.int64]) -> None:
    """Add how often each of `possible_values` occurs in `tile` to `counts`, int64."""
    values = len(possible_values(tile.dtype))
    if counts.shape != (values,) or counts.dtype != np.int64:
        raise DataError(f"{tile.dtype} needs {values} int64 counters, not {counts.dtype} {counts.shape}")
    rows = as_rows(tile)
    if rows.dtype.kind == "b":
        rows = as_rows(rows.view(np.uint8))
    low = -(2 ** (8 * rows.itemsize - 1)) if rows.dtype.kind == "i" else 0
    _count_values(rows, low, counts)


def count_bins_reference(
    tile: npt.NDArray[Any], edges: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]
) -> None:
    """Do what `count_bins` does, by numpy."""
    values, n = tile.reshape(-1).astype(np.float64), len(counts)
    place = np.searchsorted(edges, values, side="right") - 1
    place = np.where(values == edges[-1], n - 1, place)  # the last bin is closed
    inside = (values >= edges[0]) & (values <= edges[-1])  # no NaN
    counts += np.bincount(np.where(inside, place, n), minlength=n + 1)[:n]


@or_formula(count_bins_reference)
def count_bins(tile: npt.NDArray[Any], edges: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]) -> None:
    """Add how many pixels of `tile` lie in each bin to `counts`, int64, one shorter than `edges`.

    Bins are ``[edges[k], edges[k + 1])``, the last one closed, as in `numpy.histogram`; values outside and
    NaN are not counted. Edges ascend; where they are evenly spaced the bin is computed, otherwise searched.
    """
    if counts.shape != (len(edges) - 1,):
        raise DataError(f"{len(edges)} edges need {len(edges) - 1} counters, not {counts.shape}")
    if tile.dtype.kind not in "buif":
        raise DataError(f"a histogram needs bool, integer or float data, not {tile.dtype}")
    rows = as_rows(tile)
    if rows.dtype.kind == "b":
        rows = as_rows(rows.view(np.uint8))
    elif rows.dtype == np.float16:
        rows = as_rows(rows.astype(np.float32))
    steps = np.diff(edges)
    even = bool(np.allclose(steps, steps[0], rtol=1e-6)) if steps[0] > 0 else False
    _count_bins(rows, edges, counts, len(steps) / (edges[-1] - edges[0]) if even else 0.0)


@numba.njit(nogil=True, cache=True)
def _count_values(rows, low, counts):  # type: ignore[no-untyped-def]
    # two tables: neighbouring pixels are often equal, and an increment of the same counter has to wait
    other = np.zeros_like(counts)
    depth, pixels = rows.shape
    for i in range(depth):
        row = contiguous(rows[i])
        for j in range(0, pixels - 1, 2):
            counts[np.int64(row[j]) - low] += 1
            other[np.int64(row[j + 1]) - low] += 1
        if pixels % 2:
            counts[np.int64(row[pixels - 1]) - low] += 1
    for k in range(counts.size):
        counts[k] += other[k]


@numba.njit(nogil=True, cache=True)
def _count_bins(rows, edges, counts, scale):  # type: ignore[no-untyped-def]
    depth, pixels = rows.shape
    n = counts.size
    low = edges[0]
    high = edges[n]
    for i in range(depth):
        row = contiguous(rows[i])
        for j in range(pixels):
            x = np.float64(row[j])
            if not (x >= low and x <= high):  # NaN, too
                continue
            if scale > 0:
                k = min(n - 1, int((x - low) * scale))
                # rounding may be off by one; the edges decide
                while k > 0 and x < edges[k]:
                    k -= 1
                while k < n - 1 and x >= edges[k + 1]:
                    k += 1
            else:
                k = min(n - 1, np.searchsorted(edges, x, side="right") - 1)
            counts[k] += 1
