"""What an HDF5 file holds: every group and numeric dataset once, and small helpers to read them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from framefold.errors import DataError
from framefold.io.hdf5_read import DAMAGE

MAX_OBJECTS = 100_000
MAX_DEPTH = 32


@dataclass(frozen=True)
class Tree:
    """What a file holds: groups and numeric datasets by path, and links that lead nowhere."""

    groups: dict[str, h5py.Group]
    datasets: dict[str, h5py.Dataset]
    broken: tuple[str, ...] = ()


def is_numeric(obj: object) -> bool:
    """Tell whether `obj` is a dataset of numbers with at least one element."""
    return (
        isinstance(obj, h5py.Dataset)
        and obj.shape is not None
        and obj.dtype.kind in "iufcb"
        and math.prod(obj.shape) > 0
    )


def text(value: Any) -> str:
    """Return an attribute or a string dataset as str; numpy arrays of one element are unpacked."""
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def number(group: h5py.Group, name: str) -> float | None:
    """Return the scalar dataset `name` of `group` as float, None if it is absent or not one number."""
    try:
        obj = group.get(name)
    except (KeyError, OSError):
        return None
    if not is_numeric(obj) or obj.size != 1:
        return None
    value = float(np.asarray(obj[()]).reshape(-1)[0].real)
    return value if math.isfinite(value) else None


def join(*parts: str) -> str:
    """Join paths inside a file: one slash at the front, none doubled."""
    return "/" + "/".join(p.strip("/") for p in parts if p.strip("/"))


def walk(file: h5py.File) -> Tree:
    """Visit every object once, hard links before others; stop at cycles, `MAX_DEPTH` and `MAX_OBJECTS`."""
    groups: dict[str, h5py.Group] = {"/": file["/"]}
    datasets: dict[str, h5py.Dataset] = {}
    broken: list[str] = []
    seen = {_address(file["/"])}
    hard: list[tuple[str, Any, int]] = [("/", file["/"], 0)]
    linked: list[tuple[str, Any, int]] = []
    count = 0
    while hard or linked:
        if not hard:
            where, obj, depth = linked.pop(0)
            if _take(where, obj, seen, groups, datasets):
                hard.append((where, obj, depth))
            continue
        path, node, depth = hard.pop()
        below = []
        for name in node:
            count += 1
            if count > MAX_OBJECTS or depth >= MAX_DEPTH:
                limit = f"{MAX_OBJECTS} objects" if count > MAX_OBJECTS else f"{MAX_DEPTH} levels"
                raise TooManyObjects(
                    f"{file.filename} holds more than {limit}: say which dataset to load with key="
                )
            where = join(path, name)
            try:
                link, obj = node.get(name, getlink=True), node[name]
                if not isinstance(link, h5py.HardLink):
                    linked.append((where, obj, depth + 1))
                elif _take(where, obj, seen, groups, datasets):
                    below.append((where, obj, depth + 1))
            except DAMAGE:  # links that lead nowhere, damaged objects: the others may be fine
                broken.append(where)
        hard.extend(reversed(below))
    return Tree(groups, datasets, tuple(broken))


def _take(
    where: str,
    obj: Any,
    seen: set[tuple[int, int]],
    groups: dict[str, h5py.Group],
    datasets: dict[str, h5py.Dataset],
) -> bool:
    """Register an object that was not seen before; True if it is a group to descend into."""
    address = _address(obj)
    if address in seen:
        return False
    seen.add(address)
    if isinstance(obj, h5py.Group):
        groups[where] = obj
        return True
    if is_numeric(obj):
        datasets[where] = obj
    return False


def _address(obj: Any) -> tuple[int, int]:
    info = h5py.h5o.get_info(obj.id)
    return int(info.fileno), int(info.addr)


class TooManyObjects(DataError):
    """A file that is too large or too deep to search."""
