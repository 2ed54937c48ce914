"""FEI / TIA series (.ser): spectra or images with a header each, read through a memory map."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import Any

import numpy as np

from framefold.errors import DataError
from framefold.io.fields import read_bytes, unpack
from framefold.io.format import Format
from framefold.io.identity import file_identity
from framefold.io.memmap import FrameLayout, MemmapSource, checked_shape, frames_present
from framefold.udfcore.metadata import Axis, Metadata

_FIELDS = (
    ("order", "H"),
    ("id", "H"),
    ("version", "H"),
    ("data_type", "I"),
    ("tag_type", "I"),
    ("total", "I"),
    ("valid", "I"),
)
_TYPES = {1: "u1", 2: "u2", 3: "u4", 4: "i1", 5: "i2", 6: "i4", 7: "f4", 8: "f8", 9: "c8", 10: "c16"}
_CALIBRATION = (("offset", "d"), ("delta", "d"), ("element", "I"))
_SPECTRA, _IMAGES = 0x4120, 0x4122
_MAX_ELEMENTS, _MAX_DIMS, _MAX_TEXT = 2**28, 16, 4096


def sniff(path: str, head: bytes) -> str | None:
    """Tell why a file is not a series of TIA."""
    return None if head[:4] == b"\x49\x49\x97\x01" else "does not begin with 0x4949, 0x0197"


def open_ser(path: str, *, strict: bool = False) -> MemmapSource:
    """Open a series; row 0 is the upper one, as on the screen (the file has the lowest first).

    Parameters
    ----------
    path
        The ``.ser`` file.
    strict
        A series of which not all elements were written is an error.

    Raises
    ------
    DataError
        If the header is damaged, or elements differ in size.
    """
    head = dict(unpack(read_bytes(path, 0, 22), _FIELDS, path))
    wide = head["version"] >= 0x0220
    code, size = ("Q", 8) if wide else ("I", 4)
    place = unpack(read_bytes(path, 22, size + 4), (("offsets", code), ("dims", "I")), path)
    total, valid = head["total"], head["valid"]
    if head["data_type"] not in (_SPECTRA, _IMAGES) or not 0 < valid <= total <= _MAX_ELEMENTS:
        raise DataError(
            f"{path}: the header states {valid} of {total} elements of type {head['data_type']:#x}"
        )
    nav, nav_axes = _scan(path, place["dims"], 26 + size, total)
    offsets = np.frombuffer(read_bytes(path, place["offsets"], size * valid), f"<u{size}").astype(np.int64)
    sig_dims = 2 if head["data_type"] == _IMAGES else 1
    dtype, sig, axes, before = _element(path, int(offsets[0]), sig_dims)
    frame = math.prod(sig) * dtype.itemsize
    steps = np.diff(offsets)
    stride = int(steps[0]) if len(steps) else before + frame
    if stride < before + frame or (steps != stride).any():
        raise DataError(f"{path}: elements of varying size or order are not supported: export it as a stack")
    last = _element(path, int(offsets[-1]), sig_dims)
    if last[:2] != (dtype, sig):
        raise DataError(f"{path}: element {valid - 1} is {last[1]} {last[0]}, the first {sig} {dtype}")
    first = int(offsets[0]) + before
    _, present = frames_present(path, first, stride, frame, total, strict=strict)
    layout = FrameLayout(path, nav, sig, dtype, first, stride, min(present, valid), flip_rows=sig_dims == 2)
    return MemmapSource(layout, Metadata(axes=(*nav_axes, *axes), raw=head), file_identity(path, "ser"))


def _scan(path: str, dims: int, at: int, total: int) -> tuple[tuple[int, ...], tuple[Axis, ...]]:
    """Return shape and axes of the scan; the file lists the fastest first."""
    if dims > _MAX_DIMS:
        raise DataError(f"{path}: the header states {dims} dimensions: it is damaged")
    shape: list[int] = []
    axes: list[Axis] = []
    for _ in range(dims):
        head = unpack(read_bytes(path, at, 24), (("size", "I"), *_CALIBRATION), path)
        name, at = _text(path, at + 24)
        units, at = _text(path, at)
        shape.insert(0, head["size"])
        axes.insert(0, _axis(name, head, units))
    if math.prod(shape) != total or not shape:
        return checked_shape(path, (total,), "the series"), (Axis("frame"),)
    return checked_shape(path, tuple(shape), "the scan"), tuple(axes)


def _text(path: str, at: int) -> tuple[str, int]:
    size = unpack(read_bytes(path, at, 4), (("size", "I"),), path)["size"]
    if size > _MAX_TEXT:
        raise DataError(f"{path}: a text of {size} bytes in the header: it is damaged")
    return read_bytes(path, at + 4, size).decode("latin-1"), at + 4 + size


def _element(path: str, at: int, dims: int) -> tuple[np.dtype[Any], tuple[int, ...], tuple[Axis, ...], int]:
    """Return dtype, shape, axes, and the bytes before the pixels of an element."""
    if at > os.path.getsize(path):
        raise DataError(f"{path}: an element at byte {at} lies behind the end of the file")
    fields = [(f"{n}{i}", c) for i in range(dims) for n, c in _CALIBRATION]
    fields += [("type", "H"), *((f"size{i}", "I") for i in range(dims))]
    before = 20 * dims + 2 + 4 * dims
    head = unpack(read_bytes(path, at, before), fields, path)
    if head["type"] not in _TYPES:
        raise DataError(f"{path}: data type {head['type']} is not one of {', '.join(map(str, _TYPES))}")
    shape = checked_shape(path, tuple(head[f"size{i}"] for i in reversed(range(dims))), "elements of")
    axes = []
    for i in reversed(range(dims)):
        one = {n: head[f"{n}{i}"] for n, _ in _CALIBRATION}
        axes.append(_axis("xy"[i] if dims == 2 else "", one, "m" if dims == 2 else "eV"))
    if dims == 2:
        axes[0] = replace(
            axes[0], offset=axes[0].offset + axes[0].scale * (shape[0] - 1), scale=-axes[0].scale
        )
    return np.dtype("<" + _TYPES[head["type"]]), shape, tuple(axes), before


def _axis(name: str, calibration: Any, units: str) -> Axis:
    """Return an axis whose `element` has the value `offset`."""
    scale, offset = calibration["delta"], calibration["offset"]
    if not (math.isfinite(scale) and math.isfinite(offset)) or scale == 0:
        return Axis(name)
    return Axis(name, scale, offset - scale * calibration["element"], units or "px")


FORMAT = Format("ser", "FEI / TIA series of images or spectra", sniff, open_ser, (".ser",))
