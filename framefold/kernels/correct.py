"""Detector corrections of a tile: convert, subtract the dark frame, multiply by the gain, repair pixels."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from framefold.kernels.rows import as_rows
from framefold.kernels.unit_stride import contiguous

_FOUR = 32768  # pixels; longer rows of four frames evict one another from L1


def correct_reference(
    raw: npt.NDArray[Any],
    dark: npt.NDArray[Any],
    gain: npt.NDArray[Any],
    excluded: npt.NDArray[np.bool_],
) -> npt.NDArray[Any]:
    """Return whole frames ``(depth, *sig)`` corrected and repaired, float64 or complex128, slowly."""
    out = np.asarray((raw.astype(np.result_type(raw, np.float64)) - dark) * gain)
    good = out.copy()
    for pixel in np.argwhere(excluded):
        for radius in range(1, max(excluded.shape) + 1):
            window = tuple(slice(max(0, c - radius), c + radius + 1) for c in pixel)
            if not excluded[window].all():
                out[(slice(None), *pixel)] = good[(slice(None), *window)][:, ~excluded[window]].mean(axis=1)
                break
        else:
            out[(slice(None), *pixel)] = np.nan
    return out


def correct(
    tile: npt.NDArray[Any], dark: npt.NDArray[Any], gain: npt.NDArray[Any], out: npt.NDArray[Any]
) -> None:
    """Write ``(tile - dark) * gain`` to `out`.

    `tile` and `out` have the shape ``(depth, *part)``, `dark` and `gain` are flat with one value per pixel of
    the part, in the precision of `out`, which is C-contiguous.
    """
    _correct(_known(tile), dark, gain, out.reshape(len(out), -1) if out.size else out.reshape(0, 0))


def correct_stages(
    tile: npt.NDArray[np.uint16], pedestal: npt.NDArray[Any], gain: npt.NDArray[Any], out: npt.NDArray[Any]
) -> None:
    """Write ``(adc - pedestal[g]) * gain[g]`` to `out`, for pixels that switch their gain.

    Bits 15..14 of `tile` are the stage code (0, 1, 3 for g = 0, 1, 2; 2: invalid, written as NaN), bits
    13..0 the ADC value. `pedestal` and `gain`: ``(3, pixels of the part)``.
    """
    _correct_stages(
        as_rows(tile), pedestal, gain, out.reshape(len(out), -1) if out.size else out.reshape(0, 0)
    )


def repair(
    raw: npt.NDArray[Any],
    target: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    sources: npt.NDArray[np.int64],
    dark: npt.NDArray[Any],
    gain: npt.NDArray[Any],
    out: npt.NDArray[Any],
) -> None:
    """Replace excluded pixels of `out` by the mean of the corrected values of their good neighbours.

    Pixel ``target[k]`` (flat, in the part that `out` covers) has the neighbours
    ``sources[starts[k]:starts[k + 1]]`` (flat, in the part that `raw` covers) with their `dark` and `gain`,
    one value per entry of `sources`; a pixel without neighbours becomes NaN.
    """
    if out.size:
        _repair(_known(raw), target, starts, sources, dark, gain, out.reshape(len(out), -1))


def repair_stages(
    raw: npt.NDArray[np.uint16],
    target: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    sources: npt.NDArray[np.int64],
    pedestal: npt.NDArray[Any],
    gain: npt.NDArray[Any],
    out: npt.NDArray[Any],
) -> None:
    """Do what `repair` does where pixels switch gain; neighbours invalid in a frame do not count there."""
    if out.size:
        _repair_stages(as_rows(raw), target, starts, sources, pedestal, gain, out.reshape(len(out), -1))


def good_neighbours(
    excluded: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return flat indices of the excluded pixels and, as (starts, sources), of their good neighbours.

    Neighbours are the good pixels of the smallest surround 3^n, 5^n, 7^n, ... that has any.
    """
    from scipy.ndimage import distance_transform_cdt  # noqa: PLC0415  # only where pixels are excluded

    flat = np.ascontiguousarray(excluded).reshape(-1)
    pixels = np.flatnonzero(flat).astype(np.int64)
    if not pixels.size or flat.all():
        return pixels, np.zeros(len(pixels) + 1, np.int64), np.zeros(0, np.int64)
    # the box reaches as far as the next good pixel is away, so that all neighbours lie on its faces
    radius = distance_transform_cdt(excluded, metric="chessboard").reshape(-1)[pixels].astype(np.int64)
    shape = np.array(excluded.shape, dtype=np.int64)
    count = np.zeros(len(pixels), np.int64)
    nothing = np.zeros(0, np.int64)
    _on_faces(flat, shape, pixels, radius, count, nothing, nothing)
    starts = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    sources = np.empty(starts[-1], np.int64)
    _on_faces(flat, shape, pixels, radius, count, starts, sources)
    return pixels, starts, sources


def _known(tile: npt.NDArray[Any]) -> npt.NDArray[Any]:
    rows = as_rows(tile)
    if rows.dtype.kind == "b":
        return as_rows(rows.view(np.uint8))
    return as_rows(rows.astype(np.float32)) if rows.dtype == np.float16 else rows


