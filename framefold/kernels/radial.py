"""Sums over rings: each pixel goes to the bin of its radius, or is split by area between bins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from framefold.kernels.flat import flat_tile

# nearer to the centre rings are too curved to be cut by straight lines: those pixels are sampled
_NEAR = 8.0
_SAMPLES = 64


@dataclass(frozen=True, eq=False)
class RadialBins:
    """Which bins each pixel of a part contributes to, row-major, and with which share of its area.

    Attributes
    ----------
    ptr
        int64 ``(pixels + 1,)``: entries ``ptr[p] .. ptr[p + 1]`` belong to pixel `p`.
    bins
        int32, one per entry.
    weights
        float64, one per entry; None if every pixel belongs to at most one bin.
    """

    ptr: npt.NDArray[np.int64]
    bins: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float64] | None


def polar_radius(
    shape: tuple[int, ...],
    center: tuple[float, float],
    ellipse: tuple[float, float] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the radius of each pixel centre and its derivatives along y and x, each of `shape`.

    Parameters
    ----------
    shape
        Rows, columns.
    center
        (y, x) in pixels.
    ellipse
        (ratio, angle): rings are ellipses whose axis at `angle` (degrees from x towards y) is `ratio` times
        the other; the radius is that of the circle of equal area. None: circles.
    origin
        Coordinates (y, x) of the first pixel.
    """
    y = (np.arange(shape[0]) + origin[0] - center[0])[:, None]
    x = (np.arange(shape[1]) + origin[1] - center[1])[None, :]
    ratio, angle = (1.0, 0.0) if ellipse is None else ellipse
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # metric of the ellipse: r^2 = x^T g x with det g = 1
    long, short = 1 / ratio, ratio
    gxx, gyy = long * c * c + short * s * s, long * s * s + short * c * c
    gxy = (long - short) * c * s
    r = np.sqrt(np.maximum(gxx * x * x + 2 * gxy * x * y + gyy * y * y, 0.0))
    safe = np.where(r > 0, r, 1.0)
    return r, (gyy * y + gxy * x) / safe, (gxx * x + gxy * y) / safe


