"""Kernels that cut the surroundings of expected disks out of frames and correlate them with a template."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from framefold.udfs.blobfinder.kernels_simd import LANES, ROWS, weighted_rows

Array = npt.NDArray[Any]

SCALE_NONE, SCALE_SQRT, SCALE_LOG = range(3)

F0 = np.float32(0.0)
F1 = np.float32(1.0)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _fetch(frame: Array) -> float:  # pragma: no cover - compiled
    """Read one number of each 64 bytes in order, which brings them into the cache; return their sum."""
    step = 64 // frame.itemsize
    s = 0.0
    for y in range(frame.shape[0]):
        row = frame[y]
        for x in range(0, frame.shape[1], step):
            s += row[x]
    return s


@numba.njit(nogil=True, cache=True, error_model="numpy")
def gather_crops(
    tile: Array,
    y0: int,
    x0: int,
    plain: bool,
    good: Array,
    saturation: float,
    corners: Array,
    fresh: bool,
    out: Array,
) -> float:  # pragma: no cover - compiled
    """Copy what `tile` holds of each crop; NaN where a pixel is bad, infinite where it is saturated.

    What is returned means nothing: it keeps the first, fast reading of a frame from being left out.

    Parameters
    ----------
    tile
        ``(n, rows, columns)``, real, any dtype.
    y0, x0
        Where the tile begins in the frame.
    plain
        All pixels are good, and none counts as saturated.
    good
        Bool, the shape of the tile's signal part: pixels to use.
    saturation
        Pixels with this value or above count as bad.
    corners
        ``(n, m, 2)`` int32: first row and column of each crop in the frame; ``(1, m, 2)``: the same in all.
    out
        ``(n, m, L, L)`` float32; pixels that the tile does not hold become NaN where `fresh`, else they stay.
    """
    rows, cols = tile.shape[1], tile.shape[2]
    size = out.shape[2]
    fixed = corners.shape[0] == 1
    nan, full = np.float32(np.nan), np.float32(np.inf)
    # reading in order is thrice as fast as crop by crop, where the crops hold a good part of the frame
    dense = out.shape[1] * size * size * 5 > rows * cols
    s = 0.0
    for n in range(tile.shape[0]):
        if dense:
            s += _fetch(tile[n])
        for m in range(out.shape[1]):
            cy = corners[0 if fixed else n, m, 0] - y0
            cx = corners[0 if fixed else n, m, 1] - x0
            first, last = max(0, -cx), min(size, cols - cx)
            if fresh and (first > 0 or last < size or cy < 0 or cy + size > rows):
                out[n, m] = nan
            if last <= first:
                continue
            if plain and first == 0 and last == size and cy >= 0 and cy + size <= rows:
                for y in range(size):
                    source, target = tile[n, cy + y, cx : cx + size], out[n, m, y]
                    for x in range(size):
                        target[x] = np.float32(source[x])
                continue
            for y in range(max(0, -cy), min(size, rows - cy)):
                source = tile[n, cy + y, cx + first : cx + last]
                target = out[n, m, y, first:last]
                if plain:
                    for x in range(target.shape[0]):
                        target[x] = np.float32(source[x])
                else:
                    ok = good[cy + y, cx + first : cx + last]
                    for x in range(target.shape[0]):
                        v = np.float32(source[x]) if source[x] < saturation else full
                        target[x] = v if ok[x] else nan
    return s


@numba.njit(nogil=True, cache=True, error_model="numpy")
def split_bad(crop: Array, good: Array) -> tuple[int, int]:  # pragma: no cover - compiled
    """Write 1 to `good` where `crop` is finite, else 0, and replace the rest by the median.

    Returns how many pixels are not finite, and how many of them are infinite: saturated.
    """
    n = crop.size
    flat, keep = crop.reshape(-1), good.reshape(-1)
    fine = 0
    for i in range(n):
        finite = flat[i] - flat[i] == F0
        keep[i] = F1 if finite else F0
        fine += finite
    saturated = 0
    if fine < n:
        median = np.float32(np.median(flat[keep > F0])) if fine else F0
        for i in range(n):
            if keep[i] == F0:
                saturated += flat[i] == np.float32(np.inf)
                flat[i] = median
    return n - fine, saturated


@numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def scaled_sums(crop: Array, scaling: int, sums: Array, pitch: int) -> None:  # pragma: no cover - compiled
    """Write the running sums along y of the scaled crop ``(L, L)``: ``sums[y] = sum of scaled[:y]``.

    `sums` is flat, rows of ``pitch >= L`` numbers, at least L + 1 of them; the rest stays as it is.
    """
    size = crop.shape[0]
    for x in range(size):
        sums[x] = F0
    for y in range(size):
        row, above, here = crop[y], sums[y * pitch : y * pitch + size], sums[(y + 1) * pitch :]
        if scaling == SCALE_SQRT:
            for x in range(size):
                here[x] = above[x] + math.sqrt(max(row[x], F0))
        elif scaling == SCALE_LOG:
            for x in range(size):
                here[x] = above[x] + math.log(max(row[x], F0) + F1)
        else:
            for x in range(size):
                here[x] = above[x] + row[x]


@numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def correlate_taps(
    sums: Array, pitch: int, taps: Array, weights: Array, out: Array, width: int
) -> None:  # pragma: no cover - compiled
    """Correlate with a template whose differences along y are `weights` at `taps`.

    A template that is constant in pieces has few of them: a disk of radius 6 and its square 110 instead of
    361 pixels.

    Parameters
    ----------
    sums
        Running sums from `scaled_sums`, flat: rows of `pitch` numbers.
    taps
        ``(t,)`` int64, positions in `sums` for the first shift.
    weights
        ``(t,)`` float32.
    out
        Flat, whole blocks of `ROWS` rows of `width` numbers (whole blocks of `LANES`): the correlation.
    """
    for y in range(0, out.shape[0] // width, ROWS):
        for x in range(0, width, LANES):
            weighted_rows(sums, y * pitch + x, pitch, taps, weights, out, y * width + x, width)


def template_taps(
    template: npt.NDArray[np.float64], pitch: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return taps and weights of a template for `correlate_taps`; rows of sums hold `pitch` numbers.

    ``sum_y T[y] s[y] = sum_y (T[y - 1] - T[y]) S[y]`` with ``S[y] = sum of s[:y]`` and T zero outside.
    """
    padded = np.pad(template, ((1, 1), (0, 0)))
    steps = padded[:-1] - padded[1:]
    steps[np.abs(steps) < 1e-7 * np.abs(template).max()] = 0.0
    y, x = np.nonzero(steps)
    return (y * pitch + x).astype(np.int64), steps[y, x].astype(np.float32)


