"""What the UDFs of disks have in common: plan, buffers, and the way from tiles to measured disks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfcore.auxdata import AuxData
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.udf import UDF
from framefold.udfs.blobfinder.array_engine import ArrayAssembly, ArrayEngine
from framefold.udfs.blobfinder.correlate import CropCorrelation
from framefold.udfs.blobfinder.disks import Assembly, DiskPlan, measure_frames, plan_disks, scratch_of
from framefold.udfs.blobfinder.engines import NO_MAPS
from framefold.udfs.blobfinder.lattice import Lattice
from framefold.udfs.blobfinder.meter import Peaks
from framefold.udfs.field_results import check_real_2d

Array = npt.NDArray[Any]
_PEAKS = tuple(Peaks.__dataclass_fields__)


def checked_shift(given: AuxData | None) -> AuxData | None:
    """Return `given` if it is a shift per frame."""
    if given is None:
        return None
    if not isinstance(given, AuxData) or given.kind != "nav" or given.extra_shape != (2,):
        raise DataError(
            "zero_shift is UDF.aux_data(shifts, kind='nav', extra_shape=(2,)): one pair (y, x) per frame"
        )
    return given


def plan_of(udf: UDF, lattice: Lattice) -> DiskPlan:
    """Return the plan that the parameters of `udf` describe, for its frames and the disks of `lattice`."""
    check_real_2d(udf)
    p = udf.params
    sig = tuple(udf.meta.dataset_shape.sig)
    return plan_disks(
        sig, lattice, p.pattern, p.correlation, p.subpixel, gain=p.gain, min_snr=p.min_snr,
        saturation=p.saturation, excluded=p.excluded, pedestal=p.pedestal,
    )  # fmt: skip


def whole_frames(udf: UDF) -> Mapping[str, Any]:
    """Return tiling preferences: some whole frames at a time."""
    size = math.prod(udf.meta.dataset_shape.sig) * udf.meta.input_dtype.itemsize
    most, limit = (16, 1 << 22) if udf.xp is np else (512, 1 << 26)  # a device wants much work at a time
    depth = max(1, min(most, limit // max(1, size)))
    return {"depth": depth, "total_size": depth * size}


def peak_buffers(udf: UDF, m: int) -> dict[str, BufferDecl]:
    """Declare the properties of `m` disks."""
    pairs = ("centers", "sigma", "tilt")
    return {
        **{name: udf.buffer("nav", (m, 2) if name in pairs else (m,), "float32") for name in _PEAKS[:-1]},
        "flags": udf.buffer("nav", (m,), "uint8"),
        "indices": udf.buffer("single", (m, 2), "int64", use="result_only"),
    }


def peak_results(udf: UDF) -> dict[str, Any]:
    """Return the properties of the disks."""
    return {name: udf.results[name] for name in _PEAKS}


def peak_views(udf: UDF, rows: slice = slice(None)) -> Peaks:
    """Return views of the results of some frames of the current unit."""
    return Peaks(**{name: udf.results[name][rows] for name in _PEAKS})


@dataclass(frozen=True, eq=False)
class Bench:
    """What a worker needs to measure the disks of one lattice."""

    plan: DiskPlan
    scratch: Array
    device: ArrayEngine | None = None

    def assembly(self, start: int, rows: int) -> Assembly | ArrayAssembly:
        """Return where parts of the frames of a partition are put together."""
        return (
            Assembly(self.plan, start, rows)
            if self.device is None
            else ArrayAssembly(self.device, start, rows)
        )


def bench_of(udf: UDF, lattice: Lattice) -> Bench:
    """Return plan and room for crops, or the engine of the device."""
    plan = plan_of(udf, lattice)
    if udf.xp is np:
        return Bench(plan, scratch_of(plan))
    return Bench(plan, NO_MAPS, ArrayEngine(udf.xp, plan))


def backends_of(udf: UDF) -> tuple[str, ...]:
    """Return where disks can be measured: on a device by crops, and by fits or parabolas."""
    p = udf.params
    crops = isinstance(p.correlation, CropCorrelation) and p.correlation.hybrid == 1
    there = p.subpixel in ("auto", "ml4", "ml6", "parabola") and (crops or p.correlation == "auto")
    return (udf.BACKEND_NUMPY, udf.BACKEND_CUPY) if there else (udf.BACKEND_NUMPY,)


def process(udf: UDF, tile: Array, bench: Bench, key: int, out: Peaks) -> bool:
    """Measure whole frames into `out`, or collect their parts; return whether the tile's frames are measured.

    `key` tells the lattices of a UDF apart.
    """
    plan, shift = bench.plan, udf.params.zero_shift
    if tile.dtype == np.bool_:
        tile = tile.view(np.uint8)
    if tile.shape[1:] == plan.good.shape:
        if bench.device is None:
            measure_frames(plan, tile, shift, out, bench.scratch)
        else:
            bench.device.measure_frames(tile, shift, out)
        return True
    parts: dict[int, Assembly | ArrayAssembly] = udf.task_data.parts
    if key not in parts:
        parts[key] = bench.assembly(udf.task_data.start, udf.meta.partition_shape[0])
    row = udf.meta.slice.origin[0]
    complete = parts[key].add(tile, udf.meta.sig_slice.origin, row, shift)
    if complete:
        parts[key].measure(row, len(tile), shift, out)
    return complete


def leftover_rows(udf: UDF) -> npt.NDArray[np.int64]:
    """Return the rows of the partition of which some pixels came, but not all."""
    parts: dict[int, Assembly | ArrayAssembly] = udf.task_data.parts
    return parts[0].incomplete() if parts else np.zeros(0, np.int64)


def measure_leftover(udf: UDF, row: int, key: int, out: Peaks) -> None:
    """Measure what came of one frame."""
    shift = udf.params.zero_shift
    shift = None if shift is None else shift[row : row + 1]
    udf.task_data.parts[key].measure(udf.task_data.start + row, 1, shift, out)
