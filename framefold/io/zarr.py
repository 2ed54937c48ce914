"""Zarr 2 and 3 through the zarr package: its chunks are the natural chunks."""

from __future__ import annotations

import functools
import math
import os
from typing import Any

import numpy as np

from framefold.errors import DataError, did_you_mean
from framefold.io.format import Format
from framefold.io.indexed import IndexedSource
from framefold.io.memory import require_numbers
from framefold.udfcore.metadata import Axis, Metadata
from framefold.udfcore.shapes import Shape

_MARKS = ("zarr.json", ".zarray", ".zgroup")
_MAX_OBJECTS = 10_000


def sniff(path: str, head: bytes) -> str | None:
    """Tell why a directory is not Zarr."""
    if any(os.path.isfile(os.path.join(path, m)) for m in _MARKS):
        return None
    return f"has none of {', '.join(_MARKS)}"


def open_zarr(path: str, *, key: str | None = None, sig_dims: int | None = None) -> IndexedSource:
    """Open an array of a Zarr directory.

    Parameters
    ----------
    path
        Directory of an array or a group.
    key
        Path of the array inside the group; None: the array itself, or the largest of
        the group if it stands out.
    sig_dims
        How many of the last axes are signal; None: 2.

    Raises
    ------
    DataError
        If the package is missing, the metadata are damaged, or no array stands out (lists them).
    """
    zarr = _zarr()
    try:
        node = zarr.open(path, mode="r")
    except Exception as exc:
        # each version of zarr raises its own types for damaged metadata
        raise DataError(f"{path}: cannot open as Zarr: {exc}") from exc
    valid = None
    if not hasattr(node, "shape"):
        group = node
        key, node = _choose(group, key, path)
        valid = _valid(group, key, node, sig_dims, path)
    elif key:
        raise DataError(f"{path} is a single array: key={key!r} names nothing in it")
    mark = next((m for m in _MARKS if os.path.exists(os.path.join(path, key or "", m))), _MARKS[0])
    stamp = os.stat(os.path.join(path, key or "", mark)).st_mtime_ns
    identity = f"zarr:{os.path.abspath(path)}:{stamp}:{key or ''}:{sig_dims}"
    return _source(node, functools.partial(_reopen, path, key), identity, path, sig_dims, valid)


def from_zarr(node: Any, *, key: str | None = None, sig_dims: int | None = None) -> IndexedSource:
    """Return the source for an open Zarr array, or an array of an open group; see `open_zarr`."""
    valid = None
    if not hasattr(node, "shape"):
        group = node
        key, node = _choose(group, key, "the group")
        valid = _valid(group, key, node, sig_dims, "the group")
    elif key:
        raise DataError(f"the Zarr object is a single array: key={key!r} names nothing in it")
    identity = f"zarr:{node.store}:{node.path}"
    return _source(node, functools.partial(_same, node), identity, "", sig_dims, valid)


def _valid(group: Any, key: str, node: Any, sig_dims: int | None, where: str) -> Any:
    """Return the flags that our exporter writes beside an array whose frames are not all there."""
    name = f"{key.rpartition('/')[0]}/frame_valid".lstrip("/")
    if name not in group:
        return None
    flags = np.asarray(group[name][...], dtype=bool)
    nav = tuple(node.shape)[: len(node.shape) - (2 if sig_dims is None else sig_dims)]
    if flags.size != math.prod(nav):
        raise DataError(f"{where}: {name} has the shape {flags.shape}, {key} has frames of shape {nav}")
    return flags.reshape(-1)


def _source(
    node: Any, opener: Any, identity: str, path: str, sig_dims: int | None, valid: Any = None
) -> IndexedSource:
    dims = 2 if sig_dims is None else sig_dims
    shape = tuple(int(n) for n in node.shape)
    dtype = np.dtype(node.dtype)
    require_numbers(dtype, path or identity)
    if not 0 < dims <= len(shape) or 0 in shape:
        raise DataError(f"{path or identity}: an array of shape {shape} cannot have {dims} signal axes")
    # with shards, the inner chunks are what is decoded, the shards what is stored
    return IndexedSource(
        opener,
        Shape(shape, sig_dims=dims),
        dtype,
        tuple(int(c) for c in node.chunks),
        identity=identity,
        read_path="zarr",
        path=path,
        metadata=_metadata(dict(node.attrs), len(shape), _names(node)),
        valid=valid,
    )


def _metadata(attributes: dict[str, Any], dims: int, names: tuple[str, ...]) -> Metadata:
    """Return axes as our own exporter and xarray write them."""
    raw = {str(k): v for k, v in attributes.items()}
    stated = raw.get("axes")
    axes: tuple[Axis, ...] = ()
    if isinstance(stated, list) and len(stated) == dims and all(isinstance(a, dict) for a in stated):
        axes = tuple(_axis(a) for a in stated)
    elif len(names) == dims:
        axes = tuple(Axis(name=n) for n in names)
    return Metadata(axes=axes, raw=raw)


def _axis(stated: dict[str, Any]) -> Axis:
    def number(name: str, default: float) -> float:
        value = stated.get(name, default)
        return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else default

    return Axis(
        str(stated.get("name", "")),
        number("scale", 1.0),
        number("offset", 0.0),
        str(stated.get("units", "px")),
    )


def _names(node: Any) -> tuple[str, ...]:
    names = node.attrs.get("_ARRAY_DIMENSIONS") or getattr(node.metadata, "dimension_names", None) or ()
    return tuple(str(n or "") for n in names)


def _choose(group: Any, key: str | None, where: str) -> tuple[str, Any]:
    """Return name and array that `key` names, or the one that stands out."""
    found = dict(_arrays(group))
    listed = "; ".join(f"{k} {tuple(a.shape)} {a.dtype}" for k, a in list(found.items())[:20]) or "none"
    if key is not None:
        name = key.strip("/")
        if name not in found:
            raise DataError(f"{where} has no array {key!r}.{did_you_mean(name, found)} Arrays: {listed}")
        return name, found[name]
    ranked = sorted(((math.prod(a.shape), k) for k, a in found.items() if len(a.shape) >= 3), reverse=True)
    if not ranked or (len(ranked) > 1 and ranked[0][0] < 4 * ranked[1][0]):
        raise DataError(f"{where}: no array stands out, choose one with key=. Arrays: {listed}")
    return ranked[0][1], found[ranked[0][1]]


def _arrays(group: Any, prefix: str = "", depth: int = 0) -> Any:
    if depth > 32:
        raise DataError("the Zarr group is nested deeper than 32 levels: open the inner group")
    for n, (name, node) in enumerate(group.members()):
        if n > _MAX_OBJECTS:
            raise DataError(f"the Zarr group holds more than {_MAX_OBJECTS} objects: give key=")
        if hasattr(node, "shape"):
            yield prefix + name, node
        else:
            yield from _arrays(node, f"{prefix}{name}/", depth + 1)


def _reopen(path: str, key: str | None) -> Any:
    node = _zarr().open(path, mode="r")
    return node[key] if key else node


def _same(node: Any) -> Any:
    return node


def _zarr() -> Any:
    try:
        import zarr  # noqa: PLC0415  # optional
    except ImportError as exc:
        raise DataError("Zarr files need the zarr package: pip install 'framefold[formats]'") from exc
    return zarr


FORMAT = Format("zarr", "Zarr 2 and 3 directories", sniff, open_zarr, (".zarr",), directory=True)
