"""Radius and lattice of a dataset from nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.blobfinder.correlate import CropCorrelation
from framefold.udfs.blobfinder.disks import DiskPlan, measure_frames, plan_disks, scratch_of
from framefold.udfs.blobfinder.evidence import with_picture
from framefold.udfs.blobfinder.indexing import lattice_vectors, peaks_of, radius_of
from framefold.udfs.blobfinder.lattice import Lattice, LatticeFit, empty_lattices, fit_block
from framefold.udfs.blobfinder.meter import Peaks, empty_peaks
from framefold.udfs.blobfinder.patterns import Disk, Pattern, as_pattern
from framefold.udfs.blobfinder.survey import SurveyUDF, autocorrelation, isolated, spread_of
from framefold.udfs.pick import PickUDF

Float = npt.NDArray[np.float64]
_FRAMES, _EXAMPLES = 128, 12
_BLURRED = 0.5  # px: residual of a sum from which single frames are asked, too
_ADVICE = (
    "give radius= and lattice=(zero, a, b), each (y, x) in px, or roi= with the part of the scan that holds "
    "one crystal"
)


@dataclass(frozen=True, eq=False)
class FoundLattice:
    """What `find_lattice` found.

    Attributes
    ----------
    lattice
        Direct beam and lattice vectors.
    radius
        Of the disks, px.
    explained
        Share of the distances between disks that are lattice vectors, 0 to 1.
    residual
        RMS distance of the disks of the mean frame from the lattice per axis, px.
    mean
        Mean frame.
    bad
        Bool, signal shape: hot and dead pixels, which no disk explains.
    """

    lattice: Lattice
    radius: float
    explained: float
    residual: float
    mean: Float
    bad: npt.NDArray[np.bool_]

    def __repr__(self) -> str:
        z, a, b = (f"({y:.2f}, {x:.2f})" for y, x in self.lattice.rows())
        return (
            f"<lattice zero={z} a={a} b={b}, radius {self.radius:.2f} px, {100 * self.explained:.0f} % "
            f"explained, "
            f"residual {self.residual:.2f} px>"
        )


def find_lattice(
    ctx: Any, dataset: Any, radius: float | None = None, roi: Any = None, *, corrections: Any = None
) -> FoundLattice:
    """Find the radius of the disks and the lattice they lie on.

    Distances between disks come from the mean autocorrelation of a spread of frames, which neither descan nor
    bending blurs; then the mean frame tells where the lattice lies, and some single frames how large the
    disks are.

    Parameters
    ----------
    ctx
        A `Context`.
    dataset
        From ``ctx.load``; not a live stream, whose frames cannot be read twice.
    radius
        px, where it is known.
    roi
        Bool mask of navigation shape: look there only.

    Raises
    ------
    DataError
        If no lattice explains the frames; the message says what to give instead, and names a picture of mean
        frame and autocorrelation in the folder for temporary files (needs matplotlib).
    """
    nav, sig = tuple(dataset.shape.nav), tuple(dataset.shape.sig)
    if len(sig) != 2 or min(sig) < 16:
        raise DataError(f"find_lattice needs 2-D frames of at least 16x16 px, got {sig}")
    mask = None if roi is None else np.asarray(roi, dtype=bool).reshape(nav)
    if mask is not None and not mask.any():
        raise DataError("the roi holds no frame: mark at least one frame of the scan")
    frames = spread_of(nav, _FRAMES, mask)
    survey = ctx.run_udf(dataset, SurveyUDF(), roi=frames, corrections=corrections)
    total = np.array(survey["total"].data)
    bad = isolated(total)
    mean = total / max(1, int(survey["count"].data[0]))
    if not np.ptp(mean) > 0:
        raise DataError("the frames are constant: there are no disks in them")
    acf = autocorrelation(survey["power"].data, (sig[0], sig[1]))
    try:
        coarse = radius_of(acf) if radius is None else float(radius)
        if 6 * coarse > min(sig):
            raise DataError(
                f"the disks seem to have a radius of {coarse:.1f} px in frames of {sig} px: {_ADVICE}"
            )
        vectors, explained = lattice_vectors(peaks_of(acf, coarse), coarse)
        if explained < 0.6:
            raise DataError(
                f"the best lattice explains only {100 * explained:.0f} % of the distances between disks: "
                f"{_ADVICE}"
            )
        # disks cannot be larger than half of their distance
        coarse = min(coarse, 0.49 * Lattice((0.0, 0.0), _pair(vectors[0]), _pair(vectors[1])).spacing)
        lattice = Lattice(
            _pair(_brightest(np.where(bad, np.median(mean), mean), Disk(coarse))),
            _pair(vectors[0]),
            _pair(vectors[1]),
        )
        chosen = spread_of(nav, _EXAMPLES, mask)
        picked = ctx.run_udf(dataset, PickUDF(), roi=chosen, corrections=corrections)
        examples = np.asarray(next(iter(picked.values())).data).reshape(-1, *sig)
        for _ in range(2):
            if radius is None:
                coarse = _refined_radius(examples, lattice, coarse, bad)
            # the sum has more counts; single frames are sharp where descan is wider than a disk
            placed = [_placed(total[None], lattice, coarse, bad)]
            if placed[0] is None or placed[0][1] > _BLURRED:
                placed.append(_placed(examples, lattice, coarse, bad))
            known = [p for p in placed if p is not None]
            if not known:
                raise DataError(f"too few disks stand out for a lattice, which needs 5: {_ADVICE}")
            lattice, residual = min(known, key=lambda p: p[1])
    except DataError as error:
        raise with_picture(error, mean, acf) from error
    return FoundLattice(lattice, coarse, explained, residual, mean, bad)


def _pair(v: npt.ArrayLike) -> tuple[float, float]:
    y, x = np.asarray(v, dtype=np.float64)
    return float(y), float(x)


def _brightest(mean: Float, pattern: Pattern) -> Float:
    """Return where the template fits best, away from the border."""
    from scipy.signal import fftconvolve  # 100 ms

    half = pattern.half_width
    root = np.sqrt(np.maximum(mean, 0))
    corr = fftconvolve(root, pattern.template(half)[::-1, ::-1], mode="same")
    edge = int(np.ceil(pattern.radius))
    corr[:edge], corr[-edge:], corr[:, :edge], corr[:, -edge:] = (-np.inf,) * 4
    return np.array(np.unravel_index(int(np.argmax(corr)), corr.shape), dtype=np.float64)


def _plan(lattice: Lattice, radius: float, bad: npt.NDArray[np.bool_]) -> DiskPlan:
    return plan_disks(
        bad.shape, lattice, as_pattern(radius), CropCorrelation(), "auto", gain=1.0, min_snr=5.0,
        saturation=None, excluded=bad,
    )  # fmt: skip


def _peaks(plan: DiskPlan, frames: npt.NDArray[Any]) -> Peaks:
    out = empty_peaks(len(frames), len(plan.hk))
    measure_frames(plan, np.ascontiguousarray(frames, dtype=np.float32), None, out, scratch_of(plan))
    return out


def _placed(
    frames: Float, lattice: Lattice, radius: float, bad: npt.NDArray[np.bool_]
) -> tuple[Lattice, float] | None:
    """Return the median lattice of frames ``(n, *sig)`` and its residual, or None where no frame has one.

    Twice, because far disks need good vectors.
    """
    residual = np.nan
    for _ in range(2):
        plan = _plan(lattice, radius, bad)
        peaks = _peaks(plan, frames)
        out = empty_lattices(len(frames), len(plan.hk))
        # descan and strain blur a sum: what stands out counts, whether the model fits or not
        usable = (peaks.flags & 5) == 0
        usable &= peaks.prominence > 0.02 * np.nan_to_num(peaks.prominence).max(axis=1, keepdims=True)
        fit_block(peaks.centers, np.ones_like(peaks.sigma), usable, plan.hk, LatticeFit(sigma_floor=0.3), out)
        fine = np.isfinite(out.a).all(axis=1)
        if not fine.any():
            return None
        lattice = Lattice(*(_pair(np.median(v[fine], axis=0)) for v in (out.zero, out.a, out.b)))
        residual = float(np.median(out.residual[fine]))
    return lattice, residual


def _refined_radius(
    frames: npt.NDArray[Any], lattice: Lattice, start: float, bad: npt.NDArray[np.bool_]
) -> float:
    """Return the radius with the least chi2 over single frames, between 0.8 and 1.4 of `start`."""
    most = 0.499 * lattice.spacing
    radii = np.unique(np.minimum(start * np.linspace(0.8, 1.4, 25), most))
    costs = []
    for r in radii:
        plan = _plan(lattice, float(r), bad)
        peaks = _peaks(plan, frames)
        fine = ((peaks.flags & 11) == 0) & np.isfinite(peaks.chi2)
        # chi2 of bright disks tells most, and weak ones come and go with the radius
        strong = fine & (
            peaks.amplitude > 0.3 * np.nanmax(np.where(fine, peaks.amplitude, np.nan), initial=0)
        )
        costs.append(float(np.median(peaks.chi2[strong])) if strong.sum() >= 3 else np.inf)
    best = int(np.argmin(costs))
    if not np.isfinite(costs[best]):
        return start
    if 0 < best < len(radii) - 1 and np.isfinite(costs[best - 1]) and np.isfinite(costs[best + 1]):
        p = np.polyfit(radii[best - 1 : best + 2], costs[best - 1 : best + 2], 2)
        return float(-p[1] / (2 * p[0])) if p[0] > 0 else float(radii[best])
    return float(radii[best])
