"""The beam centre from a mean frame, which has no angular orders when the centre is right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.fxs.build import build_operator
from framefold.udfs.fxs.geometry import Geometry
from framefold.udfs.fxs.grid import PolarGrid
from framefold.udfs.fxs.pixels import PixelModel

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
STEP = 0.5  # pixels: differences this wide average over the steps with which pixels change bins


def refine_centre(
    saxs_frame: Array,
    geometry: Geometry,
    grid: PolarGrid,
    pixels: PixelModel | None = None,
    *,
    tolerance: float = 0.005,
    limit: float = 20.0,
) -> Geometry:
    """Return the geometry with the centre that leaves least power in angular orders 1 and 2 of a mean frame.

    Each ring of the polar frame is fitted by ``a0 + sum_m (a_m cos m phi + b_m sin m phi)``, m = 1, 2, over
    its good bins, so that masks do no harm. The sum of ``(a_m^2 + b_m^2) / a0`` over rings is minimised by
    Gauss-Newton steps. Polarisation is an order 2: leave it corrected.

    Parameters
    ----------
    saxs_frame
        Mean or sum of many frames, of the shape of the geometry, for instance from `SumUDF`.
    geometry
        The start. With a map of pixels, the map is shifted across the beam.
    grid
        Rings and angles; a few dozen rings of 64 angles are enough.
    pixels
        What counts mean, see `PixelModel`.
    tolerance
        Length of the last step in pixels.
    limit
        How far the centre may go from its start, in pixels.

    Raises
    ------
    DataError
        If the frame has another shape, too few bins are good, or the centre runs away.
    """
    frame = np.asarray(saxs_frame, dtype=np.float64)
    if frame.shape != geometry.shape:
        raise DataError(f"the frame has shape {frame.shape}, the geometry {geometry.shape}")
    model = pixels or PixelModel()
    at = np.zeros(2)
    here = _orders(frame, geometry, grid, model, at)
    for _ in range(30):
        jacobian = np.stack(
            [
                (
                    _orders(frame, geometry, grid, model, at + d)
                    - _orders(frame, geometry, grid, model, at - d)
                ).reshape(-1)
                / (2 * STEP)
                for d in (np.array([STEP, 0]), np.array([0, STEP]))
            ],
            axis=1,
        )
        known = np.isfinite(jacobian).all(axis=1) & np.isfinite(here.reshape(-1))
        if known.sum() < 8:
            raise DataError("refine_centre: fewer than two rings are covered all around: check grid and mask")
        step = -np.linalg.lstsq(jacobian[known], here.reshape(-1)[known], rcond=None)[0]
        step /= max(1.0, float(np.linalg.norm(step)) / 4)  # beyond a few pixels the model is not linear
        at = at + step
        if np.linalg.norm(at) > limit:
            raise DataError(
                f"refine_centre: the centre moved more than limit={limit:g} pixels: the frame is not "
                "isotropic, or the start is too far off"
            )
        if np.linalg.norm(step) < tolerance:
            return moved(geometry, at)
        here = _orders(frame, geometry, grid, model, at)
    raise DataError("refine_centre: no centre after 30 steps: the mean frame is not isotropic on this grid")


def moved(geometry: Geometry, pixels: Array) -> Geometry:
    """Return the geometry with its centre moved by (rows, columns) in pixels."""
    if geometry.pixel_map is None:
        row, column = geometry.centre
        return geometry.with_centre(row + pixels[0], column + pixels[1])
    p1, p2 = geometry.pixel_size
    shift = np.array([pixels[1] * p2, pixels[0] * p1, 0.0]).reshape(3, *[1] * len(geometry.shape))
    return replace(geometry, pixel_map=geometry.pixel_map - shift)


def _orders(frame: Floats, geometry: Geometry, grid: PolarGrid, model: PixelModel, shift: Array) -> Floats:
    """Return a1, b1, a2, b2 over the root of a0 for each ring, ``(n_q, 4)``; NaN where bins are missing."""
    operator = build_operator(moved(geometry, shift), grid, model)
    polar = operator.apply(frame[None])[0].astype(np.float64)
    waves = np.stack([np.ones(grid.n_phi), *(f(m * grid.phi) for m in (1, 2) for f in (np.cos, np.sin))])
    found = np.full((grid.n_q, 4), np.nan)
    for i, (values, weight) in enumerate(zip(polar, operator.weight > 0, strict=True)):
        good = weight & np.isfinite(values)
        normal = waves[:, good] @ waves[:, good].T
        if good.sum() < 10 or np.linalg.cond(normal) > 100:  # rings that are mostly masked say little
            continue
        a = np.linalg.solve(normal, waves[:, good] @ values[good])
        if a[0] > 0:
            found[i] = a[1:] / np.sqrt(a[0])
    return found
