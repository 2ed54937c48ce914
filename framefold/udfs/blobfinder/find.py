"""Radius and lattice of a dataset from nothing."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.blobfinder.counting import Counting, counting_of
from framefold.udfs.blobfinder.evidence import with_picture
from framefold.udfs.blobfinder.indexing import lattice_vectors, peaks_of, radius_of, without_slow
from framefold.udfs.blobfinder.lattice import (
    Lattice,
    as_lattice,
)
from framefold.udfs.blobfinder.patterns import Disk, Pattern
from framefold.udfs.blobfinder.placing import best_edge, pair, peaks_in, placed_lattice, survey_plan
from framefold.udfs.blobfinder.survey import SurveyUDF, autocorrelation, isolated, spread_of
from framefold.udfs.pick import PickUDF

Float = npt.NDArray[np.float64]
_FRAMES, _EXAMPLES = 128, 12
_CLEAR = 100  # disks that tell a radius
_LARGEST = 4.5  # disks in a frame of the least size in which lattices can be told
_SLOW = (6.0, 10.0, 16.0, 24.0)  # of a frame: what varies slower is told from disks, where it must be
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
    radius, softness
        Of the disks and of the blur of their edges, px.
    gain
        Counts per electron: of frames that do not hold whole numbers from the noise of the disks; else 1,
        unless the noise beside the disks refutes it.
    pedestal
        Counts of no electron, see `counting.Counting`; 0 unless the noise beside the disks refutes it.
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
    softness: float
    gain: float
    explained: float
    residual: float
    mean: Float
    bad: npt.NDArray[np.bool_]
    pedestal: float = 0.0

    def __repr__(self) -> str:
        z, a, b = (f"({y:.2f}, {x:.2f})" for y, x in self.lattice.rows())
        return (
            f"<lattice zero={z} a={a} b={b}, radius {self.radius:.2f} px, blur {self.softness:.2f} px, "
            f"{100 * self.explained:.0f} % explained, residual {self.residual:.2f} px>"
        )


def find_lattice(
    ctx: Any, dataset: Any, radius: float | None = None, roi: Any = None, *,
    lattice: Lattice | npt.ArrayLike | None = None, corrections: Any = None,
) -> FoundLattice:  # fmt: skip
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
    lattice
        ``(zero, a, b)``, each (y, x) in px, where it is known: only the disks are looked at.

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
        if lattice is None:
            start, coarse, explained = _spanned(acf, np.where(bad, np.median(mean), mean), radius)
        else:
            start, explained = as_lattice(lattice), 1.0
            coarse = min(_coarse_radius(acf, start, radius), 0.49 * start.spacing)
        examples = _examples(ctx, dataset, start, coarse, bad, mask, corrections)
        disk, count = Disk(coarse), max(1, int(survey["count"].data[0]))
        # counts below zero were subtracted: nothing is known of the rest yet
        camera = Counting(1.0, min(0.0, float(np.nanquantile(examples, 0.05))))
        known = radius is not None
        whole = bool((examples == np.rint(examples)).all())
        for _ in range(2):
            plan = survey_plan(start, disk, bad, camera)
            peaks = peaks_in(plan, examples)
            seen = best_edge(examples - camera.pedestal, plan, peaks, known)
            if seen is not None:
                disk = Disk(seen.radius, seen.softness)
                camera = counting_of(
                    examples, peaks, plan.expected, seen.radius, seen.softness, bad,
                    1.0 if whole else seen.spread,
                )  # fmt: skip
            # the sum has more counts; single frames are sharp where descan is wider than a disk
            placed = [placed_lattice(total[None] - count * camera.pedestal, start, disk, bad, camera.gain)]
            if placed[0] is None or placed[0][1] > _BLURRED:
                placed.append(placed_lattice(examples - camera.pedestal, start, disk, bad, camera.gain))
            fits = [p for p in placed if p is not None]
            if fits and lattice is None:
                start, residual = min(fits, key=lambda p: p[1])
            elif fits:
                residual = min(p[1] for p in fits)
            else:
                raise DataError(f"too few disks stand out for a lattice, which needs 5: {_ADVICE}")
    except DataError as error:
        raise with_picture(error, mean, acf) from error
    return FoundLattice(
        start, disk.radius, disk.softness, camera.gain, explained, residual, mean, bad, camera.pedestal
    )


def _spanned(acf: Float, mean: Float, radius: float | None) -> tuple[Lattice, float, float]:
    """Return lattice, coarse radius and explained share from an autocorrelation and a mean frame.

    Raises
    ------
    DataError
        If there is no lattice.
    """
    try:
        return _spanned_once(acf, mean, radius)
    except DataError:
        for share in _SLOW:
            with contextlib.suppress(DataError):
                return _spanned_once(without_slow(acf, min(mean.shape) / share), mean, radius)
        raise


def _spanned_once(acf: Float, mean: Float, radius: float | None) -> tuple[Lattice, float, float]:
    coarse = radius_of(acf) if radius is None else float(radius)
    if _LARGEST * coarse > min(mean.shape):
        raise DataError(
            f"the disks seem to have a radius of {coarse:.1f} px in frames of {mean.shape} px: {_ADVICE}"
        )
    vectors, explained = lattice_vectors(peaks_of(acf, coarse), coarse)
    if explained < 0.6:
        raise DataError(
            f"the best lattice explains only {100 * explained:.0f} % of the distances between disks: "
            f"{_ADVICE}"
        )
    a, b = pair(vectors[0]), pair(vectors[1])
    # disks cannot be larger than half of their distance
    coarse = max(1.0, min(coarse, 0.49 * Lattice((0.0, 0.0), a, b).spacing))
    return Lattice(pair(_brightest(mean, Disk(coarse))), a, b), coarse, explained


def _coarse_radius(acf: Float, lattice: Lattice, radius: float | None) -> float:
    """Return the radius, from the autocorrelation if it tells one, else a quarter of the spacing."""
    if radius is not None:
        return float(radius)
    try:
        return max(1.0, radius_of(acf))
    except DataError:
        return 0.25 * lattice.spacing


def _examples(
    ctx: Any, dataset: Any, lattice: Lattice, radius: float, bad: npt.NDArray[np.bool_],
    mask: npt.NDArray[np.bool_] | None, corrections: Any,
) -> npt.NDArray[Any]:  # fmt: skip
    """Return some frames ``(n, *sig)``: more of them where few disks stand out of each."""
    nav, sig = tuple(dataset.shape.nav), bad.shape
    most = max(_EXAMPLES, min(_FRAMES, (1 << 25) // bad.size))
    for n in (_EXAMPLES, most):
        picked = ctx.run_udf(dataset, PickUDF(), roi=spread_of(nav, n, mask), corrections=corrections)
        frames = np.asarray(next(iter(picked.values())).data).reshape(-1, *sig)
        clear = (peaks_in(survey_plan(lattice, Disk(radius), bad, Counting()), frames).flags & 15) == 0
        if clear.sum() >= _CLEAR:
            break
    return frames


def _brightest(mean: Float, pattern: Pattern) -> Float:
    """Return where the template fits best, away from the border."""
    from scipy.signal import fftconvolve  # 100 ms

    half = pattern.half_width
    root = np.sqrt(np.maximum(mean - min(0.0, float(np.quantile(mean, 0.05))), 0))
    root -= np.median(root)  # what lies beyond the border is zero
    corr = fftconvolve(root, pattern.template(half)[::-1, ::-1], mode="same")
    edge = int(np.ceil(pattern.radius))
    corr[:edge], corr[-edge:], corr[:, :edge], corr[:, -edge:] = (-np.inf,) * 4
    return np.array(np.unravel_index(int(np.argmax(corr)), corr.shape), dtype=np.float64)
