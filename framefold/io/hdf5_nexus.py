"""NeXus: the signal of every NXdata group, its axes, and what NXdetector and NXbeam say."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from framefold.io.hdf5_layouts import Candidate, axis_from_values
from framefold.io.hdf5_tree import Tree, is_numeric, join, number, text
from framefold.udfcore.metadata import Axis, Metadata, electron_wavelength, photon_wavelength
from framefold.udfcore.units import ENERGIES, EV, MORE_LENGTHS, TIMES

# files write units in any case
LENGTH_UNITS, ENERGY_UNITS, TIME_UNITS = (
    {unit.lower(): factor for unit, factor in table.items()} for table in (MORE_LENGTHS, ENERGIES, TIMES)
)


def find(file: h5py.File, tree: Tree) -> Iterator[Candidate]:
    """Yield image stacks in NXdata groups: that of ``@default`` first, then by size."""
    default = _default(file)
    found = []
    for path, group in tree.groups.items():
        if not _is_data(group):
            continue
        signal = _signal(group)
        if signal is None:
            continue
        name, dataset = signal
        is_default = default is not None and group == default
        if len(dataset.shape) >= 3 or (is_default and len(dataset.shape) == 2):
            found.append((not is_default, -math.prod(dataset.shape), _candidate(path, group, name, dataset)))
    yield from (c for _, _, c in sorted(found, key=lambda f: f[:2]))


def _is_data(group: h5py.Group) -> bool:
    return text(group.attrs.get("NX_class", "")) == "NXdata" or "signal" in group.attrs


def _default(file: h5py.File) -> h5py.Group | None:
    """Follow ``@default`` from the root; stops where it leads nowhere."""
    node: Any = file["/"]
    for _ in range(16):  # NeXus has three levels; more is a circle
        name = text(node.attrs.get("default", ""))
        try:
            below = node.get(name) if name else None
        except (KeyError, OSError):
            return None
        if not isinstance(below, h5py.Group):
            return node if _is_data(node) else None
        node = below
    return None


def _signal(group: h5py.Group) -> tuple[str, h5py.Dataset] | None:
    """Return the signal dataset: ``@signal``, the old ``signal=1`` on the dataset, or ``data``."""
    names = [text(group.attrs["signal"])] if "signal" in group.attrs else []
    if not names:
        names = [n for n in group if _old_style(group, n)] + ["data"]
    for name in names:
        try:
            dataset = group.get(name)
        except (KeyError, OSError):
            continue
        if is_numeric(dataset):
            return name, dataset
    return None


def _old_style(group: h5py.Group, name: str) -> bool:
    try:
        obj = group.get(name)
    except (KeyError, OSError):
        return False
    return isinstance(obj, h5py.Dataset) and text(obj.attrs.get("signal", "")) == "1"


def _candidate(path: str, group: h5py.Group, name: str, dataset: h5py.Dataset) -> Candidate:
    names = axis_names(group, dataset)
    order, nav_dims = split_axes(group, dataset, names)
    transposed = order != tuple(range(len(order)))
    return Candidate(
        join(path, name),
        tuple(dataset.shape[a] for a in order),
        dataset.dtype,
        nav_dims,
        "NeXus",
        transpose=order if transposed else None,
        note="signal axes come before navigation axes in the file" if transposed else "",
        read_metadata=lambda file: metadata(file, file[path], dataset.shape, order, nav_dims, names),
    )


def axis_names(group: h5py.Group, dataset: h5py.Dataset) -> tuple[str, ...]:
    """Return one name per dataset axis, ``"."`` where there is none."""
    stated = group.attrs.get("axes", dataset.attrs.get("axes"))
    if stated is None:
        return (".",) * len(dataset.shape)
    if isinstance(stated, (str, bytes)) or np.ndim(stated) == 0:
        listed = [n for n in re.split(r"[:,\s\[\]]+", text(stated)) if n]
    else:
        listed = [text(n) for n in stated]
    names = ["."] * len(dataset.shape)
    for position, name in enumerate(listed):
        if not name or name == ".":
            continue
        indices = group.attrs.get(f"{name}_indices", position)
        for i in np.asarray(indices).reshape(-1):
            if np.asarray(i).dtype.kind in "iu" and 0 <= int(i) < len(names) and names[int(i)] == ".":
                names[int(i)] = name
    return tuple(names)


def split_axes(
    group: h5py.Group, dataset: h5py.Dataset, names: tuple[str, ...]
) -> tuple[tuple[int, ...], int]:
    """Return the axes in the order nav, sig, and the number of nav axes.

    ``@interpretation`` decides; else the axes without a name are the signal; else the last two are.
    """
    n = len(dataset.shape)
    meaning = text(dataset.attrs.get("interpretation", group.attrs.get("interpretation", "")))
    last = {"image": 2, "spectrum": 1, "scalar": 0}.get(meaning)
    named = [i for i in range(n) if names[i] != "."]
    if last is None and 0 < len(named) < n:
        sig = [i for i in range(n) if i not in named]
        return (*named, *sig), len(named)
    return tuple(range(n)), max(0, n - (2 if last is None else last))


def metadata(
    file: h5py.File,
    group: h5py.Group,
    shape: tuple[int, ...],
    order: tuple[int, ...],
    nav_dims: int,
    names: tuple[str, ...],
) -> Metadata:
    """Return the axes of an NXdata group, and geometry from the entry it lies in."""
    axes = _own_axes(group, len(shape)) or [_axis(group, n, shape[i]) for i, n in enumerate(names)]
    sig = tuple(shape[a] for a in order[nav_dims:])
    found = _geometry(file, group, sig)
    return Metadata(axes=tuple(axes[a] for a in order) if any(a != Axis() for a in axes) else (), **found)


def _axis(group: h5py.Group, name: str, n: int) -> Axis:
    if name == ".":
        return Axis()
    try:
        dataset = group.get(name)
    except (KeyError, OSError):
        dataset = None
    if not isinstance(dataset, h5py.Dataset) or dataset.shape != (n,):
        return Axis(name)
    return axis_from_values(name, dataset[()], n, text(dataset.attrs.get("units", "")))


def _own_axes(group: h5py.Group, n: int) -> list[Axis]:
    """Return the axes that framefold's own export states in full, empty without them."""
    try:
        stated = json.loads(text(group.attrs.get("framefold_axes", "[]")))
        axes = [
            Axis(str(name), float(scale), float(offset), str(unit)) for name, scale, offset, unit in stated
        ]
    except (ValueError, TypeError):
        return []
    return axes if len(axes) == n else []


