"""Resolution of a reconstruction from two independent halves of the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, UDFError
from framefold.udfcore.roi import as_roi
from framefold.udfs.ptycho.engines.ml import ML
from framefold.udfs.ptycho.ptychography import Ptychography
from framefold.udfs.ptycho.quality import ring_correlation
from framefold.udfs.ptycho.recipe import Recipe

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class HalfSets:
    """Fourier ring correlation of two half sets, what it says of the whole, and the halves.

    Attributes
    ----------
    frequency
        Of each ring, cycles per m.
    frc
        Correlation of the halves.
    half_bit, one_seventh
        Thresholds: a curve, and 1/7.
    ssnr
        Signal to noise, spectral, of the whole set: ``2 frc / (1 - frc)``; infinite at 1.
    resolution
        Half the period at which the correlation falls below the half-bit curve first, m.
    reaches_pixels
        Whether it never does: the resolution is a pixel or better.
    split
        How the set was halved.
    halves
        Objects on one grid, complex.
    weight
        Illumination of the less lit half on that grid.
    """

    frequency: Float
    frc: Float
    half_bit: Float
    one_seventh: float
    ssnr: Float
    resolution: float
    reaches_pixels: bool
    split: str
    halves: tuple[Array, Array]
    weight: Array

    def __str__(self) -> str:
        least = "or better, a pixel" if self.reaches_pixels else "half a bit of the halves' correlation"
        how = "half of the counts each" if self.split == "thin" else "every other scan point each"
        return f"resolution {self.resolution * 1e9:.4g} nm ({least}; {how})"

    def save(self, path: str | Path) -> None:
        """Write the curves as CSV."""
        table = np.column_stack([self.frequency, self.frc, self.half_bit, self.ssnr])
        header = f"{self}\nfrequency (1/m),frc,half_bit,ssnr"
        np.savetxt(path, table, fmt="%.8g", delimiter=",", header=header)


def frc(
    ctx: Any,
    dataset: Any,
    udf: Ptychography | None = None,
    split: Literal["thin", "scan"] = "thin",
    n: int | None = None,
    polish: int = 20,
    **run: Any,
) -> HalfSets:
    """Reconstruct two halves of a scan and return what their correlation says about the resolution.

    Both begin with the same probe, which the whole scan gives where `udf` has none, and see nothing of each
    other afterwards.

    Parameters
    ----------
    ctx
        A `framefold.Context`.
    dataset
        From ``ctx.load``.
    udf
        The reconstruction; None: ``Ptychography()``.
    split
        ``"thin"``: each count goes to one of the halves by a coin, exact for Poisson counts, which keeps
        all positions; ``"scan"``: every other scan point, for data that are not counts. That halves the
        overlap too, and is pessimistic.
    n
        Most iterations of the recipe.
    polish
        Iterations of Poisson `ML` at the end of each half, unless the recipe ends with `ML`. Other engines
        fit amplitudes, whose mean at few counts lies below the root of the mean: an error that both halves
        share, which would pass for signal. 0: leave the recipe alone.
    **run
        ``roi=``, ``corrections=``, ``pre=`` and others of ``ctx.iterate``.

    Raises
    ------
    UDFError
        If `split` is unknown, or `udf` is a half already.
    DataError
        If frames to be thinned are not counts, or the halves share less than 8 x 8 pixels.

    Notes
    -----
    M. van Heel, M. Schatz, J. Struct. Biol. 151 (2005) 250: the half-bit curve over halves bounds the
    information of the whole set.

    Examples
    --------
    >>> # found = frc(ctx, ctx.load("scan.cxi"), Ptychography(modes=2))
    >>> # found.resolution  # m
    """
    if split not in ("thin", "scan"):
        raise UDFError(f"split={split!r} is not 'thin' or 'scan'")
    udf = Ptychography() if udf is None else udf
    if n is not None and n < 1:
        raise UDFError(f"n={n} must be at least 1")
    if udf.params.half is not None:
        raise UDFError(f"frc halves the data itself: leave half={udf.params.half} away")
    given = {**vars(udf.params), "recipe": _polished(udf.recipe, n, polish)}
    dataset = dataset if hasattr(dataset, "shape") and hasattr(dataset, "metadata") else ctx.load(dataset)
    if given["probe"] is None:
        # one search for the defocus: two might end at the two signs
        given["probe"] = ctx.iterate(dataset, Ptychography(**given), n=1, **run).to_end()["raw_probe"].data
    found, origins, weights = [], [], []
    for half in (0, 1):
        job = Ptychography(**{**given, "half": half if split == "thin" else None})
        keywords = dict(run)
        if split == "scan":
            keywords["roi"] = _every_other(tuple(dataset.shape.nav), half, run.get("roi"))
        result = ctx.iterate(dataset, job, **keywords).to_end()
        obj = result["object"].data
        found.append(obj if obj.ndim == 2 else obj[0])
        weights.append(result["illumination"].data)
        origins.append(np.rint(job.setup.canvas.origin).astype(int))
    boxes = _common(origins, [o.shape for o in found])
    a, b = (o[box] for o, box in zip(found, boxes, strict=True))
    weight = np.minimum(*(w[box] for w, box in zip(weights, boxes, strict=True)))
    curve = ring_correlation(a, b, weight)
    size = max(job.setup.pixel_size)  # rings are round in pixels: the coarser axis is the safe one
    with np.errstate(divide="ignore"):
        ssnr = 2 * curve.frc / np.maximum(1 - curve.frc, 0)
    reaches = not bool((curve.frc < curve.half_bit)[1:].any())
    return HalfSets(
        curve.frequency / size, curve.frc, curve.half_bit, curve.one_seventh, ssnr, curve.resolution * size,
        reaches, split, (a, b), weight,
    )  # fmt: skip


def _polished(recipe: Recipe, n: int | None, polish: int) -> Recipe:
    """Return the first `n` iterations of a recipe, and `polish` of `ML` if it ends otherwise."""
    stages: list[Any] = []
    for stage in recipe.stages:
        if n is None or not hasattr(stage, "iterate"):
            stages.append(stage)
        elif n > 0:
            stages.append(replace(stage, n=n if stage.n is None else min(n, stage.n)))
            n -= stages[-1].n
    if polish > 0 and not isinstance(stages[-1], ML):
        stages.append(ML(polish))
    return Recipe(tuple(stages))


def _every_other(nav: tuple[int, ...], half: int, roi: Any) -> npt.NDArray[np.bool_]:
    """Return every other scan point, as on a chess board."""
    flags = np.indices(nav).sum(axis=0) % 2 == half
    chosen = as_roi(roi, nav)
    return flags if chosen is None else flags & chosen


def _common(origins: list[npt.NDArray[np.int64]], shapes: list[tuple[int, ...]]) -> list[tuple[slice, slice]]:
    """Return where the canvases have in common, as slices of each."""
    low = np.max(origins, axis=0)
    high = np.min([o + s for o, s in zip(origins, shapes, strict=True)], axis=0)
    if (high <= low).any():
        raise DataError("the two halves of the scan see different places: there is nothing to compare")
    return [
        (slice(int(a[0]), int(b[0])), slice(int(a[1]), int(b[1])))
        for a, b in ((low - o, high - o) for o in origins)
    ]
