"""Results as plain arrays: ``.npz`` and ``.zarr`` keep everything, ``.npy`` the values of one result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from framefold.errors import DataError
from framefold.io.save_model import SavedBuffer, SavedResult, from_json, restored, to_json

# result names are Python identifiers, so these never meet one
_ABOUT, _DAMAGE, _VALID = ".framefold", ".damage", ".valid_mask"


def _about(result: SavedResult) -> dict[str, Any]:
    return {
        "provenance": dict(result.provenance),
        "report": dict(result.report),
        "results": {name: buffer.describe() for name, buffer in result.items()},
    }


def write_npz(path: Path, result: SavedResult) -> None:
    """Write all results; masks as ``NAME.valid_mask``, everything else as JSON in ``.framefold``."""
    arrays: dict[str, Any] = {_ABOUT: np.array(to_json(_about(result)))}
    if result.damage is not None:
        arrays[_DAMAGE] = result.damage
    for name, buffer in result.items():
        arrays[name] = buffer.data
        arrays[name + _VALID] = buffer.valid_mask
    with open(path, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_npz(path: Path) -> SavedResult:
    """Read what `write_npz` wrote."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError) as exc:
        raise DataError(f"{path} cannot be read as npz: {exc}") from exc
    if _ABOUT not in arrays:
        raise DataError(f"{path} holds no results of framefold; numpy.load reads its arrays")
    about = from_json(str(arrays[_ABOUT]), str(path))
    buffers = {
        name: restored(name, described, arrays[name], arrays.get(name + _VALID))
        for name, described in about.get("results", {}).items()
    }
    return SavedResult(buffers, arrays.get(_DAMAGE), about.get("provenance", {}), about.get("report", {}))


def write_npy(path: Path, result: SavedResult) -> None:
    """Write the values of the one result; its mask is lost."""
    with open(path, "wb") as file:
        np.save(file, only(result, ".npy").data, allow_pickle=False)


def read_npy(path: Path) -> SavedResult:
    """Read one array, named after the file, all of it valid."""
    try:
        data = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as exc:
        raise DataError(f"{path} cannot be read as npy: {exc}") from exc
    return SavedResult({path.stem: SavedBuffer(path.stem, data, np.ones(data.shape, bool))})


def only(result: SavedResult, suffix: str) -> SavedBuffer:
    """Return the one result; several do not fit the format."""
    if len(result) > 1:
        raise DataError(
            f"{suffix} holds one result, there are {len(result)}: {', '.join(result)}. Save one of them, "
            f"save_result(path, {{{next(iter(result))!r}: result[{next(iter(result))!r}]}}), "
            "or all of them as .nxs, .zarr or .npz"
        )
    return next(iter(result.values()))


def _zarr() -> Any:
    try:
        import zarr
    except ImportError:
        raise DataError(".zarr needs zarr: pip install 'framefold[formats]'") from None
    return zarr


def write_zarr(path: Path, result: SavedResult) -> None:
    """Write a Zarr group with a group per result; attributes as in the NeXus file."""
    zarr = _zarr()
    root = zarr.open_group(str(path), mode="w")
    root.attrs["framefold"] = to_json(_about(result))
    root.attrs["NX_class"] = "NXroot"
    for name, buffer in result.items():
        group = root.create_group(name)
        group.attrs.update({"NX_class": "NXdata", "signal": "data"})
        for key, array in (("data", buffer.data), ("valid_mask", buffer.valid_mask)):
            group.create_array(key, data=np.array(array, order="C"))
        group["data"].attrs["axes"] = [{"name": a.name, "units": a.units} for a in buffer.axes]
    if result.damage is not None:
        root.create_array("damage" + _DAMAGE, data=np.array(result.damage, order="C"))


def read_zarr(path: Path) -> SavedResult:
    """Read what `write_zarr` wrote."""
    zarr = _zarr()
    try:
        root = zarr.open_group(str(path), mode="r")
    except (OSError, ValueError, KeyError) as exc:
        raise DataError(f"{path} cannot be read as a Zarr group: {exc}") from exc
    if "framefold" not in root.attrs:
        raise DataError(f"{path} holds no results of framefold")
    about = from_json(str(root.attrs["framefold"]), str(path))
    buffers = {
        name: restored(name, described, root[f"{name}/data"][...], root[f"{name}/valid_mask"][...])
        for name, described in about.get("results", {}).items()
    }
    damage = root["damage" + _DAMAGE][...] if "damage" + _DAMAGE in root else None
    return SavedResult(buffers, damage, about.get("provenance", {}), about.get("report", {}))
