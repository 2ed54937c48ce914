"""Kernel that takes the slope of the background around a disk out of its counts.

A diffuse halo falls off across a disk: a constant background then pushes the centre uphill by about
``R slope / A``, the same way for all disks on one side of the beam, which no residual of a lattice tells.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

#: a slope counts where a flat background is less likely than this in chi2 (2 degrees of freedom)
SIGNIFICANT = 8.0
#: and where it moves the centre by more than this part of its standard deviation
MATTERS = 0.2
#: what an exponential may leave of the shift: halos are no exponentials
LEFT = 0.15
#: pixels of the ring that tell a slope
LEAST = 16
STEPS = 4


def beyond(offsets: Array, clear: float) -> npt.NDArray[np.bool_]:
    """Return which `offsets` ``(n, 2)`` may be `clear` px away from a centre within the pixel."""
    return np.asarray(np.hypot(offsets[:, 0], offsets[:, 1]) >= clear - 0.7)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def take_slope(
    crop: Array, good: Array, iy: int, ix: int, offsets: Array, ring: Array, radius: float, clear: float,
    gain: float, cy: float, cx: float, height: float, sigma: float, out: Array,
) -> bool:  # fmt: skip  # pragma: no cover - compiled
    """Subtract what a sloping background has more than a flat one, where it matters; return whether it did.

    The background is ``b exp(g . u)``, fitted to the counts in the ring by maximum likelihood: it stays
    positive, and follows the curvature of a steep halo along its slope.

    Parameters
    ----------
    crop, good, iy, ix, offsets
        See `fit_disk`; `crop` is changed at the offsets.
    ring
        The offsets `beyond` the disk, ``(r, 2)``; those count that are `clear` px away from its centre.
    radius, gain
        Of the disk, px; counts per electron.
    cy, cx, height, sigma
        Of the disk as fitted on a flat background; its centre relative to (iy, ix).
    out
        ``(3,)``: shift of the centre along y and x (px) that is taken out, and its standard deviation.
    """
    n, total, ty, tx, sy, sx, squares = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    counts, kept, width = crop.reshape(-1), good.reshape(-1), crop.shape[1]
    at, nearest = iy * width + ix, clear * clear
    for k in range(ring.shape[0]):
        y, x = ring[k, 0], ring[k, 1]
        if (y - cy) ** 2 + (x - cx) ** 2 < nearest:
            continue
        i = at + y * width + x
        e, d = kept[i], counts[i]
        n += e
        total += e * d
        ty += e * d * y
        tx += e * d * x
        sy += e * y
        sx += e * x
        squares += e * (y * y + x * x)
    if n < LEAST or not total > 0.0 or not height > 0.0:
        return False
    b = total / n
    ty -= b * sy
    tx -= b * sx
    half = 0.5 * squares
    slope = math.hypot(ty, tx) / half
    if slope * slope * half < SIGNIFICANT * b * gain or radius * slope < MATTERS * sigma * height:
        return False
    gy, gx = ty / (half * b), tx / (half * b)
    end = 2.0 / radius
    for _ in range(STEPS):
        size = math.hypot(gy, gx)
        if size > end:
            gy, gx = gy * end / size, gx * end / size
        # b is the best for this slope; then a Newton step in the slope alone
        m0, my, mx, myy, mxx, mxy, dy, dx = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(ring.shape[0]):
            y, x = float(ring[k, 0]), float(ring[k, 1])
            if (y - cy) ** 2 + (x - cx) ** 2 < nearest:
                continue
            i = at + ring[k, 0] * width + ring[k, 1]
            e, d = kept[i], counts[i]
            m = e * math.exp(gy * y + gx * x)
            m0 += m
            my += m * y
            mx += m * x
            myy += m * y * y
            mxx += m * x * x
            mxy += m * x * y
            dy += e * d * y
            dx += e * d * x
        b = total / m0
        ry, rx = dy - b * my, dx - b * mx
        vyy, vxx, vxy = b * (myy - my * my / m0), b * (mxx - mx * mx / m0), b * (mxy - my * mx / m0)
        det = vyy * vxx - vxy * vxy
        if not det > 1e-6 * vyy * vxx:
            return False
        gy += (vxx * ry - vxy * rx) / det
        gx += (vyy * rx - vxy * ry) / det
    size = math.hypot(gy, gx)
    if not size < end:
        gy, gx = gy * end / size, gx * end / size
    for k in range(offsets.shape[0]):
        y, x = offsets[k, 0], offsets[k, 1]
        counts[at + y * width + x] -= np.float32(b * (math.exp(gy * y + gx * x) - 1.0))
    out[0], out[1] = radius * b * gy / height, radius * b * gx / height
    out[2] = radius * math.sqrt(b * gain / half) / height
    return True
