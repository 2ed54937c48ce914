"""Velox EMD: image series whose frame axis is the last one, with JSON metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import h5py

from framefold.io.hdf5_layouts import Candidate
from framefold.io.hdf5_tree import Tree, is_numeric, join
from framefold.udfcore.metadata import Axis, Metadata, electron_wavelength
from framefold.udfcore.units import EV

_JSON_LIMIT = 1 << 20


def find(file: h5py.File, tree: Tree) -> Iterator[Candidate]:
    """Yield every ``Data/Image/<id>/Data``, the largest first."""
    images = tree.groups.get("/Data/Image")
    if images is None:
        return
    found = []
    for name in images:
        group = images.get(name)
        if isinstance(group, h5py.Group) and is_numeric(group.get("Data")) and len(group["Data"].shape) == 3:
            found.append(_candidate(join("Data/Image", name), group["Data"]))
    yield from sorted(found, key=lambda c: -math.prod(c.shape))


def _candidate(path: str, data: h5py.Dataset) -> Candidate:
    rows, columns, frames = data.shape
    return Candidate(
        join(path, "Data"),
        (frames, rows, columns),
        data.dtype,
        1,
        "Velox EMD",
        transpose=(2, 0, 1),
        note="the frame axis is the last one in the file",
        read_metadata=lambda file: metadata(read_json(file[path])),
    )


def read_json(group: h5py.Group) -> dict[str, Any]:
    """Return the metadata of the first frame: JSON in a column of bytes; empty if it is not there."""
    stored = group.get("Metadata")
    if not isinstance(stored, h5py.Dataset) or stored.dtype.kind != "u" or len(stored.shape) != 2:
        return {}
    content = stored[:_JSON_LIMIT, 0].tobytes().split(b"\0")[0]
    try:
        decoded = json.loads(content)
    except ValueError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def metadata(stated: dict[str, Any]) -> Metadata:
    """Return what Velox states; lengths in m."""
    volts = _float(stated, "Optics", "AccelerationVoltage")
    size = [_float(stated, "BinaryResult", "PixelSize", k) for k in ("height", "width")]
    offset = [_float(stated, "BinaryResult", "Offset", k) or 0.0 for k in "yx"]
    units = [str(_at(stated, "BinaryResult", f"PixelUnit{k}") or "") for k in "YX"]
    axes: tuple[Axis, ...] = ()
    if all(size):
        image = [Axis(n, s or 1.0, o, u) for n, s, o, u in zip("yx", size, offset, units, strict=True)]
        axes = (Axis("frame"), *image)
    return Metadata(
        axes=axes,
        energy=volts * EV if volts else None,
        wavelength=electron_wavelength(volts) if volts else None,
        camera_length=_float(stated, "Optics", "CameraLength"),
        dwell_time=_exposure(stated),
        raw=stated,
    )


def _exposure(stated: dict[str, Any]) -> float | None:
    number = _at(stated, "BinaryResult", "DetectorIndex")
    return _float(stated, "Detectors", f"Detector-{number}", "ExposureTime")


def _at(stated: Any, *path: str) -> Any:
    for name in path:
        stated = stated.get(name) if isinstance(stated, dict) else None
    return stated


def _float(stated: dict[str, Any], *path: str) -> float | None:
    try:
        return float(_at(stated, *path))
    except (TypeError, ValueError):
        return None
