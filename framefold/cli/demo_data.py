"""The scan of ``framefold demo``: a bent crystal with charged precipitates, in a calibrated file."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.io.export import open_sink
from framefold.sim.deformation import smooth_random
from framefold.sim.scan import Cbed
from framefold.sim.stem import cbed
from framefold.udfcore.metadata import Axis, Metadata
from framefold.udfcore.source import ReadStats
from framefold.udfcore.tile import TileSlice

SCAN, SIG = (64, 64), (128, 128)
STEP = 1e-9  # m
PIXEL = 2e8  # 1/m
# centre y, x and radius as shares of the scan, and the charge
_PRECIPITATES = (
    (0.30, 0.27, 0.10, 1.0),
    (0.67, 0.35, 0.12, -1.0),
    (0.35, 0.72, 0.13, -1.0),
    (0.75, 0.77, 0.09, 1.1),
)
_BLOCK = 64


def deflection(scan: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return the shift of the pattern (y, x) in px over the scan: minus the gradient of the potential.

    Each precipitate has a Gaussian potential, so its field points away from it or towards it, and the
    divergence of the field shows its charge.
    """
    y, x = np.mgrid[: scan[0], : scan[1]] / max(scan)
    potential = np.zeros(scan)
    for cy, cx, r, charge in _PRECIPITATES:
        potential += charge * r * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * r * r))
    fields = np.gradient(-potential, 1 / max(scan))
    return np.stack([4.0 * f for f in fields], axis=-1)


def make_scan(scan: tuple[int, int] = SCAN, sig: tuple[int, int] = SIG) -> Cbed:
    """Return the scan; its frames are made when asked for."""
    return cbed(
        scan,
        sig,
        structure="dynamical",
        strain=smooth_random(scan, 0.006, scan[0] / 10, seed=3),
        bend=0.09 * sig[0],
        descan=deflection(scan),
        dose=12_000,
        falloff=1.2,
        thickness=0.6,
        thickness_wedge=2.2,
        background=0.01,
        seed=1,
    )


class Calibrated:
    """A synthetic scan with axes in nm and 1/nm, as a source: frames are made when they are read."""

    is_view = False
    valid = None
    path = "synthetic scan"

    def __init__(self, scan: Cbed) -> None:
        rows, cols = scan.sig
        self.scan, self.shape, self.dtype = scan, scan.shape, scan.dtype
        self.natural_chunks, self.identity = scan.natural_chunks, scan.identity
        self.metadata = Metadata(
            axes=(
                Axis("y", STEP, 0.0, "m"),
                Axis("x", STEP, 0.0, "m"),
                Axis("ky", PIXEL, -PIXEL * (rows // 2), "1/m"),
                Axis("kx", PIXEL, -PIXEL * (cols // 2), "1/m"),
            )
        )

    def read(self, tile: TileSlice, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return a tile."""
        return self.scan.read(tile, out)

    def stats(self) -> ReadStats:
        """Return how much was made."""
        return self.scan.stats()


def write_scan(source: Calibrated, path: Path) -> None:
    """Make all frames in threads and write them to a NeXus file."""
    frames = source.shape.nav.size
    starts = range(0, frames, _BLOCK)
    blocks = (slice(start, min(start + _BLOCK, frames)) for start in starts)
    with (
        open_sink(path, source.shape, source.dtype, metadata=source.metadata, compression="none") as sink,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for start, block in zip(
            starts, pool.map(lambda b: source.scan.frames(b.start, b.stop), blocks), strict=True
        ):
            sink.write(start, block)
