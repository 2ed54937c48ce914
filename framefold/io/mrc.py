"""MRC stacks, also those of Direct Electron cameras with scan coordinates beside them."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.fields import read_bytes, unpack
from framefold.io.format import Format
from framefold.io.identity import file_identity
from framefold.io.memmap import FrameLayout, MemmapSource, checked_shape, frames_present
from framefold.udfcore.metadata import Axis, Metadata

_HEADER = 1024
_MAX_TEXT = 2**24
_MODES = {0: "i1", 1: "i2", 2: "f4", 4: "c8", 6: "u2", 12: "f2"}
_FIELDS = (
    ("nx", "i"), ("ny", "i"), ("nz", "i"), ("mode", "i"), ("_start", "12s"), ("mx", "i"), ("my", "i"),
    ("mz", "i"), ("cell_x", "f"), ("cell_y", "f"), ("cell_z", "f"), ("_angles", "12s"), ("_axes", "12s"),
    ("min", "f"), ("max", "f"), ("mean", "f"), ("space_group", "i"), ("extended_header", "i"),
    ("_extra", "8s"), ("extended_type", "4s"), ("version", "i"), ("_more", "84s"), ("_origin", "12s"),
    ("map", "4s"), ("stamp", "4s"), ("rms", "f"), ("labels", "i"),
)  # fmt: skip


def sniff(path: str, head: bytes) -> str | None:
    """Tell why a file is not MRC."""
    # the standard says "MAP ", some programs write "MAP\0"
    return None if head[208:211] == b"MAP" else "no MAP at byte 208"


def open_mrc(path: str, *, strict: bool = False, scan_coordinates: str | None = None) -> MemmapSource:
    """Open an MRC stack.

    Row 0 of a frame is the first in the file. The standard puts it at the bottom of the image, detectors
    at the top; framefold leaves the order as it is.

    Parameters
    ----------
    path
        The file.
    strict
        A truncated file is an error.
    scan_coordinates
        Text file with a line ``x,y`` for each frame; None: ``*_scan_coordinates.csv`` beside a
        ``*_movie.mrc``. They are kept as ``metadata.raw["scan_coordinates"]``, in scan pixels, and give the
        scan shape where they are a raster.

    Raises
    ------
    DataError
        If the header is damaged, the mode is not one of numbers, or no frame is there.
    """
    data = read_bytes(path, 0, _HEADER)
    order = ">" if data[212:214] == b"\x11\x11" else "<"
    head = dict(unpack(data, _FIELDS, path, order=order))
    shape = checked_shape(path, (head["nz"], head["ny"], head["nx"]), "the stack")
    if head["mode"] not in _MODES:
        raise DataError(
            f"{path}: MRC mode {head['mode']} is not supported: 0, 1, 2, 4, 6, 12 are"
            + (" (101 packs two pixels in a byte)" if head["mode"] == 101 else "")
        )
    kind = np.dtype(order + _MODES[head["mode"]])
    if head["mode"] == 0 and _unsigned(data):
        kind = np.dtype("u1")
    extended = head["extended_header"]
    if extended < 0:
        raise DataError(f"{path}: the header states an extended header of {extended} bytes: damaged")
    size = shape[1] * shape[2] * kind.itemsize
    _, present = frames_present(path, _HEADER + extended, size, size, shape[0], strict=strict)
    for name in ("map", "stamp", "extended_type"):
        head[name] = head[name].decode("ascii", errors="replace")
    metadata = _with_scan(path, scan_coordinates, shape[0], Metadata(axes=_axes(head), raw=head))
    scan = metadata.nav_shape
    nav = scan if scan is not None else shape[:1]
    layout = FrameLayout(path, nav, shape[1:], kind, _HEADER + extended, size, present)
    return MemmapSource(layout, metadata, file_identity(path, "mrc"))


def _unsigned(data: bytes) -> bool:
    """Tell whether mode 0 is unsigned: IMOD says so by a flag, others by a maximum above 127."""
    stamp, flags = unpack(data, (("stamp", "i"), ("flags", "i")), "", offset=152).values()
    top = unpack(data, (("max", "f"),), "", offset=80)["max"]
    return (stamp == 1146047817 and not flags & 1) or (stamp != 1146047817 and 127 < top <= 255)


def _axes(head: dict[str, Any]) -> tuple[Axis, ...]:
    """Return the pixel size from cell and sampling; 1 A per pixel or 0 mean that nothing is known."""
    steps = []
    for name, m in (("y", "my"), ("x", "mx")):
        cell, n = head[f"cell_{name}"], head[m]
        step = cell / n if n > 0 and np.isfinite(cell) else 0.0
        steps.append(step)
    if min(steps) <= 0 or steps == [1.0, 1.0]:
        return ()
    return (Axis("y", steps[0], units="angstrom"), Axis("x", steps[1], units="angstrom"))


def _with_scan(path: str, given: str | None, frames: int, metadata: Metadata) -> Metadata:
    """Return metadata with the scan coordinates and the camera's text file that lie beside a movie."""
    stem = re.sub(r"_movie$", "", os.path.splitext(path)[0])
    info = f"{stem}_info.txt"
    raw = dict(metadata.raw)
    if os.path.isfile(info):
        raw["info"] = _read_info(info)
    coordinates = given or f"{stem}_scan_coordinates.csv"
    if given is None and not os.path.isfile(coordinates):
        return replace(metadata, raw=raw)
    points = _read_points(coordinates)
    if len(points) < frames:
        raise DataError(f"{coordinates} has {len(points)} points, {path} has {frames} frames")
    raw["scan_coordinates"] = points[:frames]
    return replace(metadata, raw=raw, nav_shape=raster_shape(points[:frames]))


