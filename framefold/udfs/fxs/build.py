"""Make the polar operator of a detector: which pixel has which share in which bin."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from framefold.errors import DataError
from framefold.udfs.fxs import regrid_kernels as kernels
from framefold.udfs.fxs.bilinear import bilinear_entries
from framefold.udfs.fxs.geometry import Geometry
from framefold.udfs.fxs.grid import PolarGrid
from framefold.udfs.fxs.pixels import PixelModel
from framefold.udfs.fxs.regrid import PolarOperator

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def build_operator(
    geometry: Geometry,
    grid: PolarGrid,
    pixels: PixelModel | None = None,
    *,
    splitting: str = "subpixel",
    min_coverage: float = 0.5,
    weight: str = "binary",
) -> PolarOperator:
    """Make the polar operator of a detector.

    Parameters
    ----------
    geometry, grid, pixels
        Where pixels are, which bins, and what counts mean.
    splitting
        ``"subpixel"`` cuts each pixel in 3 x 3 parts and more where bins are narrow. ``"none"`` gives a
        pixel to the bin of its centre: more variance in the outer bins, holes in the inner ones.
        ``"bilinear"`` interpolates at the centre of each bin, for flat detectors: it reads four pixels per
        bin and leaves out all others, so that outer bins lose most photons.
    min_coverage
        Bins with less have weight 0.
    weight
        ``"binary"``: weight 1 elsewhere; ``"coverage"``: weight is the coverage.

    Raises
    ------
    DataError
        If the grid reaches beyond the detector, or no pixel is good.
    """
    pixels = pixels or PixelModel()
    if splitting not in ("subpixel", "none", "bilinear"):
        raise DataError(f"splitting={splitting!r} is not one of 'subpixel', 'none', 'bilinear'")
    if weight not in ("binary", "coverage"):
        raise DataError(f"weight={weight!r} is not one of 'binary', 'coverage'")
    key = repr((geometry.identity, grid, pixels.identity, splitting, min_coverage, weight))
    with _one_at_a_time:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
        operator = _build(geometry, grid, pixels, splitting, min_coverage, weight)
        _cache[key] = operator
        while len(_cache) > 2:
            _cache.popitem(last=False)
    return operator


_cache: OrderedDict[str, PolarOperator] = OrderedDict()
_one_at_a_time = threading.Lock()  # fold lanes share transforms


def _build(
    geometry: Geometry, grid: PolarGrid, model: PixelModel, splitting: str, min_coverage: float, weight: str
) -> PolarOperator:
    q = geometry.q()
    q_detector = float(q.max() if geometry.absent is None else q.max(where=~geometry.absent, initial=0.0))
    if grid.q_max > q_detector:
        raise DataError(
            f"q_max={grid.q_max:g} lies beyond the detector, whose corners reach {q_detector:.4g} 1/Angstrom"
        )
    if splitting == "bilinear":
        pixel, target, share = bilinear_entries(geometry, grid)
    else:
        pixel, target, share = _entries(geometry, grid, 1 if splitting == "none" else 3)
    if geometry.absent is not None:  # what is not there is no hole in its bin
        there = ~np.asarray(geometry.absent, bool).reshape(-1)[pixel]
        pixel, target, share = pixel[there], target[there], share[there]
    response, dark, good = model.response(geometry), model.dark_counts(geometry), model.good(geometry)
    good = good & np.isfinite(response) & (response > 0) & np.isfinite(dark)
    if not good.any():
        raise DataError("no pixel is good: all are masked, or have a gain that is not positive")
    n_bins = grid.n_q * grid.n_phi
    whole = np.bincount(target, share * np.where(good, response, model.adu_per_photon or 1.0)[pixel], n_bins)
    keep = good[pixel]
    pixel, target, share = pixel[keep], target[keep], share[keep]
    total = np.bincount(target, share * response[pixel], n_bins)
    ring = whole.reshape(grid.shape)
    median = np.array([np.median(row[row > 0]) if (row > 0).any() else 1.0 for row in ring])
    reference = np.maximum(ring, median[:, None])
    coverage = total.reshape(grid.shape) / reference
    inside = coverage >= min_coverage
    covered = float(inside.mean())
    if covered < 0.5:
        warnings.warn(
            f"only {100 * covered:.0f} % of the polar bins are covered by good pixels: "
            "check q_min, q_max, the centre and the mask",
            stacklevel=4,
        )
    polar_weight = np.where(inside, coverage if weight == "coverage" else 1.0, 0.0).astype(np.float32)
    keep = inside.reshape(-1)[target]
    pixel, target, share = pixel[keep], target[keep], share[keep]
    values = (share / total[target]).astype(np.float32)
    n_pixels = int(np.prod(geometry.shape))
    matrix = scipy.sparse.csr_matrix((values, (target, pixel)), shape=(n_bins, n_pixels))
    usable = np.where(good, dark, 0.0)
    offset = matrix.astype(np.float64) @ usable
    return PolarOperator(
        grid, geometry.shape, matrix, offset, coverage, polar_weight, np.where(good, response, 0.0), usable
    )


def _entries(geometry: Geometry, grid: PolarGrid, parts: int) -> tuple[Array, Array, Floats]:
    """Return pixel, bin and area share of all pairs that overlap."""
    centre, e1, e2 = geometry.frames_of_pixels()
    room = 3 * centre.shape[1] + 65536
    while True:
        pixel, target, share = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room)
        n = kernels.split_pixels(
            centre, e1, e2, 4 * np.pi / (geometry.wavelength * 1e10), grid.q_min, grid.q_step, grid.n_q,
            grid.n_phi, parts, pixel, target, share,
        )  # fmt: skip
        if n >= 0:
            return pixel[:n], target[:n], share[:n]
        room *= 2
