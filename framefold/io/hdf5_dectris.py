"""DECTRIS master files: numbered external links to data files, concatenated in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from framefold.errors import DataError
from framefold.io.hdf5_layouts import Candidate, Segment
from framefold.io.hdf5_tree import is_numeric, number, text
from framefold.udfcore.metadata import Axis, Metadata, electron_wavelength, photon_wavelength
from framefold.udfcore.units import EV

_LINK = re.compile(r"data_(\d{6})$")
# the energy that these state is that of electrons
_ELECTRON = re.compile(r"ARINA|QUADRO|ELA|SINGLA", re.IGNORECASE)
_GROUP = "/entry/data"


def find(file: h5py.File) -> Iterator[Candidate]:
    """Yield the one candidate of a master file.

    Raises
    ------
    DataError
        If the numbers of the links have a gap, or the first data file that exists cannot be read.
    """
    group = file.get(_GROUP, getlink=False) if _GROUP in file else None
    if not isinstance(group, h5py.Group):
        return
    numbers = sorted(int(m.group(1)) for k in group if (m := _LINK.match(k)))
    if not numbers:
        return
    gaps = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    if gaps:
        raise DataError(f"{file.filename}: {_GROUP} lacks data_{gaps[0]:06d} between its data links")
    targets = [_target(file, f"data_{n:06d}") for n in numbers]
    segments, shape, dtype = _segments(file, targets)
    if not segments:
        return
    frames = sum(s.frames for s in segments)
    nav = scan_shape(file, frames) or (frames,)
    yield Candidate(
        _GROUP,
        (*nav, *shape),
        dtype,
        len(nav),
        "DECTRIS master",
        segments=tuple(segments),
        read_metadata=lambda opened: metadata(opened, (*nav, *shape), len(nav)),
    )


def _target(file: h5py.File, name: str) -> tuple[str, str, bool]:
    """Return file, key and whether the file exists, of one link."""
    link = file[_GROUP].get(name, getlink=True)
    if not isinstance(link, h5py.ExternalLink):
        return file.filename, f"{_GROUP}/{name}", True
    here = Path(file.filename)
    for folder in (here.parent, here.resolve().parent):
        path = folder / link.filename
        if path.is_file():
            return str(path), link.path, True
    return str(here.parent / link.filename), link.path, False


def _segments(
    file: h5py.File, targets: list[tuple[str, str, bool]]
) -> tuple[list[Segment], tuple[int, ...], np.dtype[Any]]:
    there = [i for i, t in enumerate(targets) if t[2]]
    if not there:
        raise DataError(f"{file.filename}: none of its data files exists, {targets[0][0]} is the first")
    counts: dict[int, int] = {}
    counts[there[0]], shape, dtype = _look(targets[there[0]])
    counts[there[-1]], *_ = _look(targets[there[-1]])
    full, total = counts[there[0]], _total(file)
    # files before the last are full: with a thousand of them opening each would take a second
    last = 0 if total is None else total - (len(targets) - 1) * full
    regular = 0 < last <= full and (there[-1] != len(targets) - 1 or counts[there[-1]] == last)
    segments = []
    for i, (path, key, exists) in enumerate(targets):
        if regular:
            frames = full if i < len(targets) - 1 else last
        elif exists:
            frames = counts[i] if i in counts else _look(targets[i])[0]
        else:
            frames = full
        segments.append(Segment(path, key, 0, frames, exists))
    return segments, shape, dtype


def _look(target: tuple[str, str, bool]) -> tuple[int, tuple[int, ...], np.dtype[Any]]:
    from framefold.io.hdf5_read import open_file

    path, key, _ = target
    with open_file(path) as file:
        data = file.get(key)
        if not is_numeric(data) or len(data.shape) != 3:
            raise DataError(f"{path}: {key} is not a stack of images")
        return int(data.shape[0]), tuple(data.shape[1:]), data.dtype


def _total(file: h5py.File) -> int | None:
    counts = trigger_counts(file)
    return counts[0] * counts[1] if counts else None


def trigger_counts(file: h5py.File) -> tuple[int, int] | None:
    """Return (ntrigger, nimages) as the master file states them."""
    specific = file.get("/entry/instrument/detector/detectorSpecific")
    if not isinstance(specific, h5py.Group):
        return None
    images, triggers = number(specific, "nimages"), number(specific, "ntrigger")
    if not images or not triggers:
        return None
    return int(triggers), int(images)


def scan_shape(file: h5py.File, frames: int) -> tuple[int, int] | None:
    """Return the scan that the STEM file beside the master states, or triggers x images; else None."""
    beside = stem_attributes(file.filename)
    rows, columns = int(beside.get("NumPixelsY", 0)), int(beside.get("NumPixelsX", 0))
    if rows * columns == frames:
        return rows, columns
    counts = trigger_counts(file)
    if counts and min(counts) > 1 and counts[0] * counts[1] == frames:
        return counts
    return None


def stem_attributes(master: str) -> dict[str, float]:
    """Return the numbers in ``NAME.h5``, ``STEM Metadata``, beside ``NAME_master.h5``; empty without it."""
    path = Path(master)
    if not path.name.endswith("_master.h5"):
        return {}
    beside = path.with_name(path.name.removesuffix("_master.h5") + ".h5")
    try:
        with h5py.File(beside, "r") as file:
            attributes = dict(file["STEM Metadata"].attrs) if "STEM Metadata" in file else {}
    except OSError:
        return {}
    return {
        k: float(np.asarray(v).reshape(-1)[0])
        for k, v in attributes.items()
        if np.asarray(v).dtype.kind in "iuf"
    }


def metadata(file: h5py.File, shape: tuple[int, ...], nav_dims: int) -> Metadata:
    """Return calibration, mask and flat field of a master file; any bit in its mask makes a pixel bad."""
    detector = file.get("/entry/instrument/detector")
    if not isinstance(detector, h5py.Group):
        return Metadata()
    specific = detector.get("detectorSpecific", default=detector)
    beside = stem_attributes(file.filename)
    raw: dict[str, Any] = _plain(detector)
    raw |= {f"detectorSpecific/{k}": v for k, v in _plain(specific).items()}
    raw |= {f"STEM Metadata/{k}": v for k, v in beside.items()}
    volts = number(specific, "photon_energy") or number(file["/entry/instrument"], "beam/incident_energy")
    description = text(detector["description"][()]) if "description" in detector else ""
    electrons = bool(_ELECTRON.search(description)) or "High Tension" in beside
    if electrons:
        volts = beside.get("High Tension") or volts
    wavelength = None
    if volts:
        wavelength = electron_wavelength(volts) if electrons else photon_wavelength(volts * EV)
    pixel = (number(detector, "y_pixel_size"), number(detector, "x_pixel_size"))
    pixel_size = (pixel[0], pixel[1]) if pixel[0] and pixel[1] else None
    axes: tuple[Axis, ...] = ()
    if pixel_size is not None:
        names = ("y", "x") if nav_dims == 2 else ("frame",) * nav_dims
        axes = (
            *(Axis(n) for n in names),
            Axis("ky", pixel_size[0], 0.0, "m"),
            Axis("kx", pixel_size[1], 0.0, "m"),
        )
    sig = shape[nav_dims:]
    mask, gain = specific.get("pixel_mask"), specific.get("flatfield")
    return Metadata(
        axes=axes,
        energy=volts * EV if volts else None,
        wavelength=wavelength,
        camera_length=number(detector, "detector_distance") or beside.get("Camera Length") or None,
        pixel_size=pixel_size,
        dwell_time=number(detector, "frame_time"),
        mask=mask[()] != 0 if is_numeric(mask) and mask.shape == sig else None,
        gain=gain[()] if is_numeric(gain) and gain.shape == sig else None,
        nav_shape=shape[:nav_dims] if nav_dims > 1 else None,
        raw=raw,
    )


def _plain(group: h5py.Group) -> dict[str, Any]:
    """Return the scalars and short strings of a group."""
    found: dict[str, Any] = {}
    for name, link in ((n, group.get(n, getlink=True)) for n in group):
        obj = group.get(name) if isinstance(link, h5py.HardLink) else None
        if isinstance(obj, h5py.Dataset) and obj.shape == ():
            value = obj[()]
            found[name] = text(value) if isinstance(value, (bytes, str)) else value.item()
    return found
