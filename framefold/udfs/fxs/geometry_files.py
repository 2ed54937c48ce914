"""Geometry from files: pyFAI ``.poni``, and maps of pixel positions."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.fxs.geometry import MAX_PIXELS, Geometry


def read_poni(path: str | os.PathLike[str], shape: Sequence[int] | None = None) -> Geometry:
    """Read the plain ``Key: value`` lines of a ``.poni`` file, versions 1, 2 and 2.1.

    The last entry of each key counts, since pyFAI appends calibrations.

    Parameters
    ----------
    path
        Of the file.
    shape
        Of a frame, where the file does not state it (version 1, or a detector by its name).

    Raises
    ------
    DataError
        Naming the key that is missing or not a number, and what to do.
    """
    keys = _lines(Path(path))
    detector = _detector_config(keys, path)
    size = _sizes(keys, detector, path)
    stated = detector.get("max_shape")
    if shape is None:
        shape = stated
    if shape is None:
        raise DataError(f"{path} does not state the shape of the detector: pass shape=(rows, columns)")
    if detector.get("orientation", 3) not in (0, 3):
        raise DataError(
            f"{path}: detector orientation {detector['orientation']} is not supported: calibrate with "
            "orientation 3 (the default), or pass a pixel map"
        )
    wavelength = _number(keys, "wavelength", path, hint="add a line 'Wavelength: 1.5e-10' (m)")
    return Geometry(
        distance=_number(keys, "distance", path),
        pixel_size=size,
        wavelength=wavelength,
        centre=(_number(keys, "poni1", path) / size[0], _number(keys, "poni2", path) / size[1]),
        rotation=tuple(_number(keys, k, path) for k in ("rot1", "rot2", "rot3")),  # type: ignore[arg-type]
        shape=_two(shape, path),
    )


def _two(shape: Any, path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return a shape that a file states as two numbers."""
    try:
        rows, columns = (int(n) for n in shape)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{path} states the shape {shape!r}: pass shape=(rows, columns)") from None
    if rows < 1 or columns < 1 or rows * columns > MAX_PIXELS:
        raise DataError(f"{path} states a detector of {rows} x {columns} pixels: pass shape=(rows, columns)")
    return rows, columns


def write_poni(geometry: Geometry, path: str | os.PathLike[str]) -> None:
    """Write a flat detector as a ``.poni`` file, version 2.1.

    Raises
    ------
    DataError
        If the geometry is a map of pixels, which the format cannot hold.
    """
    if geometry.pixel_map is not None:
        raise DataError("a .poni file cannot hold a map of pixels: save the map as .npy")
    (p1, p2), (c1, c2) = geometry.pixel_size, geometry.centre
    config = {"pixel1": p1, "pixel2": p2, "max_shape": list(geometry.shape), "orientation": 3}
    lines = ["poni_version: 2.1", "Detector: Detector", f"Detector_config: {json.dumps(config)}"]
    values = {"Distance": geometry.distance, "Poni1": c1 * p1, "Poni2": c2 * p2,
              **{f"Rot{i + 1}": r for i, r in enumerate(geometry.rotation)}, "Wavelength":
              geometry.wavelength}  # fmt: skip
    lines += [f"{key}: {value!r}" for key, value in values.items()]
    Path(path).write_text("\n".join(lines) + "\n")


def load_map(path: str | os.PathLike[str], key: str | None) -> npt.NDArray[Any]:
    """Return an array of pixel positions from a ``.npy`` file, or from dataset `key` of an HDF5 file."""
    if str(path).endswith(".npy"):
        return np.load(path)
    import h5py  # noqa: PLC0415  # only for HDF5 files

    with h5py.File(path, "r") as file:
        if key is None:
            raise DataError(f"{path}: say which dataset holds the pixel positions: key='path/in/file'")
        if key not in file:
            raise DataError(f"{path} has no dataset {key!r}; its groups: {', '.join(file)}")
        return np.asarray(file[key])


def _lines(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as exc:
        raise DataError(f"cannot read the geometry file {path}: {exc}") from exc
    keys: dict[str, str] = {}
    for line in text.splitlines():
        bare = line.split("#", 1)[0].strip()
        key, sign, value = bare.partition(":")
        if sign:
            keys[key.strip().lower()] = value.strip()
    if not keys:
        raise DataError(f"{path} has no 'Key: value' line: is it a .poni file?")
    return keys


def _detector_config(keys: Mapping[str, str], path: Any) -> dict[str, Any]:
    text = keys.get("detector_config", "{}")
    try:
        config = json.loads(text)
    except json.JSONDecodeError as exc:
        raise DataError(f"{path}: Detector_config is not JSON: {exc}") from exc
    if not isinstance(config, dict):
        raise DataError(f"{path}: Detector_config is {text!r}, expected {{...}}")
    return config


def _sizes(keys: Mapping[str, str], detector: Mapping[str, Any], path: Any) -> tuple[float, float]:
    found = []
    for name in ("pixel1", "pixel2"):
        if name in detector:
            found.append(_number({name: str(detector[name])}, name, path))
        elif f"pixelsize{name[-1]}" in keys:  # version 1
            found.append(_number(keys, f"pixelsize{name[-1]}", path))
        else:
            raise DataError(
                f"{path} does not state {name}: detectors known by name only (Detector: "
                f"{keys.get('detector', '?')}) need Detector_config with pixel1 and pixel2 in m"
            )
    return found[0], found[1]


def _number(keys: Mapping[str, str], key: str, path: Any, hint: str = "") -> float:
    if key not in keys or keys[key].lower() in ("", "none"):
        raise DataError(f"{path} has no {key.capitalize()}: {hint or 'calibrate again'}")
    try:
        number = float(keys[key])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{path}: {key.capitalize()} is {keys[key]!r}, not a number")
    return number
