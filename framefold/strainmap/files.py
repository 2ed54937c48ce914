"""A strain map in a file, read back, and as a dataset of xarray."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from framefold.io.save_strain import read_strain, write_strain
from framefold.strainmap.calibration import Calibration
from framefold.udfcore.metadata import Axis
from framefold.udfs.blobfinder.lattice import as_lattices
from framefold.udfs.blobfinder.strain import Frame
from framefold.udfs.blobfinder.strain_udf import MAPS, SIGMAS

if TYPE_CHECKING:
    from framefold.strainmap.value import StrainMap

SIGNS = (
    "eps_xx > 0: longer along x than the reference. theta > 0: turned from +x towards +y, clockwise in a "
    "picture (y points down). x is the fast scan axis, or as `axes` says."
)


def save(m: StrainMap, path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Write everything to a NeXus file."""
    maps = {name: getattr(m, name) for name in MAPS}
    errors = {name: getattr(m, sigma) for name, sigma in zip(MAPS, SIGMAS, strict=True)}
    parameters = {
        "frame": dataclasses.asdict(m.frame),
        "calibration": dataclasses.asdict(m.calibration),
        "radius": m.radius,
        "lattice": [one.rows().tolist() for one in m.lattice],
        "signs": SIGNS,
    }
    arrays = {"lattices": {**m.lattices, "reference": m.reference},
              "peaks": {**m.peaks, "indices": m.indices}}  # fmt: skip
    write_strain(path, maps, errors, m.valid, m.axes, arrays, parameters, m.provenance, overwrite=overwrite)


def fields_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the fields of the map in a file that `save` wrote."""
    saved = read_strain(path)
    lattices, peaks = dict(saved.arrays["lattices"]), dict(saved.arrays["peaks"])
    p = saved.parameters
    frame = {**p["frame"], "ellipse": tuple(p["frame"]["ellipse"])}
    return {
        "reference": lattices.pop("reference"), "indices": peaks.pop("indices"),
        "lattices": lattices, "peaks": peaks, "valid": saved.valid, "frame": Frame(**frame),
        "lattice": as_lattices(p["lattice"]), "radius": float(p["radius"]), "axes": saved.axes,
        "provenance": saved.provenance, "calibration": Calibration(**p.get("calibration", {})),
    }  # fmt: skip


def dataset_of(m: StrainMap) -> Any:
    """Return an ``xarray.Dataset`` of maps, errors and mask with coordinates."""
    import xarray  # optional

    dims = scan_names(len(m.shape))
    axes = m.axes if len(m.axes) == len(dims) else tuple(Axis() for _ in dims)
    coords = {
        d: (d, axis.values(n), {"units": axis.units}) for d, axis, n in zip(dims, axes, m.shape, strict=True)
    }
    return xarray.Dataset(
        {name: (dims, getattr(m, name)) for name in (*MAPS, *SIGMAS, "valid")},
        coords=coords, attrs={"signs": SIGNS},
    )  # fmt: skip


def scan_names(dims: int) -> tuple[str, ...]:
    """Return the names of the scan axes: y, x for two."""
    return ("y", "x")[-dims:] if dims <= 2 else tuple(f"scan_{i}" for i in range(dims))
