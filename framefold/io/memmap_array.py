"""numpy memory maps as sources: workers open the file again instead of receiving its content."""

from __future__ import annotations

import math
import mmap
import os
from typing import Any

import numpy as np

from framefold.io.identity import file_identity
from framefold.io.memmap import FrameLayout, MemmapSource
from framefold.io.memory import ArraySource, nav_sig, require_numbers
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.source import Source


def open_memmap(array: np.memmap[Any, Any], sig_dims: int = 2) -> Source:
    """Return the source for a memory map, or for a part of one.

    Parts that are not contiguous, and maps whose changes stay in this process (``mode="c"``), are treated as
    arrays in memory.

    Raises
    ------
    DataError
        If the axes do not fit.
    """
    require_numbers(array.dtype, "the memory map")
    shape = nav_sig(array.shape, sig_dims)
    offset = _file_offset(array)
    if offset is None:
        return ArraySource(np.asarray(array), sig_dims)
    path, sig = os.fspath(array.filename), tuple(shape.sig)  # type: ignore[arg-type]  # checked
    nav = tuple(shape.nav) or (1,)
    size = math.prod(sig) * array.dtype.itemsize
    layout = FrameLayout(path, nav, sig, array.dtype, offset, size, math.prod(nav))
    identity = file_identity(path, "memmap", offset=offset, shape=shape, dtype=array.dtype.str)
    return MemmapSource(layout, Metadata(), identity)


def _file_offset(array: np.memmap[Any, Any]) -> int | None:
    """Return the byte of the file at which the array begins, None if it is not a contiguous part of one."""
    mapped = getattr(array, "_mmap", None)
    shared = array.mode in ("r", "r+", "w+") and array.flags.c_contiguous
    if mapped is None or array.filename is None or not shared or not os.path.isfile(array.filename):
        return None
    # numpy keeps the offset of the first map, also for parts of it
    begin = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    inside = array.__array_interface__["data"][0] - np.frombuffer(mapped, np.uint8).ctypes.data
    return begin + inside if 0 <= inside <= len(mapped) - array.nbytes else None
