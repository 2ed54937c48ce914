"""Coherent X-ray imaging files (CXI and NXcxi_ptycho): data, mask, positions and geometry."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from framefold.io.hdf5_layouts import Candidate
from framefold.io.hdf5_nexus import ENERGY_UNITS, LENGTH_UNITS, quantity
from framefold.io.hdf5_tree import Tree, is_numeric, number, text
from framefold.udfcore.metadata import Axis, Metadata, photon_wavelength

# CXI 1.6, table of pixel masks
MASK_BITS = {
    0x1: "invalid",
    0x2: "saturated",
    0x4: "hot",
    0x8: "dead",
    0x10: "shadowed",
    0x20: "in peak mask",
    0x40: "to be ignored",
    0x80: "bad",
    0x100: "resolution limit",
    0x200: "missing",
    0x400: "noisy",
    0x10000: "has signal",
}
# these describe the sample or the analysis, the pixel itself is good
GOOD_BITS = 0x20 | 0x100 | 0x10000

MORE_UNITS = {
    "meter": 1.0, "meters": 1.0, "metre": 1.0, "cm": 1e-2, "millimeter": 1e-3, "micrometer": 1e-6,
    "microns": 1e-6, "μm": 1e-6, "nanometer": 1e-9, "å": 1e-10, "a": 1e-10,
}  # fmt: skip
SAME = 1e-3  # relative; more, and one number does not stand for all frames


def find(file: h5py.File, tree: Tree) -> Iterator[Candidate]:
    """Yield the data of every ``entry_N``, detectors before data groups that only link to them."""
    declared = "cxi_version" in file
    # with the version stated, "entry" and "instrument" without a number mean the same
    dash = "" if declared else "_"
    entries = {name: file.get(name) for name in sorted(file) if name.startswith("entry" + dash)}
    groups = {name: e for name, e in entries.items() if isinstance(e, h5py.Group)}
    if not declared and not any(
        _is_nexus(e) or any(k.startswith("instrument_") for k in e) for e in groups.values()
    ):
        return
    seen: list[h5py.Dataset] = []
    found: list[Candidate] = []
    for entry in groups.values():
        for path, detector in _detectors(entry, dash):
            data = detector.get("data")
            if is_numeric(data) and len(data.shape) >= 2 and data not in seen:
                seen.append(data)
                described = f"{entry.name}/{_describing(entry, path, dash)}"
                found.append(_candidate(f"{entry.name}/{path}/data", data, entry.name, described))
    # results of a reconstruction may stand in the first entry
    yield from sorted(found, key=lambda c: c.dtype.kind == "c" or len(c.shape) < 3)


def _detectors(entry: h5py.Group, dash: str) -> Iterator[tuple[str, h5py.Group]]:
    for top in sorted(k for k in entry if k.startswith("instrument" + dash)):
        instrument = entry.get(top)
        if isinstance(instrument, h5py.Group):
            # detectors by their usual name come first
            for name in sorted(instrument, key=lambda k: (not k.startswith("detector"), k)):
                if isinstance(instrument.get(name), h5py.Group):
                    yield f"{top}/{name}", instrument[name]
    for name in sorted(k for k in entry if k.startswith("data" + dash)):
        if isinstance(entry.get(name), h5py.Group):
            yield name, entry[name]


def _describing(entry: h5py.Group, path: str, dash: str) -> str:
    """Return the group that describes the detector of the data at `path`.

    Data may lie in a data group alone: then the detector of the same number, or the only one.
    """
    if "/" in path:
        return path
    groups = [p for p, _ in _detectors(entry, dash) if "/detector" in p]
    same = [p for p in groups if p.rpartition("detector")[2] == path.removeprefix("data")]
    return same[0] if same else groups[0] if len(groups) == 1 else path


def _candidate(key: str, data: h5py.Dataset, entry: str, detector: str) -> Candidate:
    return Candidate(
        key,
        data.shape,
        data.dtype,
        len(data.shape) - 2,
        "CXI",
        read_metadata=lambda file: metadata(file[entry], file[detector], data.shape),
    )


def metadata(entry: h5py.Group, detector: h5py.Group, shape: tuple[int, ...]) -> Metadata:
    """Return what a CXI entry states about one of its detectors.

    CXI demands SI units; the NeXus variant states units, and its ``source_N`` has the energy of the machine.
    """
    raw: dict[str, Any] = {"cxi_version": int(number(entry.file, "cxi_version") or 0)}
    places = [("instrument_", "source_"), ("instrument_", "beam_")]
    if _is_nexus(entry):
        places = [("instrument_", "beam_"), ("sample_", "beam_")]
    energy = wavelength = None
    for outer, inner in places:
        source = _first(entry, outer, inner)
        if source is None or energy or wavelength:
            continue
        energy = _si(source, "energy", ENERGY_UNITS) or _si(source, "incident_beam_energy", ENERGY_UNITS)
        wavelength = _si(source, "wavelength", LENGTH_UNITS)
    if wavelength is None and energy:
        wavelength = photon_wavelength(energy)
    if energy is None and wavelength:
        energy = photon_wavelength(wavelength)  # h c / x either way
    pixel: tuple[float | None, ...] = tuple(_si(detector, f"{n}_pixel_size", LENGTH_UNITS) for n in "yx")
    basis = detector.get("basis_vectors")
    if is_numeric(basis) and basis.shape[-2:] in ((3, 2), (2, 3)) and _constant(basis):
        vectors = basis[()].reshape(-1, *basis.shape[-2:])[0].astype(np.float64)
        raw["basis_vectors"] = vectors if vectors.shape == (3, 2) else vectors.T
        if None in pixel:
            pixel = tuple(float(v) for v in np.linalg.norm(raw["basis_vectors"], axis=0))
    pixel_size = (pixel[0], pixel[1]) if pixel[0] is not None and pixel[1] is not None else None
    mask = _mask(detector.get("mask"), shape[-2:], raw)
    positions = _positions(entry, detector, shape[:-2], raw)
    distance = _si(detector, "distance", LENGTH_UNITS)
    axes: tuple[Axis, ...] = ()
    if pixel_size is not None:
        nav = tuple(Axis(name="frame") for _ in shape[:-2])
        axes = (*nav, Axis("y", pixel_size[0], 0.0, "m"), Axis("x", pixel_size[1], 0.0, "m"))
    return Metadata(
        axes=axes,
        energy=energy,
        wavelength=wavelength,
        # along the z axis of CXI, which points to the source in some files
        camera_length=None if distance is None else abs(distance),
        pixel_size=pixel_size,
        mask=mask,
        positions=positions,
        raw=raw,
    )


def bad_pixels(mask: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return True where any bit is set that says the pixel is bad; unknown bits count as bad.

    >>> bad_pixels(np.array([0, 1, 0x10000, 0x10001])).tolist()
    [False, True, False, True]
    """
    return (mask.astype(np.int64) & ~GOOD_BITS) != 0


