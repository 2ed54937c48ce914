"""Kernels that make the polar operator, and apply it to sixteen frames at a time."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from framefold.udfs.fxs.lanes import LANES, add_products16, transpose16


@numba.njit(nogil=True, cache=True)
def bin_of(t1: Any, t2: Any, t3: Any, q_scale: Any, q_min: Any, q_step: Any, n_q: Any, n_phi: Any) -> Any:
    """Return the polar bin of a point in space, or -1 outside; ``q_scale`` is 4 pi / wavelength.

    ``sin(theta)`` comes from ``sin^2 = rho^2 / (2 R (R + t3))``: exact, and free of cancellation.
    """
    rho2 = t1 * t1 + t2 * t2
    r = np.sqrt(rho2 + t3 * t3)
    q = q_scale * np.sqrt(rho2 / (2 * r * (r + t3)))
    i = np.floor((q - q_min) / q_step)
    if not 0 <= i < n_q:
        return -1
    p = int(np.floor(np.arctan2(t1, t2) / (2 * np.pi) * n_phi + 0.5)) % n_phi
    return int(i) * n_phi + p


@numba.njit(nogil=True, cache=True)
def split_pixels(
    centre: Any,
    e1: Any,
    e2: Any,
    q_scale: Any,
    q_min: Any,
    q_step: Any,
    n_q: Any,
    n_phi: Any,
    parts: Any,
    pixels: Any,
    bins: Any,
    shares: Any,
) -> Any:
    """Cut each pixel in ``s x s`` parts and list the bins they fall in; return the number of entries.

    s is `parts`, and up to 8 where a bin is narrower than a pixel. `pixels`, `bins` and `shares` (area
    fraction) are filled; returns -1 if they are too short.
    """
    n = 0
    ids = np.empty(64, np.int64)
    counts = np.empty(64, np.int64)
    c1, c2 = e1.shape[1] > 1, e2.shape[1] > 1
    for pixel in range(centre.shape[1]):
        x, y, z = centre[0, pixel], centre[1, pixel], centre[2, pixel]
        j, k = pixel if c1 else 0, pixel if c2 else 0
        s = parts
        if parts > 1:
            edge = max(np.hypot(e1[0, j], e1[1, j]), np.hypot(e2[0, k], e2[1, k]))
            arc = np.hypot(x, y) * 2 * np.pi / n_phi
            ring = q_step / q_scale * 2 * z  # radial width of a bin, to first order
            narrow = min(arc, ring) / edge
            if narrow < 1:
                s = min(8, int(np.ceil(parts / max(narrow, 0.01))))
        found = 0
        for a in range(s):
            f = (a + 0.5) / s - 0.5
            for b in range(s):
                g = (b + 0.5) / s - 0.5
                tx = x + f * e1[0, j] + g * e2[0, k]
                ty = y + f * e1[1, j] + g * e2[1, k]
                tz = z + f * e1[2, j] + g * e2[2, k]
                target = bin_of(tx, ty, tz, q_scale, q_min, q_step, n_q, n_phi)
                if target < 0:
                    continue
                at = 0
                while at < found and ids[at] != target:
                    at += 1
                if at == found:
                    ids[at] = target
                    counts[at] = 0
                    found += 1
                counts[at] += 1
        if n + found > len(bins):
            return -1
        for at in range(found):
            pixels[n] = pixel
            bins[n] = ids[at]
            shares[n] = counts[at] / (s * s)
            n += 1
    return n


@numba.njit(nogil=True, cache=True)
def regrid16(
    frames: Any,
    picked: Any,
    runs: Any,
    tile_runs: Any,
    tile_segments: Any,
    segments: Any,
    bins: Any,
    weights: Any,
    rows: Any,
    start: Any,
    buffer: Any,
    out: Any,
) -> None:
    """Apply the tiled operator to 16 frames: ``out[16 * bin + lane] = start[bin] + sum weights * frame``.

    Parameters
    ----------
    frames : (n, pixels), any real dtype
    picked : int64 (16,), the frames of the lanes
    runs : int64, first pixel of each run of 16 pixels, in the order of the tiles
    tile_runs, tile_segments : int64, where the runs and segments of each tile begin
    segments : int64, where the entries of each segment begin; a segment is one bin in one tile
    bins : int32, bin of each segment
    weights, rows : float32 and uint16, entries: weight, and pixel within the tile
    start : float32 (bins,)
    buffer : float32 (256 * most runs of a tile,), scratch
    out : float32 (16 * bins,)
    """
    flat = frames.reshape(-1)
    offsets = picked * frames.shape[1]
    steps = np.arange(LANES) * LANES
    for b in range(len(start)):
        for i in range(LANES):
            out[b * LANES + i] = start[b]
    for t in range(len(tile_runs) - 1):
        a = tile_runs[t]
        for r in range(a, tile_runs[t + 1]):
            transpose16(flat, runs[r], offsets, buffer, (r - a) * LANES * LANES, steps)
        for s in range(tile_segments[t], tile_segments[t + 1]):
            add_products16(
                weights, rows, segments[s], segments[s + 1], buffer, out, LANES * np.int64(bins[s])
            )


@numba.njit(nogil=True, cache=True)
def untangle16(lanes: Any, polar: Any) -> None:
    """Copy ``lanes[16 * bin + lane]`` to ``polar[lane, bin]``; the number of bins is a multiple of 16."""
    flat = polar.reshape(-1)
    offsets = np.arange(LANES) * LANES
    steps = np.arange(LANES) * polar.shape[1]
    for b in range(0, polar.shape[1], LANES):
        transpose16(lanes, b * LANES, offsets, flat, b, steps)


def regrid_reference(matrix: Any, frames: Any, start: Any) -> Any:
    """Return what `regrid16` and `untangle16` compute, by a sparse matrix ``(bins, pixels)``."""
    return (matrix @ frames.astype(np.float64).T).T + start
