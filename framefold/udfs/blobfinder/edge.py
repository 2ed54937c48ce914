"""Radius, softness and counts per electron of disks, by maximum likelihood of their edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfs.blobfinder.kernels_edge import edge_costs
from framefold.udfs.blobfinder.kernels_fit import BORDER, CLIPPED, LOW_SNR, NOT_CONVERGED
from framefold.udfs.blobfinder.meter import Peaks
from framefold.udfs.blobfinder.patterns import SHARP

Array = npt.NDArray[Any]
_MOST, _LEAST = 300, 10  # disks
#: below so many counts a disk says nothing about its inside
_FEW = 400.0
_SOFTEST = 0.4  # of the radius


@dataclass(frozen=True)
class Edge:
    """Of disks.

    Attributes
    ----------
    radius, softness
        px.
    spread
        Variance over mean of their counts about the model: counts per electron where it holds.
    """

    radius: float
    softness: float
    spread: float


@dataclass(frozen=True, eq=False)
class Sample:
    """Pixels of n disks.

    Attributes
    ----------
    counts, good
        ``(n, k)`` float32: counts, and 1 where they count.
    py, px
        ``(k,)`` float32: places.
    first
        ``(n, 6)``: background, height, its change along y and x, centre on the scale of the places.
    """

    counts: Array
    good: Array
    py: Array
    px: Array
    first: Array


def edge_of(
    frames: Array, peaks: Peaks, start: float, spacing: float, bad: Array, known: bool = False
) -> Edge | None:
    """Return the edge that explains the measured disks best, or None where too few of them are bright.

    Parameters
    ----------
    frames
        ``(n, *sig)``.
    peaks
        Their disks, measured with the radius `start`.
    start
        px; the radius is looked for between 0.8 and 1.4 of it, below half of `spacing`.
    spacing
        Of neighbouring disks, px.
    bad
        Bool, signal shape: pixels to leave out.
    known
        Keep the radius `start`.
    """
    sample = sample_of(frames, peaks, start, spacing, bad)
    if sample is None:
        return None
    counts, good, py, px, first = sample.counts, sample.good, sample.py, sample.px, sample.first
    tilted = bool(np.median(first[:, 1]) * np.pi * start**2 > _FEW)
    costs, spread = np.empty(len(counts)), np.empty(len(counts))

    def run(radius: float, softness: float) -> npt.NDArray[np.float64]:
        edge_costs(counts, good, py, px, first, tilted, radius, softness, costs, spread)
        return costs

    most = 0.499 * spacing
    run(start, 0.3)
    # what the model does not explain counts as noise: disks with structure say less
    weight = 1.0 / np.maximum(spread, 1e-30)

    def cost(v: npt.NDArray[np.float64]) -> float:
        radius, softness = float(v[0]), float(np.exp(v[1]))
        radius = start if known else radius
        if not (1.0 <= radius <= most and SHARP <= softness <= _SOFTEST * radius):
            return np.inf
        return float(weight @ run(radius, softness))

    from scipy.optimize import minimize  # 100 ms

    tries = [
        (cost(np.array([r, np.log(s)])), r, s)
        for r in np.unique(np.clip(start * np.linspace(0.8, 1.4, 19), 1.0, most))
        for s in (0.2, 0.12 * start)
    ]
    _, r, s = min(tries)
    simplex = np.array([[r, np.log(s)], [r + 0.02 * start, np.log(s)], [r, np.log(s) + 0.5]])
    simplex[:, 0] = np.minimum(simplex[:, 0], most)
    found = minimize(
        cost, simplex[0], method="Nelder-Mead",
        options={"initial_simplex": simplex, "maxfev": 60, "xatol": 2e-3, "fatol": 0.05},
    )  # fmt: skip
    radius, softness = start if known else float(found.x[0]), float(np.exp(found.x[1]))
    run(radius, softness)
    return Edge(radius, softness, float(np.median(spread)))


def sample_of(frames: Array, peaks: Peaks, radius: float, spacing: float, bad: Array) -> Sample | None:
    """Return pixels around the brightest disks, or None where there are not three."""
    usable = np.isfinite(peaks.centers).all(axis=-1) & np.isfinite(peaks.amplitude)
    for bad_flags in (BORDER | CLIPPED | NOT_CONVERGED | LOW_SNR, BORDER | CLIPPED | NOT_CONVERGED, BORDER):
        at = np.argwhere(usable & ((peaks.flags & bad_flags) == 0))
        if len(at) >= _LEAST:
            break
    if len(at) < 3:
        return None
    at = at[np.argsort(-peaks.amplitude[tuple(at.T)])[:_MOST]]
    # neighbours must stay outside, some background inside
    limit = min(1.4 * radius + 3.0, max(radius + 1.5, spacing - radius - 1.0))
    reach = int(np.ceil(limit))
    grid = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T
    grid = grid[np.hypot(*grid.T) < limit]
    n, m = at.T
    centre = peaks.centers[n, m].astype(np.float64)
    whole = np.rint(centre).astype(np.int64)
    y, x = whole[:, :1] + grid[:, 0], whole[:, 1:] + grid[:, 1]
    inside = (y >= 0) & (y < frames.shape[1]) & (x >= 0) & (x < frames.shape[2])
    y, x = np.clip(y, 0, frames.shape[1] - 1), np.clip(x, 0, frames.shape[2] - 1)
    counts = frames[n[:, None], y, x].astype(np.float32)
    good = inside & ~bad[y, x] & np.isfinite(counts)
    counts[~good] = 0.0
    first = np.zeros((len(at), 6))
    first[:, 0], first[:, 1] = peaks.background[n, m], peaks.amplitude[n, m]
    first[:, 4:] = centre - whole
    py, px = (np.ascontiguousarray(v, dtype=np.float32) for v in grid.T)
    return Sample(counts, good.astype(np.float32), py, px, first)
