"""From tiles of frames to measured disks: whole frames at once, or crops put together from parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.blobfinder.correlate import Correlation
from framefold.udfs.blobfinder.engines import NO_MAPS, Engine, engine_of
from framefold.udfs.blobfinder.kernels_correlate import gather_crops
from framefold.udfs.blobfinder.lattice import Lattice, indices_on
from framefold.udfs.blobfinder.meter import Meter, Peaks, Subpixel, make_meter
from framefold.udfs.blobfinder.patterns import Pattern

Array = npt.NDArray[Any]
#: of crops that are measured together: they stay in the second-level cache
_BATCH_BYTES = 1 << 19


@dataclass(frozen=True, eq=False)
class DiskPlan:
    """Which disks to measure, and how.

    Attributes
    ----------
    lattice
        That they lie on.
    hk
        ``(m, 2)`` float64: their indices.
    expected
        ``(m, 2)``: where they should be, px.
    meter
        How they are measured.
    engine
        Makes the correlation maps, or leaves that to the meter.
    good
        Bool, signal shape.
    saturation
        Counts from which a pixel is not trusted; infinite: none.
    pedestal
        Counts of no electron.
    """

    lattice: Lattice
    hk: npt.NDArray[np.float64]
    expected: npt.NDArray[np.float64]
    meter: Meter
    engine: Engine
    good: npt.NDArray[np.bool_]
    saturation: float
    pedestal: float = 0.0

    @property
    def batch(self) -> int:
        """Frames measured together."""
        return max(1, _BATCH_BYTES // max(1, 4 * len(self.hk) * self.meter.size**2))


def plan_disks(
    sig: Sequence[int],
    lattice: Lattice,
    pattern: Pattern,
    correlation: Correlation | Literal["auto"],
    subpixel: Subpixel,
    *,
    gain: float,
    min_snr: float,
    saturation: float | None,
    excluded: npt.ArrayLike | None,
    pedestal: float = 0.0,
) -> DiskPlan:
    """Return the plan for frames of shape `sig`.

    Raises
    ------
    DataError
        If the frames are too small, the disks overlap, or none is on the detector.
    """
    shape = (int(sig[0]), int(sig[1]))
    meter = make_meter(pattern, correlation, subpixel, lattice.spacing, gain, min_snr)
    if meter.size > min(shape):
        raise DataError(
            f"frames of {shape[0]}x{shape[1]} px are smaller than the {meter.size} px searched around a "
            f"disk of radius {meter.radius:g} px: give a smaller radius or search"
        )
    hk = indices_on(lattice, shape, meter.radius)
    if not len(hk):
        raise DataError(
            f"no disk of the lattice zero={list(lattice.zero)}, a={list(lattice.a)}, b={list(lattice.b)} "
            f"lies on the {shape[0]}x{shape[1]} detector"
        )
    good = np.ones(shape, bool)
    if excluded is not None:
        bad = np.asarray(excluded, dtype=bool)
        if bad.shape != shape:
            raise DataError(f"excluded has the shape {bad.shape}, frames have {shape}")
        good = ~bad
    if not math.isfinite(pedestal):
        raise DataError(f"the pedestal is a number of counts, got {pedestal!r}")
    expected = lattice.positions(hk)
    return DiskPlan(
        lattice,
        np.ascontiguousarray(hk, dtype=np.float64),
        expected,
        meter,
        engine_of(correlation, pattern, meter, expected, good, float(pedestal)),
        good,
        math.inf if saturation is None else float(saturation),
        float(pedestal),
    )


def corners_of(plan: DiskPlan, shift: Array | None) -> tuple[Array, Array]:
    """Return first pixels of the crops ``(n, m, 2)`` int32, and whether the disks are on the detector.

    `shift` ``(n, 2)`` moves the whole pattern; None: n is 1, the same for all frames.
    """
    at = plan.expected[None] if shift is None else plan.expected + np.asarray(shift, np.float64)[:, None]
    far = np.asarray(plan.good.shape) - 1 - plan.meter.radius
    inside = np.all((at >= plan.meter.radius) & (at <= far), axis=-1)
    safe = np.where(np.isfinite(at), at, -1e6)
    return np.rint(safe).astype(np.int32) - plan.meter.size // 2, inside


def measure_frames(plan: DiskPlan, tile: Array, shift: Array | None, out: Peaks, scratch: Array) -> None:
    """Measure all disks of whole frames ``(n, *sig)``; `scratch` comes from `scratch_of`."""
    corners, inside = corners_of(plan, shift)
    plain = bool(plan.good.all()) and plan.saturation == math.inf
    step = len(scratch)
    for start in range(0, len(tile), step):
        rows = slice(start, min(start + step, len(tile)))
        c, i = (corners, inside) if shift is None else (corners[rows], inside[rows])
        crops = scratch[: rows.stop - rows.start]
        gather_crops(tile[rows], 0, 0, plain, plan.good, plan.saturation, c, True, crops)
        maps = plan.engine.part(tile[rows], 0, 0, c)
        _measure(plan, crops, maps, c, i, rows_of(out, rows))


def _measure(plan: DiskPlan, crops: Array, maps: Array, corners: Array, inside: Array, out: Peaks) -> None:
    """Measure disks in complete crops, which are changed."""
    if plan.pedestal:
        crops -= np.float32(plan.pedestal)
    plan.meter(crops, maps if maps.shape[0] else plan.engine.maps(crops), corners, inside, out)


def scratch_of(plan: DiskPlan) -> Array:
    """Return room for the crops of a batch."""
    size = plan.meter.size
    return np.empty((plan.batch, len(plan.hk), size, size), np.float32)


def rows_of(peaks: Peaks, rows: slice) -> Peaks:
    """Return views of some frames."""
    return Peaks(*(getattr(peaks, name)[rows] for name in Peaks.__dataclass_fields__))


class Assembly:
    """Crops of the frames of a partition, filled by tiles that hold parts of frames in any order.

    Parameters
    ----------
    plan
        What to measure.
    start, rows
        First row and number of rows of the partition.
    """

    def __init__(self, plan: DiskPlan, start: int, rows: int) -> None:
        self._plan = plan
        self._start = start
        size = plan.meter.size
        self._crops = np.empty((rows, len(plan.hk), size, size), np.float32)  # touched as frames come in
        self._maps = NO_MAPS
        self._arrived = np.zeros(rows, np.int64)

    def add(self, tile: Array, origin: Sequence[int], row: int, shift: Array | None) -> bool:
        """Take the pixels of a tile that begins at `origin` of the frames; True: its frames are complete."""
        plan = self._plan
        rows = slice(row - self._start, row - self._start + len(tile))
        crops = self._crops[rows]
        crops[self._arrived[rows] == 0] = np.nan
        corners, _ = corners_of(plan, shift)
        y, x = int(origin[0]), int(origin[1])
        good = plan.good[y : y + tile.shape[1], x : x + tile.shape[2]]
        plain = bool(good.all()) and plan.saturation == math.inf
        gather_crops(tile, y, x, plain, good, plan.saturation, corners, False, crops)
        maps = plan.engine.part(tile, y, x, corners)
        if maps.shape[0]:
            if not self._maps.shape[0]:
                self._maps = np.zeros((len(self._crops), *maps.shape[1:]), np.float32)
            self._maps[rows] += maps
        self._arrived[rows] += tile.shape[1] * tile.shape[2]
        return bool((self._arrived[rows] >= plan.good.size).all())

    def measure(self, row: int, count: int, shift: Array | None, out: Peaks) -> None:
        """Measure the disks of complete frames."""
        corners, inside = corners_of(self._plan, shift)
        first = row - self._start
        rows = slice(first, first + count)
        maps = self._maps[rows] if self._maps.shape[0] else NO_MAPS
        _measure(self._plan, self._crops[rows], maps, corners, inside, out)
        self._arrived[first : first + count] = -1

    def incomplete(self) -> npt.NDArray[np.int64]:
        """Return the rows, from 0, that have some but not all of their pixels."""
        return np.flatnonzero(self._arrived > 0)