def radial_bins(
    shape: tuple[int, ...],
    center: tuple[float, float],
    n_bins: int,
    r_max: float,
    ellipse: tuple[float, float] | None = None,
    split: bool = False,
    valid: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Return (pixel, bin, weight), sorted by pixel: bin `b` covers radii ``[b, b + 1) * r_max / n_bins``.

    With `split` a pixel is shared by area; ring edges are taken as straight within a pixel (nearer than 8 px
    to the centre it is sampled instead). Else it belongs to its centre's bin.
    """
    width = r_max / n_bins
    r, ry, rx = polar_radius(shape, center, ellipse)
    inside = np.ones(shape, dtype=bool) if valid is None else np.asarray(valid, dtype=bool)
    if not split:
        bins = np.floor(r / width).astype(np.int64)
        pixel = np.flatnonzero(inside & (bins < n_bins))
        return pixel.astype(np.int64), bins.reshape(-1)[pixel].astype(np.int32), np.ones(len(pixel))
    far = np.flatnonzero(inside & (r >= _NEAR))
    # mean radius over the pixel: r + laplacian(r) / 24
    trace = 2.0 if ellipse is None else ellipse[0] + 1 / ellipse[0]
    mean = r + (trace - ry**2 - rx**2) / (24 * np.maximum(r, _NEAR))
    parts = [_split_far(mean.reshape(-1)[far], ry.reshape(-1)[far], rx.reshape(-1)[far], width, n_bins)]
    parts[0] = (far[parts[0][0]], *parts[0][1:])
    near = np.flatnonzero(inside & (r < _NEAR))
    step = (np.arange(_SAMPLES) + 0.5) / _SAMPLES - 0.5
    for p in near:
        py, px = divmod(int(p), shape[1])
        # samples of one pixel: an array of pixels whose pitch is 1 / _SAMPLES
        rs = _radius_at(py + step[:, None], px + step[None, :], center, ellipse)
        counts = np.bincount(np.floor(rs / width).astype(np.int64).reshape(-1), minlength=n_bins)[:n_bins]
        bins = np.flatnonzero(counts)
        parts.append((np.full(len(bins), p), bins, counts[bins] / _SAMPLES**2))
    pixel, bins, weights = (np.concatenate(c) for c in zip(*parts, strict=True))
    order = np.lexsort((bins, pixel))
    return pixel[order].astype(np.int64), bins[order].astype(np.int32), weights[order].astype(np.float64)


def _radius_at(y: Any, x: Any, center: tuple[float, float], ellipse: tuple[float, float] | None) -> Any:
    ratio, angle = (1.0, 0.0) if ellipse is None else ellipse
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    u, v = (x - center[1]) * c + (y - center[0]) * s, (y - center[0]) * c - (x - center[1]) * s
    return np.sqrt(u * u / ratio + v * v * ratio)


def _split_far(r: Any, ry: Any, rx: Any, width: float, n_bins: int) -> tuple[Any, Any, Any]:
    """Return (index, bin, share) of pixels cut by ring edges that are straight lines."""
    big, small = np.maximum(np.abs(ry), np.abs(rx)), np.minimum(np.abs(ry), np.abs(rx))
    half = (big + small) / 2
    first = np.floor((r - half) / width).astype(np.int64)
    below = _share_below(first * width - r, big, small)
    index, bins, shares = [], [], []
    for k in range(int(np.ceil(2 * half.max(initial=0) / width)) + 1):
        upto = _share_below((first + k + 1) * width - r, big, small)
        share = upto - below
        keep = np.flatnonzero((share > 0) & (first + k >= 0) & (first + k < n_bins))
        index.append(keep)
        bins.append(first[keep] + k)
        shares.append(share[keep])
        below = upto
    return np.concatenate(index), np.concatenate(bins), np.concatenate(shares)


def _share_below(t: Any, big: Any, small: Any) -> Any:
    """Return the area of a unit square where ``big * u + small * v < t``, for |u|, |v| < 1/2."""
    outer, inner = (big + small) / 2, (big - small) / 2
    safe = np.maximum(2 * big * small, 1e-300)
    low = np.maximum(t + outer, 0) ** 2 / safe
    high = 1 - np.maximum(outer - t, 0) ** 2 / safe
    middle = 0.5 + t / big
    share = np.where(t < -inner, low, np.where(t > inner, high, middle))
    return np.where(t <= -outer, 0.0, np.where(t >= outer, 1.0, share))


def select_part(
    entries: tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float64]],
    shape: tuple[int, ...],
    part: tuple[slice, ...],
) -> RadialBins:
    """Return the entries of `radial_bins` that belong to one part of the frame."""
    pixel, bins, weights = entries
    y, x = np.divmod(pixel, shape[1])
    ys, xs = part
    keep = (y >= ys.start) & (y < ys.stop) & (x >= xs.start) & (x < xs.stop)
    cols = xs.stop - xs.start
    local = (y[keep] - ys.start) * cols + x[keep] - xs.start
    ptr = np.searchsorted(local, np.arange((ys.stop - ys.start) * cols + 1)).astype(np.int64)
    w = weights[keep]
    return RadialBins(ptr, np.ascontiguousarray(bins[keep]), None if np.all(w == 1) else w)


def add_radial(
    tile: npt.NDArray[Any], bins: RadialBins, total: npt.NDArray[np.float64], square: npt.NDArray[np.float64]
) -> None:
    """Add weighted sums per bin of values to `total` and of squares to `square`, ``(depth, n_bins)``."""
    flat = flat_tile(tile)
    if not tile.size or not len(bins.bins):
        return
    acc = np.zeros((2, *total.shape))
    weights = np.ones(1) if bins.weights is None else bins.weights
    cols = tile.shape[-1]
    stride = cols if flat.rows == 1 else flat.row_stride
    radial_sums(
        flat.data, flat.frame_stride, stride, tile.shape[1], cols,
        bins.ptr, bins.bins, weights, bins.weights is not None, acc[0], acc[1],
    )  # fmt: skip
    total += acc[0]
    square += acc[1]


@numba.njit(nogil=True, cache=True)
def radial_sums(
    data: Any,
    frame_stride: int,
    row_stride: int,
    rows: int,
    cols: int,
    ptr: Any,
    bins: Any,
    weights: Any,
    weighted: bool,
    total: Any,
    square: Any,
) -> None:  # pragma: no cover - compiled
    """Add sums and sums of squares per bin, float64 ``(depth, n_bins)``."""
    depth, n_bins = total.shape
    # four frames share the look-up, and neighbouring pixels of one bin do not wait for each other's store
    acc = np.zeros((n_bins, 8))
    for f in range(0, depth, 4):
        m = min(4, depth - f)
        acc[:] = 0
        for y in range(rows):
            for x in range(cols):
                p = y * cols + x
                at = f * frame_stride + y * row_stride + x
                for e in range(ptr[p], ptr[p + 1]):
                    w = weights[e] if weighted else 1.0
                    a = acc[bins[e]]
                    for g in range(m):
                        v = np.float64(data[at + g * frame_stride])
                        a[g] += w * v
                        a[4 + g] += w * v * v
        for g in range(m):
            for b in range(n_bins):
                total[f + g, b] += acc[b, g]
                square[f + g, b] += acc[b, 4 + g]


def radial_reference(
    tile: npt.NDArray[Any], pixel: npt.NDArray[Any], bins: npt.NDArray[Any], weights: Any, n_bins: int
) -> npt.NDArray[np.float64]:
    """Return the weighted sums per bin of whole frames, ``(depth, n_bins)``."""
    flat = tile.reshape(len(tile), -1).astype(np.float64)
    return np.stack([np.bincount(bins, weights * frame[pixel], minlength=n_bins) for frame in flat])
