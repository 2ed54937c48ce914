"""Strain maps as NeXus: plain datasets, an NXdata group for each map, and all they were made from."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.hdf5_read import open_file
from framefold.io.save import with_new_file
from framefold.io.save_model import from_json, to_json
from framefold.udfcore.metadata import Axis

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class SavedStrain:
    """What a file of `write_strain` holds."""

    maps: Mapping[str, Array]
    errors: Mapping[str, Array]
    valid: npt.NDArray[np.bool_]
    axes: tuple[Axis, ...]
    arrays: Mapping[str, Mapping[str, Array]]
    parameters: Mapping[str, Any]
    provenance: Mapping[str, Any]


def write_strain(
    path: str | os.PathLike[str],
    maps: Mapping[str, Array],
    errors: Mapping[str, Array],
    valid: npt.NDArray[np.bool_],
    axes: tuple[Axis, ...],
    arrays: Mapping[str, Mapping[str, Array]],
    parameters: Mapping[str, Any],
    provenance: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write strain maps.

    Parameters
    ----------
    path
        ``.nxs``, ``.h5`` or ``.hdf5``.
    maps, errors
        Scan shape, by the name of the map; written as ``/entry/NAME`` and ``/entry/NAME_errors``.
    valid
        Bool, scan shape: ``/entry/valid``.
    axes
        Of the scan.
    arrays
        Groups of further arrays.
    parameters, provenance
        Values that JSON can hold.
    overwrite
        Replace an existing file.

    Raises
    ------
    DataError
        If the ending is another one, or the file exists or cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in (".nxs", ".h5", ".hdf5"):
        raise DataError(f"{target}: strain maps are written to .nxs, .h5 or .hdf5, not {target.suffix!r}")

    def write(temporary: Path) -> None:
        with h5py.File(temporary, "w") as file:
            _write(file, maps, errors, valid, axes, arrays, parameters, provenance)

    with_new_file(target, write, overwrite=overwrite)


def _write(
    file: h5py.File,
    maps: Mapping[str, Array],
    errors: Mapping[str, Array],
    valid: npt.NDArray[np.bool_],
    axes: tuple[Axis, ...],
    arrays: Mapping[str, Mapping[str, Array]],
    parameters: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    file.attrs.update({"NX_class": "NXroot", "creator": "framefold", "default": "entry"})
    entry = file.create_group("entry", track_order=True)
    first = next(iter(maps))
    entry.attrs.update({"NX_class": "NXentry", "default": f"{first}_map"})
    names = _axis_names(valid.ndim)
    stated = axes if len(axes) == valid.ndim else tuple(Axis(name=n) for n in names)
    for name, axis, n in zip(names, stated, valid.shape, strict=True):
        entry[name] = axis.values(n)
        entry[name].attrs.update({"units": axis.units, "long_name": f"{name} ({axis.units})"})
    entry["valid"] = valid.astype(np.uint8)
    for name, values in maps.items():
        units = "rad" if name == "theta" else ""
        for key, data in ((name, values), (f"{name}_errors", errors[name])):
            entry.create_dataset(key, data=np.asarray(data, np.float64), compression="gzip", shuffle=True)
            entry[key].attrs["units"] = units
        entry[name].attrs.update({"long_name": name, "interpretation": "image"})
        group = entry.create_group(f"{name}_map")
        group.attrs.update(
            {"NX_class": "NXdata", "signal": name, "axes": np.array(names, h5py.string_dtype())}
        )
        # viewers look for the errors under this name
        for key in (name, f"{name}_errors", "valid", *names):
            group[key] = entry[key]
        for i, axis_name in enumerate(names):
            group.attrs[f"{axis_name}_indices"] = i
    for group_name, members in arrays.items():
        group = entry.create_group(group_name)
        group.attrs["NX_class"] = "NXcollection"
        for key, data in members.items():
            values = data.astype(np.uint8) if data.dtype == bool else data
            group.create_dataset(
                key, data=values, **({"compression": "gzip"} if values.nbytes > 1 << 16 else {})
            )
            group[key].attrs["dtype"] = str(data.dtype)
    process = entry.create_group("process")
    process.attrs["NX_class"] = "NXprocess"
    process["program"] = "framefold"
    process["version"] = str(provenance.get("version", ""))
    process["date"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    process["parameters"] = to_json(dict(parameters))
    process["provenance"] = to_json(dict(provenance))
    process["axes"] = to_json({"axes": [asdict(a) for a in axes], "maps": list(maps)})


def _axis_names(dims: int) -> list[str]:
    return ["y", "x"][-dims:] if dims <= 2 else [f"scan_{i}" for i in range(dims)]


def read_strain(path: str | os.PathLike[str]) -> SavedStrain:
    """Read what `write_strain` wrote.

    Raises
    ------
    DataError
        If there is no such file, or it holds no strain map.
    """
    if not Path(path).exists():
        raise DataError(f"{path}: no such file")
    with open_file(str(path)) as file:
        entry = file.get("entry")
        if not isinstance(entry, h5py.Group) or "process/parameters" not in entry or "valid" not in entry:
            raise DataError(f"{path} holds no strain map")
        described = {
            key: from_json(entry[f"process/{key}"][()], f"{path}, {key}")
            for key in ("parameters", "provenance", "axes")
        }
        names = described["axes"]["maps"]
        return SavedStrain(
            maps={n: entry[n][()] for n in names},
            errors={n: entry[f"{n}_errors"][()] for n in names},
            valid=entry["valid"][()].astype(bool),
            axes=tuple(Axis(**a) for a in described["axes"]["axes"]),
            arrays={g: {k: _array(d) for k, d in entry[g].items()} for g in ("lattices", "peaks")},
            parameters=described["parameters"],
            provenance=described["provenance"],
        )


def _array(dataset: h5py.Dataset) -> Array:
    data: Array = dataset[()]
    return data.astype(bool) if dataset.attrs.get("dtype") == "bool" else data
