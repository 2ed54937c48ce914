"""Results as NeXus: one NXdata group each, the run in an NXprocess group."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from framefold.errors import DataError
from framefold.io.hdf5_read import open_file
from framefold.io.save_model import SavedBuffer, SavedResult, from_json, restored, to_json

_COMPRESS_ABOVE = 1 << 20  # bytes


def write(path: Path, result: SavedResult) -> None:
    """Write a new NeXus file."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"NX_class": "NXroot", "creator": "framefold", "default": "entry"})
        entry = file.create_group("entry", track_order=True)
        entry.attrs["NX_class"] = "NXentry"
        # viewers open this one: an image if there is any
        first = next((n for n, b in result.items() if b.data.ndim == 2), next(iter(result)))
        entry.attrs["default"] = first
        for name, buffer in result.items():
            _write_data(entry, name, buffer)
        name = "process"
        while name in entry:
            name += "_"
        process = entry.create_group(name)
        process.attrs["NX_class"] = "NXprocess"
        process["program"] = str(result.provenance.get("program", "framefold"))
        process["version"] = str(result.provenance.get("version", ""))
        process["date"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        process["provenance"] = to_json(result.provenance)
        process["report"] = to_json(result.report)
        if result.damage is not None:
            process["damage"] = result.damage.astype(np.uint8)


def _write_data(entry: h5py.Group, name: str, buffer: SavedBuffer) -> None:
    if "/" in name or name in ("", "."):
        raise DataError(f"result {name!r} cannot be the name of an HDF5 group")
    group = entry.create_group(name)
    names = axis_names(buffer)
    group.attrs.update({"NX_class": "NXdata", "signal": "data", "framefold": to_json(buffer.describe())})
    if names:
        group.attrs["axes"] = np.array(names, h5py.string_dtype())
    data = buffer.data.astype(np.uint8) if buffer.data.dtype == bool else buffer.data
    for key, array in (("data", data), ("valid_mask", buffer.valid_mask.astype(np.uint8))):
        big = array.nbytes > _COMPRESS_ABOVE
        group.create_dataset(key, data=array, **({"compression": "gzip", "shuffle": True} if big else {}))
    group["data"].attrs["long_name"] = name
    group.attrs["coverage"] = float(buffer.valid_mask.mean()) if buffer.valid_mask.size else 0.0
    if buffer.data.ndim == 2:
        group["data"].attrs["interpretation"] = "image"
    for i, (axis, label) in enumerate(zip(buffer.axes, names, strict=False)):
        group[label] = axis.values(buffer.shape[i])
        group[label].attrs.update({"units": axis.units, "long_name": _label(axis.name or label, axis.units)})
        group.attrs[f"{label}_indices"] = i


def _label(name: str, units: str) -> str:
    return f"{name} ({units})" if units else name


def axis_names(buffer: SavedBuffer) -> list[str]:
    """Return a name per axis of `data`, unique inside the group; ``"."`` for axes without coordinates."""
    taken = {"data", "valid_mask"}
    names = []
    for i, axis in enumerate(buffer.axes):
        name = axis.name.replace("/", "_").strip(". ") or f"{buffer.kind}_{i}"
        while name in taken:
            name += "_"
        taken.add(name)
        names.append(name)
    return names + ["."] * (buffer.data.ndim - len(names))


def read(path: Path) -> SavedResult:
    """Read what `write` wrote."""
    with open_file(str(path)) as file:
        entry = file.get("entry")
        groups = entry if isinstance(entry, h5py.Group) else {}
        buffers = {n: _read_data(n, g, path) for n, g in groups.items() if _ours(g)}
        if not buffers:
            raise DataError(f"{path} holds no results of framefold")
        process: Any = next((g for g in groups.values() if _class(g) == "NXprocess"), {})
        described = {
            key: from_json(process[key][()], f"{path}, {key}") if key in process else {}
            for key in ("provenance", "report")
        }
        damage = process["damage"][()].astype(bool) if "damage" in process else None
    return SavedResult(buffers, damage, **described)


def _ours(group: Any) -> bool:
    return isinstance(group, h5py.Group) and "framefold" in group.attrs and "data" in group


def _class(group: Any) -> str:
    return str(group.attrs.get("NX_class", "")) if isinstance(group, h5py.Group) else ""


def _read_data(name: str, group: h5py.Group, path: Path) -> SavedBuffer:
    described = from_json(group.attrs["framefold"], f"{path}, {name}")
    valid = group["valid_mask"][()] if "valid_mask" in group else None
    return restored(
        name, described, np.asarray(group["data"][()]), None if valid is None else np.asarray(valid)
    )
