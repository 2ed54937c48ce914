"""Bilinear interpolation at the centres of polar bins, as entries of the polar operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.fxs.geometry import Geometry
from framefold.udfs.fxs.grid import PolarGrid

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def bin_places(geometry: Geometry, grid: PolarGrid) -> tuple[Floats, Floats]:
    """Return where the centres of bins fall on a flat detector, row and column in pixels, ``(bins,)``.

    Pixel ``(i, k)`` has its centre at ``(i, k)``. Rays that miss the plane are NaN.

    Raises
    ------
    DataError
        If the geometry is a map of pixels, which says nothing between panels.
    """
    if geometry.pixel_map is not None:
        raise DataError(
            "splitting='bilinear' needs a flat detector, this geometry is a map of pixels: "
            "take splitting='subpixel'"
        )
    sin = np.minimum(grid.q * geometry.wavelength * 1e10 / (4 * np.pi), 1.0)
    across, along = 2 * sin * np.sqrt(1 - sin**2), 1 - 2 * sin**2  # sin and cos of 2 theta
    ray = np.stack(
        [
            across[:, None] * np.sin(grid.phi),
            across[:, None] * np.cos(grid.phi),
            np.broadcast_to(along[:, None], grid.shape),
        ]
    ).reshape(3, -1)
    a, b, c = geometry.rotation_matrix().T @ ray
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(c > 0, geometry.distance / c, np.nan)
    (p1, p2), (c1, c2) = geometry.pixel_size, geometry.centre
    return a * reach / p1 + c1 - 0.5, b * reach / p2 + c2 - 0.5


def bilinear_entries(geometry: Geometry, grid: PolarGrid) -> tuple[Array, Array, Floats]:
    """Return pixel, bin and weight of the four pixels about the centre of each bin.

    Bins whose four pixels are not all on the detector have no entries.
    """
    row, column = bin_places(geometry, grid)
    rows, columns = geometry.shape
    with np.errstate(invalid="ignore"):
        inside = (row >= 0) & (row <= rows - 1) & (column >= 0) & (column <= columns - 1)
    at = np.flatnonzero(inside)
    i = np.minimum(row[at].astype(np.int64), max(rows - 2, 0))
    k = np.minimum(column[at].astype(np.int64), max(columns - 2, 0))
    f, g = row[at] - i, column[at] - k
    pixels, shares = [], []
    for di, wi in ((0, 1 - f), (1, f)):
        for dk, wk in ((0, 1 - g), (1, g)):
            pixels.append(np.minimum(i + di, rows - 1) * columns + np.minimum(k + dk, columns - 1))
            shares.append(wi * wk)
    pixel, target, share = np.concatenate(pixels), np.tile(at, 4), np.concatenate(shares)
    some = share > 0
    return pixel[some].astype(np.int32), target[some].astype(np.int32), share[some]
