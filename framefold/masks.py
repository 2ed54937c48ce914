"""Detector masks as arrays: disks, rings, segments, radial bins, gradients and templates.

Coordinates are pixels, x along the last axis, pixel centres at integers. Arrays have the shape
``(size_y, size_x)``, stacks ``(n, size_y, size_x)``. Names, order of arguments and values agree with
LiberTEM's ``libertem.masks``, save for a rectangle wholly off the detector (empty here) and a background ring
off the detector (an error here, NaN there). `segments` and `annuli` are additions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError

Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float64]


def circular(
    cx: float, cy: float, size_x: int, size_y: int, radius: float, antialiased: bool = False
) -> npt.NDArray[Any]:
    """Return a disk: True where ``(x - cx)^2 + (y - cy)^2 <= radius^2``.

    With `antialiased` the disk is float64 and its edge falls from 1 to 0 over one pixel, linear in the
    distance from the centre.

    Examples
    --------
    >>> circular(1, 1, size_x=3, size_y=3, radius=1).astype(int)
    array([[0, 1, 0],
           [1, 1, 1],
           [0, 1, 0]])
    """
    if antialiased:
        return radial_bins(cx, cy, size_x, size_y, radius, n_bins=1, use_sparse=False)[0]
    dy, dx = _offsets(cx, cy, size_x, size_y)
    return dx * dx + dy * dy <= radius * radius


def ring(
    cx: float,
    cy: float,
    size_x: int,
    size_y: int,
    radius: float,
    radius_inner: float,
    antialiased: bool = False,
) -> npt.NDArray[Any]:
    """Return a ring: the disk of `radius` without the disk of `radius_inner`.

    With `antialiased` both edges are soft, as in `circular`.
    """
    if antialiased:
        return radial_bins(cx, cy, size_x, size_y, radius, radius_inner, n_bins=1, use_sparse=False)[0]
    return circular(cx, cy, size_x, size_y, radius) & ~circular(cx, cy, size_x, size_y, radius_inner)


def rectangular(x: float, y: float, width: float, height: float, size_x: int, size_y: int) -> Bool:
    """Return a rectangle from the corner (`x`, `y`) to ``(x + width, y + height)``, both corners included.

    A negative extent goes the other way; an extent of zero gives an empty mask.
    """
    mask = np.zeros((size_y, size_x), dtype=bool)
    if width == 0 or height == 0:
        return mask
    x0, x1 = (int(v) for v in sorted((x, x + width)))
    y0, y1 = (int(v) for v in sorted((y, y + height)))
    mask[max(0, y0) : max(0, y1 + 1), max(0, x0) : max(0, x1 + 1)] = True
    return mask


def annuli(cx: float, cy: float, size_x: int, size_y: int, radii: Sequence[float]) -> Bool:
    """Return adjoining rings ``radii[i] <= r < radii[i + 1]`` as a stack; no pixel is in two.

    Raises
    ------
    DataError
        If there are fewer than two `radii`, or they do not grow from zero or more.
    """
    edges = np.asarray(radii, dtype=np.float64)
    if edges.ndim != 1 or len(edges) < 2 or edges[0] < 0 or not np.all(np.diff(edges) > 0):
        raise DataError(f"annuli needs two or more growing radii >= 0, got {list(radii)}")
    dy, dx = _offsets(cx, cy, size_x, size_y)
    index = np.searchsorted(edges, np.hypot(dx, dy), side="right") - 1
    return index == np.arange(len(edges) - 1)[:, None, None]


def segments(
    cx: float,
    cy: float,
    size_x: int,
    size_y: int,
    radius: float,
    radius_inner: float = 0.0,
    n: int = 4,
    rotation: float = 0.0,
) -> Bool:
    """Return a segmented detector: the ring ``radius_inner <= r < radius`` cut into `n` equal sectors.

    Sector k covers the angles ``rotation + k 2 pi / n`` (included) to ``rotation + (k + 1) 2 pi / n``,
    in radians from +x towards +y (downwards on the screen). No pixel is in two sectors.

    Raises
    ------
    DataError
        If `n` is below 1 or the radii do not grow.
    """
    if n < 1:
        raise DataError(f"segments needs n >= 1, got {n}")
    whole = annuli(cx, cy, size_x, size_y, (radius_inner, radius))[0]
    dy, dx = _offsets(cx, cy, size_x, size_y)
    turn = np.mod(np.arctan2(dy, dx) - rotation, 2 * np.pi)
    # mod of a tiny negative angle rounds to 2 pi itself: the last sector takes it
    index = np.minimum((turn * (n / (2 * np.pi))).astype(np.int64), n - 1)
    return (index == np.arange(n)[:, None, None]) & whole


def radial_bins(
    cx: float,
    cy: float,
    size_x: int,
    size_y: int,
    radius: float | None = None,
    radius_inner: float = 0.0,
    n_bins: int | None = None,
    normalize: bool = False,
    use_sparse: bool | None = None,
    dtype: npt.DTypeLike | None = None,
) -> Any:
    """Return a stack of antialiased rings that add up to 1 between the radii.

    A pixel at distance r from the centre has in the ring around r0 of width w the weight
    ``clip(w / 2 + 1 / 2 - |r - r0|, 0, 1)``; the pixel nearest to the centre has ``1 - radius_inner`` in the
    first ring when `radius_inner` is below 1/2.

    Parameters
    ----------
    cx, cy
        Centre, px.
    size_x, size_y
        Size of the detector, px.
    radius, radius_inner
        Outermost and innermost edge, px; default: the whole detector.
    n_bins
        Number of rings; default: one per pixel of radius.
    normalize
        Scale each ring to a sum of 1.
    use_sparse
        Return ``sparse.COO`` rather than a dense array; default: when a ring covers less than a tenth
        of the detector.
    dtype
        Of the result; default float64.
    """
    if radius is None:
        radius = bounding_radius(cx, cy, size_x, size_y)
    if n_bins is None:
        n_bins = int(np.round(radius - radius_inner))
    if n_bins < 1 or radius <= radius_inner:
        raise DataError(
            f"radial_bins needs radius > radius_inner and n_bins >= 1, "
            f"got radius={radius}, radius_inner={radius_inner}, n_bins={n_bins}"
        )
    width = (radius - radius_inner) / n_bins
    if use_sparse is None:
        use_sparse = math.pi * (radius**2 - (radius - width) ** 2) < 0.1 * size_x * size_y

    dy, dx = _offsets(cx, cy, size_x, size_y)
    r = np.hypot(dx, dy).ravel()
    order = np.argsort(r)
    ordered = r[order]
    centres = np.linspace(radius_inner, radius - width, n_bins) + width / 2
    reach = width / 2 + 0.5
    first = np.searchsorted(ordered, centres - reach)
    last = np.searchsorted(ordered, centres + reach)
    nearest = _nearest_pixel(cx, cy, size_x, size_y) if radius_inner < 0.5 else None

    pixels, weights = [], []
    for k, (r0, start, stop) in enumerate(zip(centres, first, last, strict=True)):
        weight = np.clip(reach - np.abs(ordered[start:stop] - r0), 0.0, 1.0)
        total = weight.sum()
        if normalize and not np.isclose(total, 0):
            weight /= total
        pixel = order[start:stop]
        if k == 0 and nearest is not None:
            keep = pixel != nearest
            pixel = np.append(pixel[keep], nearest)
            weight = np.append(weight[keep], 1 - radius_inner)
        pixels.append(pixel)
        weights.append(weight.astype(dtype))
    return _stack(pixels, weights, size_x, size_y, use_sparse)


def polar_map(
    cx: float, cy: float, size_x: int, size_y: int, stretch_y: float = 1.0, angle: float = 0.0
) -> tuple[Float, Float]:
    """Return the distance (px) and the angle ``arctan2(y, x)`` of every pixel, seen from the centre.

    With `stretch_y` the map is elliptic: distances along the direction `angle` (radians, 0 is along y)
    are divided by it.
    """
    y, x = np.mgrid[0:size_y, 0:size_x].astype(np.float64)
    dy, dx = y - cy, x - cx
    if stretch_y != 1.0 or angle != 0.0:
        cos, sin = math.cos(angle), math.sin(angle)
        dy, dx = (dy * cos - dx * sin) / stretch_y, dx * cos + dy * sin
    return np.hypot(dy, dx), np.arctan2(dy, dx)


def radial_gradient(
    cx: float, cy: float, size_x: int, size_y: int, radius: float, antialiased: bool = False
) -> Float:
    """Return a disk whose value grows linearly from 0 in the centre to 1 at `radius`."""
    r, _ = polar_map(cx, cy, size_x, size_y)
    if antialiased:
        return radial_gradient_background_subtraction(r, r0=radius, r_outer=0)
    return np.where(circular(cx, cy, size_x, size_y, radius), r / radius, 0.0)


def radial_gradient_background_subtraction(r: Float, r0: float, r_outer: float, delta: float = 1.0) -> Float:
    """Return a template from a map `r` of radii: gradient inside, -1 in a ring around it.

    ``r / r0`` for ``r < r0 - delta / 2``, a linear fall through zero at r0 within ``delta``, then -1 up
    to and including `r_outer`, 0 beyond. `r` may be any map, such as the elliptic one of `polar_map`.
    """
    inside = r < r0 - delta / 2
    outside = r >= r0 + delta / 2
    return np.select(
        [inside, ~outside, r <= r_outer],
        [r / r0, (r0 - r) / (delta / 2), np.full_like(r, -1.0)],
        default=0.0,
    )


def background_subtraction(
    cx: float,
    cy: float,
    size_x: int,
    size_y: int,
    radius: float,
    radius_inner: float,
    antialiased: bool = False,
) -> Float:
    """Return a disk of `radius_inner` minus a ring up to `radius`, scaled so that all adds up to zero."""
    disk = circular(cx, cy, size_x, size_y, radius_inner, antialiased).astype(np.float64)
    around = ring(cx, cy, size_x, size_y, radius, radius_inner, antialiased).astype(np.float64)
    if not around.any():
        raise DataError(f"no pixel between radius_inner={radius_inner} and radius={radius}: widen the ring")
    return disk - around * (disk.sum() / around.sum())


def balance(template: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return `template` with its negative part scaled so that all adds up to zero."""
    positive, negative = template[template > 0].sum(), template[template < 0].sum()
    if negative == 0:
        raise DataError("balance needs a template with negative values")
    return np.where(template < 0, template * (-positive / negative), template).astype(template.dtype)


