"""What the UDFs of disks have in common: plan, buffers, and the way from tiles to measured disks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfcore.auxdata import AuxData
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.udf import UDF
from framefold.udfs.blobfinder.disks import Assembly, DiskPlan, measure_frames, plan_disks
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


def plan_of(udf: UDF) -> DiskPlan:
    """Return the plan that the parameters of `udf` describe, for its frames."""
    check_real_2d(udf)
    p = udf.params
    sig = tuple(udf.meta.dataset_shape.sig)
    return plan_disks(
        sig, p.lattice, p.pattern, p.correlation, p.subpixel, gain=p.gain, min_snr=p.min_snr,
        saturation=p.saturation, excluded=p.excluded,
    )  # fmt: skip


def whole_frames(udf: UDF) -> Mapping[str, Any]:
    """Return tiling preferences: some whole frames at a time."""
    size = math.prod(udf.meta.dataset_shape.sig) * udf.meta.input_dtype.itemsize
    depth = max(1, min(16, (1 << 22) // max(1, size)))
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


def _views(udf: UDF, rows: slice = slice(None)) -> Peaks:
    return Peaks(**{name: udf.results[name][rows] for name in _PEAKS})


def process(udf: UDF, tile: Array) -> bool:
    """Measure whole frames, or collect their parts; return whether the tile's frames are measured."""
    plan, shift = udf.worker_data.plan, udf.params.zero_shift
    if tile.dtype == np.bool_:
        tile = tile.view(np.uint8)
    if tile.shape[1:] == plan.good.shape:
        measure_frames(plan, tile, shift, _views(udf), udf.worker_data.scratch)
        return True
    parts = udf.task_data.parts
    if "assembly" not in parts:
        parts["assembly"] = Assembly(plan, udf.task_data.start, udf.meta.partition_shape[0])
    row = udf.meta.slice.origin[0]
    complete: bool = parts["assembly"].add(tile, udf.meta.sig_slice.origin, row, shift)
    if complete:
        parts["assembly"].measure(row, len(tile), shift, _views(udf))
    return complete


def measure_leftovers(udf: UDF) -> Iterator[int]:
    """Measure the frames of which pixels never came, and yield their rows."""
    assembly = udf.task_data.parts.get("assembly")
    if assembly is None:
        return
    for row in assembly.incomplete():
        shift = udf.params.zero_shift
        shift = None if shift is None else shift[row : row + 1]
        assembly.measure(udf.task_data.start + row, 1, shift, _views(udf, slice(row, row + 1)))
        yield int(row)