def _read_points(path: str) -> npt.NDArray[np.int64]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            lines = file.read(_MAX_TEXT).splitlines()
    except OSError as exc:
        raise DataError(f"cannot open {path}: {exc.strerror or exc}") from exc
    points = []
    for number, line in enumerate(lines, 1):
        try:
            points += [tuple(int(v) for v in line.split(",", 2)[:2])] if line.strip() else []
        except ValueError as exc:
            raise DataError(f"{path}, line {number}: {line!r} is not x,y") from exc
    if any(len(p) != 2 for p in points):
        raise DataError(f"{path}: each line must be x,y")
    return np.array(points, np.int64).reshape(-1, 2)


def raster_shape(points: npt.NDArray[np.int64]) -> tuple[int, ...] | None:
    """Return the scan shape if points are one or several complete rasters, else None.

    Parameters
    ----------
    points
        int64 ``(frames, 2)``: two scan coordinates of each frame; one of them runs fast.

    Examples
    --------
    >>> raster_shape(np.array([(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 2)]))
    (2, 3)
    """
    if len(points) < 2:
        return None
    fast = 1 if points[0, 1] != points[1, 1] else 0
    slow_values, fast_values = (list(dict.fromkeys(points[:, a].tolist())) for a in (1 - fast, fast))
    ny, nx = len(slow_values), len(fast_values)
    if ny < 2 or nx < 2 or len(points) % (ny * nx):
        return None
    grid = np.empty((ny, nx, 2), np.int64)
    grid[..., 1 - fast] = np.array(slow_values)[:, None]
    grid[..., fast] = np.array(fast_values)
    repeats = len(points) // (ny * nx)
    if not np.array_equal(np.tile(grid.reshape(-1, 2), (repeats, 1)), points):
        return None
    return (ny, nx) if repeats == 1 else (repeats, ny, nx)


def _read_info(path: str) -> dict[str, str]:
    with open(path, encoding="utf-8", errors="replace") as file:
        pairs = (line.split("=", 1) for line in file.read(_MAX_TEXT).splitlines() if "=" in line)
        return {k.strip(): v.strip() for k, v in pairs}


FORMAT = Format(
    "mrc", "MRC stack, Direct Electron with scan coordinates", sniff, open_mrc, (".mrc", ".mrcs", ".st")
)
