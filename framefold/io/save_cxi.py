"""Reconstructions as CXI files: ``image_1`` the object, ``image_2`` the probe, positions and geometry."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.save_model import SavedResult, to_json

COMPRESS_ABOVE = 1 << 20


def write(path: Path, result: SavedResult) -> None:
    """Write a new CXI 1.6 file (F. Maia, Nat. Methods 9 (2012) 854, and cxidb.org/cxi.html).

    Raises
    ------
    DataError
        If there is no result called ``object``.
    """
    if "object" not in result:
        raise DataError(
            f"{path}: CXI files hold reconstructions, this result has no 'object' but {', '.join(result)}: "
            "use .nxs"
        )
    with h5py.File(path, "w") as file:
        file["cxi_version"] = 160
        file["number_of_entries"] = 1
        entry = file.create_group("entry_1")
        entry["program_name"] = "framefold"
        entry["end_time"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        size = result["pixel_size"].data if "pixel_size" in result else None
        _image(entry, 1, result["object"].data, "object", size)
        if "probe" in result:
            _image(entry, 2, result["probe"].data, "probe", size)
        entry["data_1/data"] = h5py.SoftLink("/entry_1/image_1/data")
        if "positions" in result:
            _positions(entry, result["positions"].data, size)
        process = entry.create_group("image_1/process_1")
        process["command"] = str(result.provenance.get("program", "framefold"))
        note = process.create_group("note_1")
        note["type"] = "application/json"
        note["data"] = to_json({"provenance": result.provenance, "report": result.report})
        for name, buffer in result.items():
            if name not in ("object", "probe", "positions"):
                process.create_dataset(f"results/{name}", data=buffer.data, **_packed(buffer.data))


def _image(entry: h5py.Group, number: int, data: npt.NDArray[Any], title: str, size: Any) -> None:
    group = entry.create_group(f"image_{number}")
    group["title"] = title
    group["data_type"] = "electron density" if title == "object" else "probe"
    group["data_space"] = "real"
    group.create_dataset("data", data=data, **_packed(data))
    if size is not None:
        # SI, as CXI demands: the extent (x, y) of the image
        group["image_size"] = np.array([data.shape[-1] * size[1], data.shape[-2] * size[0], 0.0])
        group["pixel_size"] = np.array([size[1], size[0]])


def _positions(entry: h5py.Group, pixels: npt.NDArray[Any], size: Any) -> None:
    """Write the places of the probe on the sample (x, y, z), m; without pixel size in object pixels."""
    group = entry.create_group("sample_1/geometry_1")
    scale = np.ones(2) if size is None else np.asarray(size)
    values = np.zeros((len(pixels), 3))
    values[:, :2] = (pixels * scale)[:, ::-1]
    group["translation"] = -values  # of the sample, which moves the other way
    if size is None:
        group["translation"].attrs["units"] = "px"


def _packed(data: npt.NDArray[Any]) -> dict[str, Any]:
    return {"compression": "gzip", "shuffle": True} if data.nbytes > COMPRESS_ABOVE else {}