def gradient_x(size_x: int, size_y: int, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Return the x coordinate of every pixel."""
    return np.tile(np.arange(size_x).astype(dtype), (size_y, 1))


def gradient_y(size_x: int, size_y: int, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Return the y coordinate of every pixel."""
    return gradient_x(size_y, size_x, dtype).T


def bounding_radius(cx: float, cy: float, size_x: int, size_y: int) -> int:
    """Return a radius around (`cx`, `cy`) that covers the whole detector, px."""
    return math.ceil(math.hypot(max(cx, size_x - cx), max(cy, size_y - cy))) + 1


def sparse_circular_multi_stack(
    mask_index: Sequence[int],
    cx: Sequence[float],
    cy: Sequence[float],
    size_x: int,
    size_y: int,
    radius: float,
) -> Any:
    """Return a sparse stack with disks at (`cx`, `cy`), cut to whole pixels, in the masks `mask_index`."""
    half = math.ceil(radius)
    disk = circular(half, half, 2 * half + 1, 2 * half + 1, radius)
    offset_x = np.asarray(cx).astype(np.int64) - half
    offset_y = np.asarray(cy).astype(np.int64) - half
    return sparse_template_multi_stack(mask_index, offset_x, offset_y, disk, size_x, size_y)


def sparse_template_multi_stack(
    mask_index: Sequence[int],
    offset_x: Sequence[int] | npt.NDArray[np.int64],
    offset_y: Sequence[int] | npt.NDArray[np.int64],
    template: npt.NDArray[Any],
    size_x: int,
    size_y: int,
) -> Any:
    """Return a ``sparse.COO`` stack with `template` stamped at the offsets, in the masks `mask_index`.

    Offsets are those of the template's first pixel; what lies outside the detector is cut off, and stamps
    that overlap within a mask add up.
    """
    import sparse  # numba compiles on import: only who wants sparse masks waits for it

    index = np.asarray(mask_index, dtype=np.int64)
    if not len(index) == len(offset_x) == len(offset_y) or not len(index):
        raise DataError(
            "mask_index and both offsets need the same length of at least 1, "
            f"got {len(index)}, {len(offset_x)}, {len(offset_y)}"
        )
    y, x = np.mgrid[: template.shape[0], : template.shape[1]]
    at_y = np.asarray(offset_y, dtype=np.int64)[:, None] + y.ravel()
    at_x = np.asarray(offset_x, dtype=np.int64)[:, None] + x.ravel()
    inside = (at_y >= 0) & (at_y < size_y) & (at_x >= 0) & (at_x < size_x)
    mask = np.broadcast_to(index[:, None], at_y.shape)
    value = np.broadcast_to(template.ravel(), at_y.shape)
    coords = np.stack((mask[inside], at_y[inside], at_x[inside]))
    return sparse.COO(coords, value[inside], shape=(int(index.max()) + 1, size_y, size_x))


def _offsets(cx: float, cy: float, size_x: int, size_y: int) -> tuple[Float, Float]:
    """Return y and x relative to the centre, as a column and a row."""
    if size_x < 1 or size_y < 1:
        raise DataError(f"a mask needs at least one pixel, got size_x={size_x}, size_y={size_y}")
    return np.arange(size_y, dtype=np.float64)[:, None] - cy, np.arange(size_x, dtype=np.float64)[None] - cx


def _nearest_pixel(cx: float, cy: float, size_x: int, size_y: int) -> int | None:
    """Return the flat index of the pixel nearest to the centre, None when it lies outside."""
    y, x = round(cy), round(cx)
    return y * size_x + x if 0 <= y < size_y and 0 <= x < size_x else None


def _stack(
    pixels: list[npt.NDArray[np.int64]], weights: list[Float], size_x: int, size_y: int, use_sparse: bool
) -> Any:
    """Return the weights of each mask at its flat pixels as a stack, ``sparse.COO`` or dense."""
    which = np.repeat(np.arange(len(pixels)), [len(p) for p in pixels])
    flat, value = np.concatenate(pixels), np.concatenate(weights)
    if not use_sparse:
        dense = np.zeros((len(pixels), size_y * size_x), dtype=value.dtype)
        dense[which, flat] = value
        return dense.reshape(len(pixels), size_y, size_x)
    import sparse

    some = value != 0
    coords = np.stack((which[some], *np.divmod(flat[some], size_x)))
    return sparse.COO(coords, value[some], shape=(len(pixels), size_y, size_x))