def _geometry(file: h5py.File, group: h5py.Group, sig: tuple[int, ...]) -> dict[str, Any]:
    """Return Metadata fields from NXdetector, NXbeam and NXmonochromator of the same entry."""
    found: dict[str, Any] = {}
    entry = file.get("/" + group.name.strip("/").split("/")[0])
    if not isinstance(entry, h5py.Group):
        return found
    for instrument in _children(entry, "NXinstrument"):
        for detector in [g for g in (group.parent, group) if _class(g) == "NXdetector"] or _children(
            instrument, "NXdetector"
        ):
            found.setdefault("camera_length", quantity(detector, "distance", LENGTH_UNITS))
            found.setdefault("dwell_time", quantity(detector, "count_time", TIME_UNITS))
            y, x = (quantity(detector, f"{a}_pixel_size", LENGTH_UNITS) for a in "yx")
            if y and x and len(sig) == 2:
                found.setdefault("pixel_size", (y, x))
            places = detector.get("translation")
            if is_numeric(places) and len(places.shape) == 2 and places.shape[1] in (2, 3):
                found.setdefault("positions", places[()].astype(np.float64))
            mask = detector.get("pixel_mask")
            if is_numeric(mask) and mask.shape == sig:
                found.setdefault("mask", mask[()] != 0)
        beams = _children(instrument, "NXbeam") + [
            b for s in _children(entry, "NXsample") for b in _children(s, "NXbeam")
        ]
        energies = [quantity(b, "incident_energy", ENERGY_UNITS) for b in beams]
        energies += [quantity(m, "energy", ENERGY_UNITS) for m in _children(instrument, "NXmonochromator")]
        energy = next((e for e in energies if e), None)
        if energy:
            found.setdefault("energy", energy)
            probes = {text(s["probe"][()]).lower() for s in _children(instrument, "NXsource") if "probe" in s}
            waves = [quantity(b, "incident_wavelength", LENGTH_UNITS) for b in beams]
            by_energy = (
                electron_wavelength(energy / EV) if "electron" in probes else photon_wavelength(energy)
            )
            found.setdefault("wavelength", next((w for w in waves if w), by_energy))
    return {k: v for k, v in found.items() if v is not None}


def quantity(group: h5py.Group, name: str, units: dict[str, float]) -> float | None:
    """Return the scalar `name` in SI units; None if it is absent or its unit is none of `units`."""
    value = number(group, name)
    if value is None:
        return None
    unit = text(group[name].attrs.get("units", ""))
    factor = units.get(unit, units.get(unit.lower()))
    return None if factor is None else value * factor


def _class(group: h5py.Group) -> str:
    return text(group.attrs.get("NX_class", ""))


def _children(group: h5py.Group, nx_class: str) -> list[h5py.Group]:
    found = []
    for name in group:
        try:
            child = group.get(name)
        except (KeyError, OSError):
            continue
        if isinstance(child, h5py.Group) and _class(child) == nx_class:
            found.append(child)
    return found


def write_geometry(entry: h5py.Group, metadata: Metadata) -> None:
    """Write what `metadata` states about beam and detector, as `metadata` of this module reads it."""
    instrument = _new(entry, "instrument", "NXinstrument")
    detector, beam = _new(instrument, "detector", "NXdetector"), _new(instrument, "beam", "NXbeam")
    sizes = metadata.pixel_size or ()
    stated = [
        (detector, "distance", metadata.camera_length, "m"),
        (detector, "count_time", metadata.dwell_time, "s"),
        *((detector, f"{n}_pixel_size", s, "m") for n, s in zip("yx", sizes, strict=False)),
        (beam, "incident_energy", metadata.energy, "J"),
        (beam, "incident_wavelength", metadata.wavelength, "m"),
    ]
    for group, name, value, units in stated:
        if value is not None:
            group[name] = float(value)
            group[name].attrs["units"] = units
    if metadata.mask is not None:
        detector["pixel_mask"] = metadata.mask.astype(np.uint32)
    if metadata.positions is not None:
        detector["translation"] = metadata.positions
        detector["translation"].attrs["units"] = "m"


def _new(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group