def _mask(dataset: Any, sig: tuple[int, ...], raw: dict[str, Any]) -> npt.NDArray[np.bool_] | None:
    if not is_numeric(dataset) or dataset.dtype.kind not in "iubf":
        return None
    bits = dataset[()]
    if bits.dtype.kind == "f":
        if not (np.isfinite(bits).all() and (bits == np.rint(bits)).all() and np.abs(bits).max() < 2**31):
            raw["mask_note"] = "the mask of the file is no set of bits: not used"
            return None
        bits = bits.astype(np.int64)
    while bits.ndim > 2:  # one mask per frame: bad where it is bad in all frames would hide, so any frame
        bits = np.bitwise_or.reduce(bits, axis=0)
        raw["mask_note"] = "the file has one mask per frame; a pixel is bad here if it is bad in any frame"
    if bits.shape != tuple(sig):
        raw["mask_note"] = (
            f"the mask of the file has the shape {bits.shape}, the frames {tuple(sig)}: not used"
        )
        return None
    used = int(np.bitwise_or.reduce(bits, axis=None))
    raw["mask_bits"] = [name for bit, name in MASK_BITS.items() if used & bit]
    return bad_pixels(bits)


def _positions(
    entry: h5py.Group, detector: h5py.Group, nav: tuple[int, ...], raw: dict[str, Any]
) -> npt.NDArray[np.float64] | None:
    """Return the translations (x, y, z) in m; ``raw["positions_of"]`` says that they move the sample."""
    n = math.prod(nav)
    for group in (_first(entry, "sample", "geometry"), detector, *_groups(entry, "data")):
        translation: Any = None if group is None else group.get("translation")
        if not is_numeric(translation) or len(translation.shape) < 2:
            continue
        values = translation[()].astype(np.float64)
        if values.shape[-1] not in (2, 3) and values.shape[0] in (2, 3) and values[0].size == n:
            values = values.reshape(len(values), n).T
        if values.shape[-1] not in (2, 3):
            continue
        unit = text(translation.attrs.get("units", "m")).lower()
        factor = (LENGTH_UNITS | MORE_UNITS).get(unit)
        if factor is None:
            raw["positions_note"] = f"the positions of the file have the unit {unit!r}, which is not known"
            continue
        values = values.reshape(-1, values.shape[-1]) * factor
        if values.shape[1] == 2:  # x, y as in CXI, not the (y, x) of `Metadata`
            values = np.column_stack([values, np.zeros(len(values))])
        # a detector's translation is often a link to that of the sample
        raw["positions_of"] = "sample"
        return np.asarray(values)
    return None


def _constant(dataset: h5py.Dataset) -> bool:
    values = dataset[()].reshape(-1, *dataset.shape[-2:])
    return len(values) > 0 and bool(np.allclose(values, values[0], rtol=1e-6, atol=0))


def _groups(entry: h5py.Group, prefix: str) -> list[h5py.Group]:
    found = (entry.get(k) for k in sorted(entry) if k.startswith(prefix))
    return [g for g in found if isinstance(g, h5py.Group)]


def _is_nexus(entry: Any) -> bool:
    """Tell whether an entry follows the NeXus variant of CXI."""
    definition = entry.get("definition") if isinstance(entry, h5py.Group) else None
    return isinstance(definition, h5py.Dataset) and text(definition[()]) in ("NXcxi_ptycho", "NXptycho")


def _si(group: h5py.Group, name: str, units: dict[str, float]) -> float | None:
    """Return a scalar in SI units: as its ``units`` attribute says, SI without one.

    One value per frame counts as a scalar if all are the same within `SAME`.
    """
    value = number(group, name)
    if value is not None:
        return quantity(group, name, units) if "units" in group[name].attrs else value
    dataset = group.get(name)
    if not is_numeric(dataset) or dataset.size == 0 or dataset.dtype.kind not in "iuf":
        return None
    values = dataset[()].astype(np.float64)
    middle = float(np.median(values))
    if not np.abs(values - middle).max() <= SAME * abs(middle):
        return None
    unit = text(dataset.attrs["units"]).lower() if "units" in dataset.attrs else ""
    factor = units.get(unit) if unit else 1.0
    return None if factor is None else middle * factor


def _first(entry: h5py.Group, outer: str, inner: str) -> h5py.Group | None:
    for group in _groups(entry, outer.rstrip("_")):
        below = _groups(group, inner.rstrip("_"))
        if below:
            return below[0]
    return None
