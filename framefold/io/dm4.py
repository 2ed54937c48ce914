"""Gatan DigitalMicrograph files (DM3, DM4): the largest image of the file, through a memory map."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from framefold.errors import DataError
from framefold.io.dm_tags import ArrayTag, parse_tags
from framefold.io.format import Format
from framefold.io.identity import file_identity
from framefold.io.indexed import IndexedSource
from framefold.io.mapped import map_file
from framefold.io.memmap import FrameLayout, MemmapSource, checked_shape, frames_present
from framefold.udfcore.metadata import Axis, Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import Source

_TYPES = {
    1: "i2", 2: "f4", 3: "c8", 6: "u1", 7: "i4", 9: "i1", 10: "u2", 11: "u4", 12: "f8", 13: "c16",
    39: "i8", 40: "u8",
}  # fmt: skip


def sniff(path: str, head: bytes) -> str | None:
    """Tell why a file is neither DM3 nor DM4."""
    if head[:4] == b"\0\0\0\x03" and head[8:11] == b"\0\0\0" and head[11:12] in (b"\0", b"\1"):
        return None
    if head[:4] == b"\0\0\0\x04" and head[12:15] == b"\0\0\0" and head[15:16] in (b"\0", b"\1"):
        return None
    return "does not begin with version 3 or 4 and a byte order"


def open_dm4(path: str, *, sig_dims: int = 2, scan_first: bool | None = None) -> Source:
    """Open the largest image of a file.

    Parameters
    ----------
    path
        The file.
    sig_dims
        How many axes are signal.
    scan_first
        Whether the file has whole frames one after the other. None: as the tag ``Data Order Swapped``
        says; without it, 4D files have the scan as the fastest axes (every read then touches the whole
        file: convert it), and others have whole frames.

    Raises
    ------
    DataError
        If the tags are damaged or there is no image of numbers.
    """
    mapped = map_file(path)
    tags, order = parse_tags(mapped.bytes.data, path)
    image, where = _largest_image(tags, path)
    shape, dtype, data = _described(image["ImageData"], order, path)
    axes = _axes(image["ImageData"], len(shape))
    if not 0 < sig_dims <= len(shape):
        raise DataError(
            f"{path} has the shape {shape}: sig_dims={sig_dims} must lie between 1 and {len(shape)}"
        )
    first = _scan_is_first(image, len(shape)) if scan_first is None else scan_first
    raw = {"image": where, "tags": _plain(image.get("ImageTags", {}))}
    identity = file_identity(path, "dm4", sig_dims=sig_dims, scan_first=first)
    if first or len(shape) == sig_dims:
        nav, sig = shape[: len(shape) - sig_dims] or (1,), shape[len(shape) - sig_dims :]
        size = math.prod(sig) * dtype.itemsize
        _, present = frames_present(path, data.offset, size, size, math.prod(nav), strict=True)
        layout = FrameLayout(path, nav, sig, dtype, data.offset, size, present)
        axes = axes if len(axes) == len(nav) + len(sig) else ()
        return MemmapSource(layout, Metadata(axes=axes, raw=raw), identity)
    turned = (*shape[sig_dims:], *shape[:sig_dims])
    opener = functools.partial(_transposed, path, dtype, data.offset, shape, sig_dims)
    metadata = Metadata(axes=(*axes[sig_dims:], *axes[:sig_dims]), raw=raw)
    return IndexedSource(
        opener, Shape(turned, sig_dims=sig_dims), dtype,
        (*turned[: len(turned) - sig_dims], *(1 for _ in range(sig_dims))),
        identity=identity, read_path="mmap", path=path, metadata=metadata,
    )  # fmt: skip


def _transposed(path: str, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...], sig_dims: int) -> Any:
    stored = np.memmap(path, dtype, "r", offset, shape)
    dims = range(len(shape))
    return stored.transpose(*dims[sig_dims:], *dims[:sig_dims])


def _largest_image(tags: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    images = tags.get("ImageList")
    found = []
    for name, image in images.items() if isinstance(images, dict) else ():
        data = image.get("ImageData", {}) if isinstance(image, dict) else {}
        array = data.get("Data") if isinstance(data, dict) else None
        if isinstance(array, ArrayTag):
            found.append((array.count * array.item_bytes, name, image))
    if not found:
        raise DataError(f"{path}: the file holds no image")
    _, name, image = max(found, key=lambda f: f[0])
    return image, f"ImageList/{name}"


def _described(
    data: dict[str, Any], order: str, path: str
) -> tuple[tuple[int, ...], np.dtype[Any], ArrayTag]:
    """Return shape (slowest axis first), dtype and place of an image."""
    dims, kind, array = data.get("Dimensions"), data.get("DataType"), data["Data"]
    if not isinstance(dims, dict) or not all(isinstance(n, int) for n in dims.values()) or not dims:
        raise DataError(f"{path}: the image states no dimensions")
    if kind not in _TYPES:
        raise DataError(
            f"{path}: images of DigitalMicrograph type {kind} (colours, packed) are not supported"
        )
    shape = checked_shape(path, tuple(reversed(list(dims.values()))), "an image of")
    dtype = np.dtype(order + _TYPES[kind])
    if math.prod(shape) * dtype.itemsize != array.count * array.item_bytes:
        raise DataError(
            f"{path}: an image of {shape} {dtype} needs {math.prod(shape) * dtype.itemsize} bytes, "
            f"the tag holds {array.count * array.item_bytes}"
        )
    return shape, dtype, array


def _axes(data: dict[str, Any], dims: int) -> tuple[Axis, ...]:
    stated = data.get("Calibrations", {})
    stated = stated.get("Dimension", {}) if isinstance(stated, dict) else {}
    if not isinstance(stated, dict) or len(stated) != dims:
        return ()
    return tuple(_axis(d if isinstance(d, dict) else {}) for d in reversed(list(stated.values())))


def _axis(stated: dict[str, Any]) -> Axis:
    """Return an axis; the origin of DigitalMicrograph is an index."""
    scale, origin, units = stated.get("Scale", 1.0), stated.get("Origin", 0.0), stated.get("Units")
    fine = all(isinstance(v, (int, float)) and math.isfinite(v) for v in (scale, origin))
    if not fine or scale == 0 or not isinstance(units, str):
        return Axis()
    return Axis("", float(scale), -float(origin) * float(scale), units)


def _scan_is_first(image: dict[str, Any], dims: int) -> bool:
    meta = image.get("ImageTags", {})
    meta = meta.get("Meta Data", {}) if isinstance(meta, dict) else {}
    swapped = meta.get("Data Order Swapped") if isinstance(meta, dict) else None
    return dims < 4 if swapped is None else bool(swapped)


def _plain(tags: Any, depth: int = 0) -> Any:
    """Return tags as plain values, without arrays."""
    if isinstance(tags, dict) and depth < 16:
        return {k: _plain(v, depth + 1) for k, v in tags.items() if not isinstance(v, ArrayTag)}
    return tags


FORMAT = Format("dm4", "Gatan DigitalMicrograph DM3 and DM4", sniff, open_dm4, (".dm3", ".dm4"))