def map_width(shifts: int) -> int:
    """Return the row length of a correlation map of ``2 shifts + 1`` columns."""
    return -(-(2 * shifts + 1) // LANES) * LANES


def sums_pitch(size: int, shifts: int) -> int:
    """Return the row length of the running sums of crops of `size`: the last tap reads a whole map row."""
    return size + map_width(shifts)


def correlate_reference(
    scaled: npt.NDArray[np.float64], template: npt.NDArray[np.float64], shifts: int
) -> npt.NDArray[np.float64]:
    """Return the correlation at ``2 shifts + 1`` positions along both axes, by the definition."""
    n = len(template)
    out = np.empty((2 * shifts + 1, 2 * shifts + 1))
    for y in range(len(out)):
        for x in range(len(out)):
            out[y, x] = (template * scaled[y : y + n, x : x + n]).sum()
    return out


@numba.njit(nogil=True, cache=True, error_model="numpy")
def highest(
    corr: Array, width: int, shifts: int, search: float, radius: float, out: Array
) -> None:  # pragma: no cover - compiled
    """Find the highest value within `search` of the centre, ties to the nearest, and its sub-pixel top.

    Parameters
    ----------
    corr
        Correlation, flat: ``2 shifts + 1`` rows of `width` numbers, of which as many count.
    shifts
        Centre of the map.
    search
        px, at most `shifts`.
    radius
        Of the disk: for the prominence, which is the height above the best value further than that away.
    out
        ``(8,)`` float32: row and column relative to the centre, sub-pixel row and column from parabolas along
        both axes, height, prominence, second derivatives along y and x (negative at a maximum).
    """
    best, by, bx, near = np.float32(-np.inf), 0, 0, 1 << 30
    lowest = np.float32(np.inf)
    s2, r2 = search * search, radius * radius
    n = 2 * shifts + 1
    for y in range(n):
        d0 = (y - shifts) ** 2
        for x in range(n):
            v = corr[y * width + x]
            lowest = min(lowest, v)
            if v >= best:
                d = d0 + (x - shifts) ** 2
                inner = (y > 0) & (y < n - 1) & (x > 0) & (x < n - 1)
                if inner and d <= s2 and (v > best or d < near):
                    best, by, bx, near = v, y - shifts, x - shifts, d
    other = np.float32(-np.inf)
    for y in range(n):
        d0 = (y - shifts - by) ** 2
        for x in range(n):
            far = d0 + (x - shifts - bx) ** 2 > r2
            v = corr[y * width + x]
            other = v if far & (v > other) else other
    if other < lowest:  # nothing is that far away
        other = lowest
    at = (by + shifts) * width + bx + shifts
    curve_y = corr[at - width] - 2.0 * best + corr[at + width]
    curve_x = corr[at - 1] - 2.0 * best + corr[at + 1]
    dy = 0.5 * (corr[at - width] - corr[at + width]) / curve_y if curve_y < 0 else 0.0
    dx = 0.5 * (corr[at - 1] - corr[at + 1]) / curve_x if curve_x < 0 else 0.0
    out[0], out[1] = by, bx
    out[2] = by + min(max(dy, -1.0), 1.0)
    out[3] = bx + min(max(dx, -1.0), 1.0)
    out[4], out[5] = best, best - other
    out[6], out[7] = curve_y, curve_x
