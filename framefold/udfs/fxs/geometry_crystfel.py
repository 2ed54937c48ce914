"""Geometry of many panels from CrystFEL ``.geom`` files, by the public manual of the format."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.fxs.geometry import HC, MAX_PIXELS, Geometry

Array = npt.NDArray[Any]
Keys = dict[str, str]
_TERM = re.compile(r"([+-]?)(\d*\.?\d*(?:[eE][+-]?\d+)?)([xyz])")
_UNITS = {"m": 1.0, "mm": 1e-3, "A": 1e-10, "eV": 1.0, "keV": 1e3, "MeV": 1e6}


@dataclass(frozen=True)
class _File:
    """The lines of a file: what is stated for everything, for panels and for bad regions."""

    path: Any
    common: Keys
    panels: dict[str, Keys]
    bad: dict[str, Keys]


def read_geom(
    path: str | os.PathLike[str],
    *,
    clen: float | None = None,
    photon_energy: float | None = None,
    shape: Sequence[int] | None = None,
) -> Geometry:
    """Read panels (``fs``, ``ss``, corners, ``clen``, ``coffset``, ``res``) and bad regions.

    A pixel lies at ``corner + (fs + 1/2) fs_vector + (ss + 1/2) ss_vector`` pixels, and ``clen + coffset``
    along the beam; fs is the last axis of frames, ss the one before. Bad regions, panels with ``no_index``
    and what belongs to no panel are `absent`. Keys that say nothing about places, such as ``adu_per_photon``,
    ``max_adu``, groups and rigid groups, are not read. ``detector_shift_x`` and ``_y`` move all panels;
    ``mask_edge_pixels`` leaves out their edges.

    Parameters
    ----------
    path
        Of the file.
    clen
        Distance in m, where the file names a place in data files.
    photon_energy
        In eV, likewise.
    shape
        Of a frame, where it is larger than the panels.

    Raises
    ------
    DataError
        Naming what is missing or not understood, and what to do.
    """
    file = _read(Path(path))
    energy = photon_energy if photon_energy is not None else _energy(file)
    areas = {name: _area(name, keys, path) for name, keys in file.panels.items()}
    depths = {len(index) for index, *_ in areas.values()}
    if len(depths) != 1:
        raise DataError(f"{path}: panels have different numbers of dimensions (dim0, dim1, ...)")
    tops = [(*(i + 1 for i in index), ss[1] + 1, fs[1] + 1) for index, ss, fs in areas.values()]
    least = tuple(np.max(tops, axis=0).tolist())
    sig = least if shape is None else tuple(int(n) for n in shape)
    if len(sig) != len(least) or any(a < b for a, b in zip(sig, least, strict=True)):
        raise DataError(f"{path}: panels reach {least}, frames of shape {sig} are too small")
    if math.prod(sig) > MAX_PIXELS:
        raise DataError(f"{path}: panels reach {least}: no detector has so many pixels, the file is damaged")
    xyz, edges = np.zeros((3, *sig)), np.zeros((2, 3, *sig))
    absent, seen = np.zeros(sig, bool), np.zeros(sig, bool)
    for name, keys in file.panels.items():
        index, ss, fs = areas[name]
        place: tuple[Any, ...] = (*index, slice(ss[0], ss[1] + 1), slice(fs[0], fs[1] + 1))
        if seen[place].any():
            raise DataError(f"{path}: panel {name} overlaps another one in the data")
        seen[place] = True
        pixels, vectors = _pixels(name, keys, path, ss, fs)
        res = _number(keys, "res", name, path, hint="pixels per m")
        if not res > 0:
            raise DataError(f"{path}: {name}/res is {res}, needed are pixels per m")
        pitch = 1 / res
        xyz[(slice(None), *place)] = pixels * pitch
        for axis in (0, 1):
            xyz[(axis, *place)] += _length(keys, f"detector_shift_{'xy'[axis]}", path)
        xyz[(2, *place)] += _distance(name, keys, path, clen)
        edges[(slice(None), slice(None), *place)] = vectors[:, :, None, None] * pitch
        absent[place] |= keys.get("no_index", "0") not in ("0", "false", "no")
        border = int(_float(keys.get("mask_edge_pixels", "0"), f"{name}/mask_edge_pixels", path))
        absent[place] |= _edge(absent[place].shape, border)
        for region, limits in file.bad.items():
            absent[place] |= _inside(region, limits, name, file, pixels, ss, fs)
    # what no panel holds needs finite places and edges, though it never counts
    xyz[2, ~seen] = xyz[2, seen].mean()
    edges[0, 1, ~seen] = edges[1, 0, ~seen] = 1e-6
    return Geometry(
        photon_energy=energy, pixel_map=xyz, pixel_edges=edges, absent=absent | ~seen if not seen.all()
        or absent.any() else None,
    )  # fmt: skip


def _read(path: Path) -> _File:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as exc:
        raise DataError(f"cannot read the geometry file {path}: {exc}") from exc
    file = _File(path, {}, {}, {})
    for line in text.splitlines():
        key, sign, value = (part.strip() for part in line.split(";", 1)[0].partition("="))
        if not sign:
            continue
        owner, slash, name = key.partition("/")
        if not slash:
            file.common[key] = value  # for the panels that follow
        elif owner.startswith("bad"):
            file.bad.setdefault(owner, {})[name] = value
        else:
            file.panels.setdefault(owner, dict(file.common))[name] = value
    if not file.panels:
        raise DataError(f"{path} has no panel (name/min_fs = ...): is it a .geom file?")
    keys = {k for panel in file.panels.values() for k in panel}
    if any(re.fullmatch(r"mask\d*(_file|_data)?", k) for k in keys):
        warnings.warn(f"{path} names masks in other files: load them, and pass mask=", stacklevel=4)
    return file


def _energy(file: _File) -> float:
    for key, units in (("photon_energy", ("eV", "keV", "MeV")), ("wavelength", ("m", "A"))):
        if key not in file.common:
            continue
        words = file.common[key].split() or [""]
        if words[0].startswith("/"):
            raise DataError(f"{file.path}: {key} is in data files ({words[0]}): pass photon_energy= in eV")
        unit = words[1] if len(words) > 1 else "eV" if key == "photon_energy" else ""
        if unit not in units:
            raise DataError(f"{file.path}: {key} = {file.common[key]!r} needs a unit of {', '.join(units)}")
        number = _float(words[0], key, file.path) * _UNITS[unit]
        if not number > 0:
            raise DataError(f"{file.path}: {key} = {file.common[key]!r} must be above 0")
        return number if key == "photon_energy" else HC / number
    raise DataError(f"{file.path} has no photon_energy: pass photon_energy= in eV")


def _distance(name: str, keys: Keys, path: Any, clen: float | None) -> float:
    offset = _float(keys.get("coffset", "0"), "coffset", path)
    if clen is not None:
        return clen + offset
    words = keys.get("clen", "").split()
    if not words or words[0].startswith("/"):
        where = f"is in data files ({words[0]})" if words else f"is missing for panel {name}"
        raise DataError(f"{path}: clen {where}: pass clen= in m")
    unit = words[1] if len(words) > 1 else "m"
    if unit not in ("m", "mm"):
        raise DataError(f"{path}: clen = {keys['clen']!r}: the unit is m or mm")
    return _float(words[0], "clen", path) * _UNITS[unit] + offset


def _length(keys: Keys, key: str, path: Any) -> float:
    words = keys.get(key, "0").split() or [""]
    if words[0].startswith("/"):
        raise DataError(f"{path}: {key} is in data files ({words[0]}): write its value in m into the file")
    unit = words[1] if len(words) > 1 else "m"
    if unit not in ("m", "mm"):
        raise DataError(f"{path}: {key} = {keys[key]!r}: the unit is m or mm")
    return _float(words[0], key, path) * _UNITS[unit]


def _edge(shape: tuple[int, ...], width: int) -> Any:
    """Return which pixels lie within `width` of the edge of a panel."""
    if width < 1:
        return False
    edge = np.ones(shape, bool)
    edge[width:-width, width:-width] = False
    return edge


def _area(name: str, keys: Keys, path: Any) -> tuple[tuple[int, ...], tuple[int, int], tuple[int, int]]:
    """Return fixed indices, first and last ss, first and last fs of a panel in the data of a frame."""
    dims = [
        keys[k] for k in sorted((k for k in keys if re.fullmatch(r"dim\d+", k)), key=lambda k: int(k[3:]))
    ]
    dims = [d for d in dims if d != "%"] or ["ss", "fs"]
    if dims[-2:] != ["ss", "fs"] or not all(d.isdigit() for d in dims[:-2]):
        raise DataError(f"{path}: panel {name} has dimensions {', '.join(dims)}: needed are ..., ss, fs")
    limits = [int(_number(keys, k, name, path)) for k in ("min_ss", "max_ss", "min_fs", "max_fs")]
    if not (0 <= limits[0] <= limits[1] and 0 <= limits[2] <= limits[3]):
        raise DataError(f"{path}: panel {name} runs from ss, fs {limits[::2]} to {limits[1::2]}")
    return tuple(int(d) for d in dims[:-2]), (limits[0], limits[1]), (limits[2], limits[3])


def _pixels(
    name: str, keys: Keys, path: Any, ss: tuple[int, int], fs: tuple[int, int]
) -> tuple[Array, Array]:
    """Return pixel centres ``(3, ss, fs)`` and the vectors ss, fs ``(2, 3)``, in pixels."""
    vectors = np.stack([_vector(keys.get(k, default), k, name, path) for k, default in
                        (("ss", "y"), ("fs", "x"))])  # fmt: skip
    corner = np.array([_number(keys, "corner_x", name, path), _number(keys, "corner_y", name, path), 0.0])
    i = np.arange(ss[1] - ss[0] + 1)[:, None] + 0.5
    k = np.arange(fs[1] - fs[0] + 1)[None] + 0.5
    return corner[:, None, None] + vectors[0][:, None, None] * i + vectors[1][:, None, None] * k, vectors


def _vector(text: str, key: str, name: str, path: Any) -> Array:
    bare = re.sub(r"\s", "", text)
    if not re.fullmatch(f"(?:{_TERM.pattern})+", bare):
        raise DataError(f"{path}: {name}/{key} = {text!r} is not of the form '+1.0x -0.002y'")
    out = np.zeros(3)
    for sign, number, axis in _TERM.findall(bare):
        out["xyz".index(axis)] += (-1 if sign == "-" else 1) * (float(number) if number else 1.0)
    return out


def _inside(
    region: str,
    limits: Keys,
    panel: str,
    file: _File,
    pixels: Array,
    ss: tuple[int, int],
    fs: tuple[int, int],
) -> Any:
    """Return which pixels of a panel a bad region holds; its limits belong to it."""
    if limits.get("panel", panel) != panel:
        return False
    fields = {
        "x": pixels[0], "y": pixels[1],
        "fs": np.arange(fs[0], fs[1] + 1)[None], "ss": np.arange(ss[0], ss[1] + 1)[:, None],
    }  # fmt: skip
    axes = ("x", "y") if "min_x" in limits else ("fs", "ss")
    inside: Any = True
    for axis in axes:
        low, high = (_number(limits, f"{end}_{axis}", region, file.path) for end in ("min", "max"))
        inside = inside & (fields[axis] >= low) & (fields[axis] <= high)
    return inside


def _number(keys: Keys, key: str, name: str, path: Any, hint: str = "a number") -> float:
    if key not in keys:
        raise DataError(f"{path}: {name} has no {key} ({hint})")
    return _float(keys[key].split()[0] if keys[key] else "", f"{name}/{key}", path)


def _float(text: str, key: str, path: Any) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{path}: {key} is {text!r}, not a number")
    return number
