"""Kernels that draw disks with exact pixel areas into detector frames."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

# Each row of pixels is cut into 16 lines, along which the overlap of disk and pixel is exact: Gauss-Legendre
# nodes on the part of the row that the disk reaches, where equal spacing would be poor at the caps.
_NODES, _WEIGHTS = (0.5 * v for v in np.polynomial.legendre.leggauss(16))

UNIFORM, TILT, HALF, FRINGES, BRIGHT, DARK = range(6)


def disk_reference(
    shape: tuple[int, int], cy: float, cx: float, radius: float, oversampling: int = 64
) -> npt.NDArray[np.float64]:
    """Return the share of each pixel that lies in the disk, by counting points of a fine grid."""
    n = oversampling
    y, x = (((np.arange(s * n) + 0.5) / n - 0.5) for s in shape)
    inside = (y[:, None] - cy) ** 2 + (x[None] - cx) ** 2 <= radius**2
    return inside.reshape(shape[0], n, shape[1], n).mean(axis=(1, 3))


@numba.njit(nogil=True, cache=True)
def _pixel(at: float) -> int:
    """Return the pixel that holds the coordinate `at`."""
    return math.floor(at + 0.5)


@numba.njit(nogil=True, cache=True)
def add_disk(
    frame: npt.NDArray[Any], cy: float, cx: float, radius: float, value: float, ny: float, nx: float
) -> None:
    """Add `value` times the share of each pixel that lies in the disk.

    With a unit vector ``(ny, nx)`` other than zero, only the half of the disk on its side is drawn.
    """
    height, width = frame.shape
    clip = ny != 0.0 or nx != 0.0
    left, right = _pixel(cx - radius), _pixel(cx + radius)
    ends = np.zeros(right - left + 2)
    steps = np.zeros(right - left + 2)
    for j in range(max(0, _pixel(cy - radius)), min(height - 1, _pixel(cy + radius)) + 1):
        ends[:] = 0.0
        steps[:] = 0.0
        top, bottom = max(j - 0.5 - cy, -radius), min(j + 0.5 - cy, radius)
        for s in range(len(_NODES)):
            dy = 0.5 * (top + bottom) + (bottom - top) * _NODES[s]
            weight = (bottom - top) * _WEIGHTS[s]
            half = math.sqrt(max(0.0, radius * radius - dy * dy))
            start, stop = cx - half, cx + half
            if clip:
                if nx > 1e-12:
                    start = max(start, cx - ny * dy / nx)
                elif nx < -1e-12:
                    stop = min(stop, cx - ny * dy / nx)
                elif ny * dy < 0.0:
                    continue
            if start >= stop:
                continue
            # the two pixels at the ends hold parts of the line; those between are full: +1 here, -1 there
            first, last = _pixel(start) - left, _pixel(stop) - left
            if first == last:
                ends[first] += weight * (stop - start)
            else:
                ends[first] += weight * (left + first + 0.5 - start)
                ends[last] += weight * (stop - (left + last - 0.5))
                steps[first + 1] += weight
                steps[last] -= weight
        full = 0.0
        for k in range(right - left + 1):
            full += steps[k]
            share = full + ends[k]
            # what is left of full where the lines have ended is rounding
            if share > 1e-12 and 0 <= left + k < width:
                frame[j, left + k] += value * share


@numba.njit(nogil=True, cache=True)
def modulation(
    kind: int, u: float, radius: float, strength: float, phase: float, thickness: float, slope: float
) -> float:
    """Return the relative intensity at the distance `u` from the centre along the disk's direction.

    Tilt ``1 + strength u / R``; fringes ``1 + strength cos(2 pi u / 5 px + phase)``; two-beam rocking curve
    ``sin^2(pi t sqrt(1 + w^2)) / (1 + w^2)`` with ``w = phase + slope u / R`` (Williams and Carter,
    Transmission Electron Microscopy, 13), or one minus it for the direct beam.
    """
    if kind == TILT:
        return 1.0 + strength * u / radius
    if kind == FRINGES:
        return 1.0 + strength * math.cos(2.0 * math.pi * u / 5.0 + phase)
    w = phase + slope * u / radius
    rocking = math.sin(math.pi * thickness * math.sqrt(1.0 + w * w)) ** 2 / (1.0 + w * w)
    return rocking if kind == DARK else 1.0 - rocking


@numba.njit(nogil=True, cache=True)
def add_structured_disk(
    frame: npt.NDArray[Any],
    cy: float,
    cx: float,
    radius: float,
    value: float,
    kind: int,
    ny: float,
    nx: float,
    strength: float,
    phase: float,
    thickness: float,
    slope: float,
) -> None:
    """Add a disk whose inside varies along ``(ny, nx)``.

    The modulation is taken at the centroid of disk and pixel: exact for linear ones, second order for others.
    """
    height, width = frame.shape
    left, right = _pixel(cx - radius), _pixel(cx + radius)
    share = np.zeros(right - left + 1)
    at_y = np.zeros(right - left + 1)
    at_x = np.zeros(right - left + 1)
    for j in range(max(0, _pixel(cy - radius)), min(height - 1, _pixel(cy + radius)) + 1):
        share[:] = 0.0
        at_y[:] = 0.0
        at_x[:] = 0.0
        top, bottom = max(j - 0.5 - cy, -radius), min(j + 0.5 - cy, radius)
        for s in range(len(_NODES)):
            dy = 0.5 * (top + bottom) + (bottom - top) * _NODES[s]
            weight = (bottom - top) * _WEIGHTS[s]
            half = math.sqrt(max(0.0, radius * radius - dy * dy))
            for k in range(_pixel(cx - half) - left, _pixel(cx + half) - left + 1):
                a = max(cx - half, left + k - 0.5)
                b = min(cx + half, left + k + 0.5)
                if b > a:
                    share[k] += weight * (b - a)
                    at_y[k] += weight * (b - a) * dy
                    at_x[k] += weight * (b - a) * ((a + b) / 2.0 - cx)
        for k in range(max(0, -left), min(width - left, right - left + 1)):
            if share[k] > 0.0:
                u = (ny * at_y[k] + nx * at_x[k]) / share[k]
                level = modulation(kind, u, radius, strength, phase, thickness, slope)
                frame[j, left + k] += value * level * share[k]


@numba.njit(nogil=True, cache=True)
def render(
    out: npt.NDArray[Any],
    centres: npt.NDArray[Any],
    density: npt.NDArray[Any],
    radius: float,
    kind: npt.NDArray[Any],
    direction: npt.NDArray[Any],
    strength: float,
    phase: npt.NDArray[Any],
    thickness: npt.NDArray[Any],
    slope: npt.NDArray[Any],
) -> None:
    """Add the disks of each frame to `out`.

    Parameters
    ----------
    out
        ``(n, *sig)``, float: expected counts, added to.
    centres
        ``(n, m, 2)``, y and x, px.
    density
        ``(n, m)``, counts per px of each disk; disks of density 0 are skipped.
    radius
        px.
    kind
        ``(m,)``, one of the constants of this module.
    direction
        ``(m, 2)``, unit vectors (y, x) along which the inside varies.
    strength
        Of tilt and fringes.
    phase
        ``(n, m)``, of fringes and rocking curves.
    thickness
        ``(n,)``, in extinction distances.
    slope
        ``(m,)``, change of the excitation error across half a disk.
    """
    for n in range(out.shape[0]):
        for m in range(centres.shape[1]):
            value = density[n, m]
            if value <= 0.0:
                continue
            cy, cx = centres[n, m, 0], centres[n, m, 1]
            ny, nx = direction[m, 0], direction[m, 1]
            if kind[m] == UNIFORM:
                add_disk(out[n], cy, cx, radius, value, 0.0, 0.0)
            elif kind[m] == HALF:
                add_disk(out[n], cy, cx, radius, value * (1.0 - strength), 0.0, 0.0)
                add_disk(out[n], cy, cx, radius, value * 2.0 * strength, ny, nx)
            else:
                add_structured_disk(
                    out[n],
                    cy,
                    cx,
                    radius,
                    value,
                    kind[m],
                    ny,
                    nx,
                    strength,
                    phase[n, m],
                    thickness[n],
                    slope[m],
                )
