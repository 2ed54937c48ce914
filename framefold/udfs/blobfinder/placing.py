"""The disks of a few frames, for finding: measured, their edge, and the lattice they lie on."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfs.blobfinder.correlate import CropCorrelation
from framefold.udfs.blobfinder.counting import Counting
from framefold.udfs.blobfinder.disks import DiskPlan, measure_frames, plan_disks, scratch_of
from framefold.udfs.blobfinder.edge import Edge, edge_of, sample_of
from framefold.udfs.blobfinder.inside import structured_edge
from framefold.udfs.blobfinder.kernels_fit import BORDER
from framefold.udfs.blobfinder.lattice import Lattice, LatticeFit, Lattices, empty_lattices, fit_block
from framefold.udfs.blobfinder.meter import Peaks, empty_peaks
from framefold.udfs.blobfinder.patterns import Disk

Float = npt.NDArray[np.float64]
_BETTER = 0.85  # of the misfit: free insides explain the disks


def survey_plan(lattice: Lattice, disk: Disk, bad: npt.NDArray[np.bool_], camera: Counting) -> DiskPlan:
    """Return how disks of a survey are measured."""
    return plan_disks(
        bad.shape, lattice, disk, CropCorrelation(), "auto", gain=camera.gain, min_snr=5.0,
        saturation=None, excluded=bad, pedestal=camera.pedestal,
    )  # fmt: skip


def peaks_in(plan: DiskPlan, frames: npt.NDArray[Any]) -> Peaks:
    """Return the disks of frames ``(n, *sig)``."""
    out = empty_peaks(len(frames), len(plan.hk))
    measure_frames(plan, np.ascontiguousarray(frames, dtype=np.float32), None, out, scratch_of(plan))
    return out


def best_edge(frames: Float, plan: DiskPlan, peaks: Peaks, known: bool) -> Edge | None:
    """Return the edge of even disks, or that of disks with free insides where these explain much more."""
    start, spacing = plan.meter.radius, plan.lattice.spacing
    even = edge_of(frames, peaks, start, spacing, ~plan.good, known=known)
    if even is None:
        return None
    out = rough_lattices(plan, peaks, (peaks.flags & 5) == 0)
    at = out.zero[:, None] + plan.hk[:, :1] * out.a[:, None] + plan.hk[:, 1:] * out.b[:, None]
    there = dataclasses.replace(peaks, centers=at.astype(np.float32), flags=peaks.flags & BORDER)
    sample = sample_of(frames, there, 1.3 * start, spacing, ~plan.good)
    free = None if sample is None else structured_edge(sample, start, spacing, known)
    return free if free is not None and free.spread < _BETTER * even.spread else even


def rough_lattices(plan: DiskPlan, peaks: Peaks, usable: npt.NDArray[np.bool_]) -> Lattices:
    """Return lattices of frames from all usable disks alike, whether the model fits them or not."""
    out = empty_lattices(*peaks.flags.shape)
    fit_block(peaks.centers, np.ones_like(peaks.sigma), usable, plan.hk, LatticeFit(sigma_floor=0.3), out)
    return out


def placed_lattice(
    frames: Float, lattice: Lattice, disk: Disk, bad: npt.NDArray[np.bool_], gain: float
) -> tuple[Lattice, float] | None:
    """Return the median lattice of frames ``(n, *sig)`` and its residual, or None where no frame has one.

    Twice, because far disks need good vectors.
    """
    residual = np.nan
    for _ in range(2):
        plan = survey_plan(lattice, disk, bad, Counting(gain))
        peaks = peaks_in(plan, frames)
        # descan and strain blur a sum: what stands out counts, whether the model fits or not
        usable = (peaks.flags & 5) == 0
        usable &= peaks.prominence > 0.02 * np.nan_to_num(peaks.prominence).max(axis=1, keepdims=True)
        out = rough_lattices(plan, peaks, usable)
        fine = np.isfinite(out.a).all(axis=1)
        if not fine.any():
            return None
        lattice = Lattice(*(pair(np.median(v[fine], axis=0)) for v in (out.zero, out.a, out.b)))
        residual = float(np.median(out.residual[fine]))
    return lattice, residual


def pair(v: npt.ArrayLike) -> tuple[float, float]:
    """Return (y, x) as floats."""
    y, x = np.asarray(v, dtype=np.float64)
    return float(y), float(x)
