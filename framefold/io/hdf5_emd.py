"""Arrays with ``dim`` vectors (EMD, py4DSTEM), with axis groups (hspy), and of MATLAB 7.3."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from framefold.io.hdf5_layouts import Candidate, axis_from_values
from framefold.io.hdf5_tree import Tree, is_numeric, join, text
from framefold.udfcore.metadata import Axis, Metadata


def find(file: h5py.File, tree: Tree) -> Iterator[Candidate]:
    """Yield 4-D arrays before others; the order of the file among equals."""
    found = [
        c for path, group in tree.groups.items() if (c := _emd(path, group) or _hspy(path, group)) is not None
    ]
    yield from sorted(found, key=lambda c: -len(c.shape))
    if file.userblock_size:
        yield from _matlab(tree)


def _emd(path: str, group: h5py.Group) -> Candidate | None:
    kind = group.attrs.get("emd_group_type")
    # EMD 1.0 says "array", 0.2 and 0.5 say 1
    if kind is None or text(kind) not in ("array", "1"):
        return None
    name = next((n for n in ("data", "datacube") if is_numeric(group.get(n))), None)
    if name is None or len(group[name].shape) < 3:
        return None
    dataset = group[name]
    return Candidate(
        join(path, name),
        dataset.shape,
        dataset.dtype,
        len(dataset.shape) - 2,
        "EMD",
        read_metadata=lambda file: Metadata(axes=_dims(file[path], dataset.shape), raw=_emd_raw(file, path)),
    )


def _dims(group: h5py.Group, shape: tuple[int, ...]) -> tuple[Axis, ...]:
    """Return axes from ``dim0``... (EMD 1.0) or ``dim1``... (0.2, 0.5); two values: first two coordinates."""
    first = 0 if "dim0" in group else 1
    axes = []
    for i, n in enumerate(shape):
        dim = group.get(f"dim{i + first}")
        if not isinstance(dim, h5py.Dataset):
            axes.append(Axis())
            continue
        name, units = text(dim.attrs.get("name", "")), clean_units(text(dim.attrs.get("units", "")))
        axes.append(axis_from_values(name, dim[()], n, units))
    return tuple(axes)


def clean_units(units: str) -> str:
    """Return EMD units in plain writing.

    >>> clean_units("[n_m^-1]"), clean_units("A^-1"), clean_units("pixels")
    ('nm^-1', 'A^-1', 'px')
    """
    units = re.sub(r"[\[\]_]", "", units.strip())
    return "px" if units.lower() in ("pixel", "pixels") else units


def _emd_raw(file: h5py.File, path: str) -> dict[str, Any]:
    """Return the calibration and metadata that lie in the same tree, scalars only."""
    raw: dict[str, Any] = {}
    root = file["/" + path.strip("/").split("/")[0]]
    for name in ("metadatabundle", "metadata"):
        bundle = root.get(name)
        if isinstance(bundle, h5py.Group):
            bundle.visititems(lambda where, obj, at=name: raw.update(_scalars(f"{at}/{where}", obj)))
    return raw


def _scalars(where: str, obj: Any) -> dict[str, Any]:
    if isinstance(obj, h5py.Dataset):
        if obj.shape != ():
            return {}
        value = obj[()]
        return {where: text(value) if isinstance(value, (bytes, str)) else np.asarray(value).item()}
    found = {}
    for name, value in obj.attrs.items():
        if isinstance(value, (bytes, str)):
            found[f"{where}/{name}"] = text(value)
        elif np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iufb":
            found[f"{where}/{name}"] = np.asarray(value).item()
    return found


def _hspy(path: str, group: h5py.Group) -> Candidate | None:
    dataset = group.get("data")
    if "axis-0" not in group or not is_numeric(dataset) or len(dataset.shape) < 2:
        return None
    axes, navigate = [], []
    for i in range(len(dataset.shape)):
        axis = group.get(f"axis-{i}")
        attrs = axis.attrs if isinstance(axis, h5py.Group) else {}
        axes.append(
            Axis(
                _known(attrs.get("name", "")),
                float(attrs.get("scale", 1.0)),
                float(attrs.get("offset", 0.0)),
                _known(attrs.get("units", "")) or "px",
            )
        )
        navigate.append(bool(attrs.get("navigate", i < len(dataset.shape) - 2)))
    order = tuple(sorted(range(len(navigate)), key=lambda i: not navigate[i]))
    sorted_axes = tuple(axes[a] for a in order)
    transposed = order != tuple(range(len(order)))
    return Candidate(
        join(path, "data"),
        tuple(dataset.shape[a] for a in order),
        dataset.dtype,
        sum(navigate),
        "hspy",
        transpose=order if transposed else None,
        note="signal axes come before navigation axes in the file" if transposed else "",
        read_metadata=lambda file: Metadata(axes=sorted_axes),
    )


def _known(value: Any) -> str:
    """Return a string attribute; what hspy writes for "undefined" is empty."""
    known = text(value)
    return "" if known in ("_None_", "<undefined>", "None") else known


def _matlab(tree: Tree) -> Iterator[Candidate]:
    arrays = [(k, d) for k, d in tree.datasets.items() if "MATLAB_class" in d.attrs and len(d.shape) >= 3]
    for key, dataset in sorted(arrays, key=lambda kd: -math.prod(kd[1].shape)):
        yield Candidate(
            key,
            dataset.shape,
            dataset.dtype,
            len(dataset.shape) - 2,
            "MAT 7.3",
            note="MATLAB stores columns first: axes are in the reverse of their order there",
        )