@numba.njit(nogil=True, cache=True)
def _correct(rows, dark, gain, out):  # type: ignore[no-untyped-def]
    """Several frames at a time share the loads of dark and gain: 11 GB/s of uint16, 7 frame by frame."""
    depth, pixels = rows.shape
    real = out.dtype.type
    i = 0
    while pixels <= _FOUR and i + 4 <= depth:
        a = contiguous(rows[i])
        b = contiguous(rows[i + 1])
        c = contiguous(rows[i + 2])
        d = contiguous(rows[i + 3])
        o = out[i]
        p = out[i + 1]
        q = out[i + 2]
        r = out[i + 3]
        for j in range(pixels):
            k = dark[j]
            g = gain[j]
            o[j] = (real(a[j]) - k) * g
            p[j] = (real(b[j]) - k) * g
            q[j] = (real(c[j]) - k) * g
            r[j] = (real(d[j]) - k) * g
        i += 4
    while i + 2 <= depth:
        a = contiguous(rows[i])
        b = contiguous(rows[i + 1])
        o = out[i]
        p = out[i + 1]
        for j in range(pixels):
            k = dark[j]
            g = gain[j]
            o[j] = (real(a[j]) - k) * g
            p[j] = (real(b[j]) - k) * g
        i += 2
    if i < depth:
        a = contiguous(rows[i])
        o = out[i]
        for j in range(pixels):
            o[j] = (real(a[j]) - dark[j]) * gain[j]


@numba.njit(nogil=True, cache=True)
def _correct_stages(rows, pedestal, gain, out):  # type: ignore[no-untyped-def]
    depth, pixels = rows.shape
    real = out.dtype.type
    for i in range(depth):
        a = contiguous(rows[i])
        o = out[i]
        for j in range(pixels):
            word = np.int64(a[j])
            code = word >> 14
            stage = min(code, 2)
            value = (real(word & 0x3FFF) - pedestal[stage, j]) * gain[stage, j]
            o[j] = real(np.nan) if code == 2 else value


@numba.njit(nogil=True, cache=True)
def _repair(rows, target, starts, sources, dark, gain, out):  # type: ignore[no-untyped-def]
    real = out.dtype.type
    for i in range(out.shape[0]):
        a = contiguous(rows[i])
        o = out[i]
        for k in range(target.size):
            total = real(0)
            for s in range(starts[k], starts[k + 1]):
                total += (real(a[sources[s]]) - dark[s]) * gain[s]
            n = starts[k + 1] - starts[k]
            o[target[k]] = total / n if n else real(np.nan)


@numba.njit(nogil=True, cache=True)
def _repair_stages(rows, target, starts, sources, pedestal, gain, out):  # type: ignore[no-untyped-def]
    real = out.dtype.type
    for i in range(out.shape[0]):
        a = contiguous(rows[i])
        o = out[i]
        for k in range(target.size):
            total = real(0)
            n = 0
            for s in range(starts[k], starts[k + 1]):
                word = np.int64(a[sources[s]])
                code = word >> 14
                if code != 2:
                    stage = min(code, 2)
                    total += (real(word & 0x3FFF) - pedestal[stage, s]) * gain[stage, s]
                    n += 1
            o[target[k]] = total / n if n else real(np.nan)


@numba.njit(nogil=True, cache=True)
def _on_faces(excluded, shape, pixels, radius, count, starts, sources):  # type: ignore[no-untyped-def]
    """Count the good pixels on the faces of the box around each pixel; list them if `sources` has room."""
    axes = shape.size
    width = shape[axes - 1]
    low = np.zeros(axes, np.int64)
    extent = np.zeros(axes, np.int64)
    centre = np.zeros(axes, np.int64)
    listing = sources.size > 0
    for k in range(pixels.size):
        r = radius[k]
        rest = pixels[k]
        lines = 1
        for axis in range(axes - 1, -1, -1):
            centre[axis] = rest % shape[axis]
            rest //= shape[axis]
            low[axis] = max(0, centre[axis] - r)
            extent[axis] = min(shape[axis], centre[axis] + r + 1) - low[axis]
            if axis < axes - 1:
                lines *= extent[axis]
        found = 0
        first = low[axes - 1]
        last = first + extent[axes - 1] - 1
        for line in range(lines):
            rest = line
            flat = 0
            stride = width
            face = False
            for axis in range(axes - 2, -1, -1):
                at = low[axis] + rest % extent[axis]
                rest //= extent[axis]
                face = face or abs(at - centre[axis]) == r
                flat += at * stride
                stride *= shape[axis]
            # a line inside the box meets its faces at both ends only, and not where the frame cuts it
            step = 1 if face else max(1, last - first)
            for x in range(first, last + 1, step):
                if (face or abs(x - centre[axes - 1]) == r) and not excluded[flat + x]:
                    if listing:
                        sources[starts[k] + found] = flat + x
                    found += 1
        count[k] = found
