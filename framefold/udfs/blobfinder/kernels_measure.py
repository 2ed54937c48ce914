"""Kernel that measures all disks of a block of frames: correlation, its maximum, maximum-likelihood fit."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from framefold.udfs.blobfinder.kernels_correlate import (
    SCALE_SQRT,
    correlate_taps,
    highest,
    scaled_sums,
    split_bad,
)
from framefold.udfs.blobfinder.kernels_fit import (
    AUTO,
    BORDER,
    CLIPPED,
    COM,
    LOW_SNR,
    NOT_CONVERGED,
    PARABOLA,
    SATURATED,
    TILTED,
    UPSAMPLE,
    fit_disk,
)
from framefold.udfs.blobfinder.kernels_simd import ROWS
from framefold.udfs.blobfinder.kernels_slope import LEFT, take_slope
from framefold.udfs.blobfinder.kernels_top import mass_centre, upsampled

Array = npt.NDArray[Any]
# numba's cache of a caller does not notice changes of its callees in other files: change this file with them


@numba.njit(nogil=True, cache=True, error_model="numpy")
def measure(
    crops: Array, maps: Array, corners: Array, inside: Array,
    taps: Array, weights: Array, pitch: int, width: int, shifts: int,
    search: float, scaling: int, noise: float, slope_noise: float,
    offsets: Array, around: Array, clear: float, py: Array, px: Array,
    radius: float, table: Array, origin: float, step: float,
    mode: int, fineness: int, mass_noise: Array, gain: float, min_snr: float,
    centers: Array, sigma: Array, amplitude: Array, background: Array, tilt: Array, chi2: Array,
    correlation: Array, prominence: Array, flags: Array,
) -> None:  # fmt: skip  # pragma: no cover - compiled
    """Measure the disks in ``crops`` ``(n, m, L, L)`` float32, which are changed.

    Parameters
    ----------
    crops
        From `gather_crops`; NaN: no value.
    maps
        Correlation ``(n, m, width * width)`` where it is known; empty: it is made from the crops.
    corners
        ``(n or 1, m, 2)``: their first pixels in the frame.
    inside
        ``(n or 1, m)`` bool: whether the expected disk lies on the detector.
    taps, weights, pitch, width, shifts, search, scaling
        The correlation, see `correlate_taps`: ``2 shifts + 1`` positions either way, looked at within
        `search` px.
    noise, slope_noise
        Standard deviation of correlation and of its central difference, in units of the scaled counts' noise.
    offsets, py, px, radius, table, origin, step, mode, gain
        See `fit_disk`; `mode` may also be `PARABOLA`, `COM` or `UPSAMPLE`: the top of the correlation.
    around, clear
        The offsets that tell the slope of the background, see `take_slope`.
    fineness
        Points per px of `UPSAMPLE`.
    mass_noise
        Standard deviation of the first moment of the correlation within each whole number of px, in units of
        the scaled counts' noise, for `COM`.
    min_snr
        Peaks below are flagged.
    centers, sigma, amplitude, background, tilt, chi2, correlation, prominence, flags
        Outputs, ``(n, m)`` or ``(n, m, 2)`` as (y, x).
    """
    frames, disks, size = crops.shape[0], crops.shape[1], crops.shape[2]
    rows = (2 * shifts + ROWS) // ROWS * ROWS
    good = np.empty((size, size), np.float32)
    sums = np.zeros((size + 1 + ROWS) * pitch, np.float32)
    corr = np.zeros(max(rows, width) * width if maps.shape[0] else rows * width, np.float32)
    top = np.empty(8, np.float32)
    work = np.empty((5, py.shape[0]), np.float32)
    S, S6, L = np.empty(28), np.empty(28), np.empty((6, 6))
    x, p, out = np.empty(6), np.empty(6), np.empty(5)
    ring, shifted = _rings(offsets, radius), np.zeros((disks, 3))
    half = size // 2
    fixed = corners.shape[0] == 1
    unit = 0.5 * math.sqrt(gain) if scaling == SCALE_SQRT else 0.0
    least = 8.0
    for k in range(2 * frames if mode == AUTO else frames):
        # a frame is measured again where its disks together show tilts that one alone does not
        n = k // 2 if mode == AUTO else k
        if mode != AUTO or k % 2 == 0:
            least, promised, asked = 8.0, 0.0, 0
        elif promised > 2.0 * asked + 6.0 * math.sqrt(float(asked)):
            least = 0.0
        else:
            continue
        for m in range(disks):
            if least == 0.0 and flags[n, m] & (TILTED | BORDER | CLIPPED | SATURATED):
                continue
            crop = crops[n, m]
            row = 0 if fixed else n
            oy, ox = corners[row, m, 0] + half, corners[row, m, 1] + half
            bad, saturated = split_bad(crop, good)
            flag = 0 if inside[row, m] else BORDER
            if bad > saturated:
                flag |= CLIPPED
            if saturated:
                flag |= SATURATED
            tilt[n, m, 0] = tilt[n, m, 1] = np.float32(0.0)
            if flag & BORDER or bad > size * size // 2:
                centers[n, m, 0] = centers[n, m, 1] = np.nan
                sigma[n, m, 0] = sigma[n, m, 1] = np.nan
                amplitude[n, m] = background[n, m] = chi2[n, m] = np.nan
                correlation[n, m] = prominence[n, m] = np.nan
                flags[n, m] = flag
                continue
            if maps.shape[0]:
                corr[: width * width] = maps[n, m]
            else:
                scaled_sums(crop, scaling, sums, pitch)
                correlate_taps(sums, pitch, taps, weights, corr, width)
            highest(corr, width, shifts, search, radius, top)
            iy, ix = half + int(top[0]), half + int(top[1])
            correlation[n, m], prominence[n, m] = top[4], top[5]
            sy = unit * slope_noise / max(-top[6], 1e-12)
            sx = unit * slope_noise / max(-top[7], 1e-12)
            cy, cx = top[2] - top[0], top[3] - top[1]
            snr = top[4] / (unit * noise) if unit > 0.0 else np.inf
            if top[6] >= 0 or top[7] >= 0:
                flag |= NOT_CONVERGED
            if mode == UPSAMPLE:
                upsampled(corr, width, shifts, fineness, top)
                cy, cx = top[2] - top[0], top[3] - top[1]
                rounding = 1.0 / 12.0 / fineness**2  # variance of a point of the grid
                sy, sx = math.sqrt(sy * sy + rounding), math.sqrt(sx * sx + rounding)
            elif mode == COM:
                reach, mass = mass_centre(corr, width, shifts, radius, top)
                cy, cx = top[2] - top[0], top[3] - top[1]
                sy = sx = unit * mass_noise[reach] / max(mass, 1e-12)
            if mode in (PARABOLA, COM, UPSAMPLE):
                amplitude[n, m], background[n, m] = _levels(crop, iy, ix, offsets, ring)
                chi2[n, m] = np.nan
            else:
                fitted = fit_disk(
                    crop, good, bad == 0, iy, ix, cy, cx, offsets, py, px, radius, table, origin, step,
                    mode, gain, least, work, S, S6, L, x, p, out,
                )  # fmt: skip
                shift = shifted[m]
                if least > 0.0:
                    shift[:] = 0.0
                if least > 0.0 and take_slope(
                    crop, good, iy, ix, offsets, around, radius, clear, gain, p[4], p[5], p[1],
                    max(out[0], out[1]), shift,
                ):  # fmt: skip
                    fitted = fit_disk(
                        crop, good, bad == 0, iy, ix, cy, cx, offsets, py, px, radius, table, origin, step,
                        mode, gain, least, work, S, S6, L, x, p, out,
                    )  # fmt: skip
                flag |= fitted
                if out[4] >= 0.0:
                    promised += out[4]
                    asked += 1
                cy, cx = p[4], p[5]
                sy = math.sqrt(out[0] ** 2 + shift[2] ** 2 + (LEFT * shift[0]) ** 2)
                sx = math.sqrt(out[1] ** 2 + shift[2] ** 2 + (LEFT * shift[1]) ** 2)
                chi2[n, m] = out[2]
                snr = out[3]
                amplitude[n, m], background[n, m] = p[1], p[0]
                tilt[n, m, 0], tilt[n, m, 1] = p[2], p[3]
            if not snr >= min_snr:
                flag |= LOW_SNR
            centers[n, m, 0], centers[n, m, 1] = oy + (iy - half) + cy, ox + (ix - half) + cx
            sigma[n, m, 0], sigma[n, m, 1] = sy, sx
            flags[n, m] = flag


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _levels(
    crop: Array, iy: int, ix: int, offsets: Array, ring: Array
) -> tuple[float, float]:  # pragma: no cover
    """Return mean height inside the disk above the mean outside, and the latter.

    `ring` is 1 at the offsets inside, 2 outside, 0 at the edge.
    """
    inner, outer, n_in, n_out = 0.0, 0.0, 0, 0
    flat, size = crop.reshape(-1), crop.shape[1]
    at = iy * size + ix
    for k in range(offsets.shape[0]):
        v = float(flat[at + offsets[k, 0] * size + offsets[k, 1]])
        is_in, is_out = ring[k] == 1, ring[k] == 2
        inner += v if is_in else 0.0
        outer += v if is_out else 0.0
        n_in += is_in
        n_out += is_out
    level = outer / n_out if n_out else 0.0
    return inner / n_in - level, level


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _rings(offsets: Array, radius: float) -> Array:  # pragma: no cover - compiled
    """Return 1 for offsets well inside a disk, 2 for those well outside, else 0."""
    ring = np.zeros(offsets.shape[0], np.int32)
    for k in range(offsets.shape[0]):
        r2 = float(offsets[k, 0] ** 2 + offsets[k, 1] ** 2)
        if r2 <= (radius - 1.0) ** 2 or r2 == 0.0:
            ring[k] = 1
        elif r2 >= (radius + 1.0) ** 2:
            ring[k] = 2
    return ring
