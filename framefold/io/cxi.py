"""Coherent X-ray imaging files (CXI and NXcxi_ptycho): data, mask, positions and geometry."""

from __future__ import annotations

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


def find(file: h5py.File, tree: Tree) -> Iterator[Candidate]:
    """Yield the data of every ``entry_N``, detectors before data groups that only link to them."""
    if "cxi_version" not in file and not any(_is_nexus(file.get(k)) for k in file if k.startswith("entry_")):
        return
    seen = []
    for name in sorted(k for k in file if k.startswith("entry_")):
        entry = file.get(name)
        if not isinstance(entry, h5py.Group):
            continue
        for path, detector in _detectors(entry):
            data = detector.get("data")
            if is_numeric(data) and len(data.shape) >= 2 and data not in seen:
                seen.append(data)
                yield _candidate(f"{entry.name}/{path}/data", data, entry.name, f"{entry.name}/{path}")


def _detectors(entry: h5py.Group) -> Iterator[tuple[str, h5py.Group]]:
    for top in sorted(k for k in entry if k.startswith("instrument_")):
        instrument = entry.get(top)
        if isinstance(instrument, h5py.Group):
            for name in sorted(k for k in instrument if k.startswith("detector_")):
                if isinstance(instrument.get(name), h5py.Group):
                    yield f"{top}/{name}", instrument[name]
    for name in sorted(k for k in entry if k.startswith("data_")):
        if isinstance(entry.get(name), h5py.Group):
            yield name, entry[name]


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
    source = _first(entry, "instrument_", "beam_" if _is_nexus(entry) else "source_")
    if source is None and _is_nexus(entry):
        source = _first(entry, "sample_", "beam_")
    energy = wavelength = None
    if source is not None:
        energy = _si(source, "energy", ENERGY_UNITS) or _si(source, "incident_beam_energy", ENERGY_UNITS)
        wavelength = _si(source, "wavelength", LENGTH_UNITS)
    if wavelength is None and energy:
        wavelength = photon_wavelength(energy)
    if energy is None and wavelength:
        energy = photon_wavelength(wavelength)  # h c / x either way
    pixel: tuple[float | None, ...] = tuple(_si(detector, f"{n}_pixel_size", LENGTH_UNITS) for n in "yx")
    basis = detector.get("basis_vectors")
    if is_numeric(basis) and basis.shape == (3, 2):
        raw["basis_vectors"] = basis[()].astype(np.float64)
        if None in pixel:
            pixel = tuple(float(v) for v in np.linalg.norm(raw["basis_vectors"], axis=0))
    pixel_size = (pixel[0], pixel[1]) if pixel[0] is not None and pixel[1] is not None else None
    mask = _mask(detector.get("mask"), shape[-2:], raw)
    positions, place = _positions(entry, detector)
    if place:
        raw["positions_of"] = place
    axes: tuple[Axis, ...] = ()
    if pixel_size is not None:
        nav = tuple(Axis(name="frame") for _ in shape[:-2])
        axes = (*nav, Axis("y", pixel_size[0], 0.0, "m"), Axis("x", pixel_size[1], 0.0, "m"))
    return Metadata(
        axes=axes,
        energy=energy,
        wavelength=wavelength,
        camera_length=_si(detector, "distance", LENGTH_UNITS),
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
    if not is_numeric(dataset) or dataset.dtype.kind not in "iub":
        return None
    bits = dataset[()]
    while bits.ndim > 2:  # one mask per frame: bad where it is bad in all frames would hide, so any frame
        bits = np.bitwise_or.reduce(bits, axis=0)
        raw["mask_note"] = "the file has one mask per frame; a pixel is bad here if it is bad in any frame"
    if bits.shape != tuple(sig):
        return None
    used = int(np.bitwise_or.reduce(bits, axis=None))
    raw["mask_bits"] = [name for bit, name in MASK_BITS.items() if used & bit]
    return bad_pixels(bits)


def _positions(entry: h5py.Group, detector: h5py.Group) -> tuple[npt.NDArray[np.float64] | None, str]:
    """Return the translations, and what they are positions of: those of ``sample_N`` move the sample."""
    sample = _first(entry, "sample_", "geometry_")
    for group in (sample, detector):
        if group is None:
            continue
        translation = group.get("translation")
        if is_numeric(translation) and len(translation.shape) >= 2 and translation.shape[-1] in (2, 3):
            factor = LENGTH_UNITS.get(text(translation.attrs.get("units", "m")), 1.0)
            values = translation[()].astype(np.float64).reshape(-1, translation.shape[-1])
            # a detector's translation is often a link to that of the sample
            return np.asarray(values * factor), "sample"
    return None, ""


def _is_nexus(entry: Any) -> bool:
    """Tell whether an entry follows the NeXus variant of CXI."""
    definition = entry.get("definition") if isinstance(entry, h5py.Group) else None
    return isinstance(definition, h5py.Dataset) and text(definition[()]) in ("NXcxi_ptycho", "NXptycho")


def _si(group: h5py.Group, name: str, units: dict[str, float]) -> float | None:
    """Return a scalar in SI units: as its ``units`` attribute says, SI without one."""
    value = number(group, name)
    if value is None or "units" not in group[name].attrs:
        return value
    return quantity(group, name, units)


def _first(entry: h5py.Group, outer: str, inner: str) -> h5py.Group | None:
    for a in sorted(k for k in entry if k.startswith(outer)):
        group = entry.get(a)
        if isinstance(group, h5py.Group):
            for b in sorted(k for k in group if k.startswith(inner)):
                if isinstance(group.get(b), h5py.Group):
                    return group[b]
    return None
