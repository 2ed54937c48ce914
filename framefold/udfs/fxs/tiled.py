"""A sparse matrix over detector pixels, cut in tiles so that pieces of 16 frames stay in cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.fxs.lanes import LANES

Ints = npt.NDArray[np.int64]
SIDE = 32  # pixels: 32 x 32 x 16 frames of float32 are 64 KiB; 16 and 64 were 5 % and 20 % slower


@dataclass(frozen=True, eq=False)
class TiledMatrix:
    """The entries of a matrix ``(bins, pixels)`` by tile, bin and pixel; see `regrid_kernels.regrid16`.

    Attributes
    ----------
    runs
        First pixel of each run of 16 neighbours that is read.
    tile_runs, tile_segments
        Where the runs and segments of each tile begin, and the end.
    segments
        Where the entries of each segment (one bin in one tile) begin, and the end.
    bins
        Bin of each segment.
    weights, rows
        Of each entry: weight, and pixel within its tile.
    most_runs
        Runs of the largest tile.
    """

    runs: Ints
    tile_runs: Ints
    tile_segments: Ints
    segments: Ints
    bins: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    rows: npt.NDArray[np.uint16]
    most_runs: int


def tiled_matrix(matrix: Any, width: int) -> TiledMatrix:
    """Return the tiled form of a scipy sparse matrix ``(bins, pixels)``.

    Parameters
    ----------
    matrix
        CSR.
    width
        Pixels per row of the detector.

    Raises
    ------
    DataError
        If a frame has less than 16 pixels.
    """
    n_bins, n_pixels = matrix.shape
    if n_pixels < LANES:
        raise DataError(f"frames of {n_pixels} pixels are too small to regrid: {LANES} are needed")
    csc = matrix.tocsc()
    target = csc.indices.astype(np.int64)
    pixel = np.repeat(np.arange(n_pixels), np.diff(csc.indptr))
    # the last pixels are read by a run that ends with the frame
    run_of = np.minimum(np.arange(n_pixels) // LANES * LANES, n_pixels - LANES)
    run = run_of[pixel]
    across = -(-width // SIDE)
    tile_of = (run // width // SIDE) * across + run % width // SIDE
    tiles, tile = np.unique(tile_of, return_inverse=True)
    used, first = np.unique(tile.astype(np.int64) * n_pixels + run, return_index=True)
    runs, tile_of_run = run[first].astype(np.int64), tile[first]
    tile_runs = np.searchsorted(tile_of_run, np.arange(len(tiles) + 1)).astype(np.int64)
    order = np.searchsorted(used, tile.astype(np.int64) * n_pixels + run)
    rows = (order - tile_runs[tile]) * LANES + pixel - run
    key = tile.astype(np.int64) * n_bins + target
    by = np.argsort(key, kind="stable")
    key = key[by]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    tile_segments = np.searchsorted(key[starts] // n_bins, np.arange(len(tiles) + 1)).astype(np.int64)
    return TiledMatrix(
        runs, tile_runs, tile_segments, np.append(starts, len(key)).astype(np.int64),
        (key[starts] % n_bins).astype(np.int32), csc.data[by].astype(np.float32), rows[by].astype(np.uint16),
        int(np.diff(tile_runs).max(initial=1)),
    )  # fmt: skip
