"""npy files, memory-mapped; the header is parsed by numpy, nothing is unpickled."""

from __future__ import annotations

import functools
import math
from typing import Any, BinaryIO

import numpy as np

from framefold.errors import DataError
from framefold.io.format import Format
from framefold.io.identity import file_identity
from framefold.io.indexed import IndexedSource
from framefold.io.memmap import FrameLayout, MemmapSource, checked_shape, frames_present
from framefold.io.memory import require_numbers
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import Source

_MAX_HEADER = 65536


def sniff(path: str, head: bytes) -> str | None:
    """Tell why a file is not npy."""
    return None if head.startswith(b"\x93NUMPY") else "does not begin with \\x93NUMPY"


def open_npy(path: str, *, sig_dims: int = 2, strict: bool = False) -> Source:
    """Open an npy file.

    Parameters
    ----------
    path
        The file.
    sig_dims
        How many of the last axes are signal.
    strict
        A truncated file is an error.

    Raises
    ------
    DataError
        If the header is damaged, holds objects, or the file has no whole frame.
    """
    try:
        with open(path, "rb") as file:
            shape, fortran, dtype = _read_header(file)
            offset = file.tell()
    except OSError as exc:
        raise DataError(f"cannot open {path}: {exc.strerror or exc}") from exc
    except Exception as exc:
        # numpy raises ValueError, SyntaxError, UnicodeDecodeError ... for damaged headers
        raise DataError(f"{path}: the npy header is damaged: {exc}") from exc
    require_numbers(dtype, path)
    shape = checked_shape(path, shape, "the shape")
    if not 0 < sig_dims <= len(shape):
        raise DataError(
            f"{path} has the shape {shape}: sig_dims={sig_dims} must lie between 1 and {len(shape)}"
        )
    nav, sig = shape[: len(shape) - sig_dims], shape[len(shape) - sig_dims :]
    identity = file_identity(path, "npy", sig_dims=sig_dims)
    frame = math.prod(sig) * dtype.itemsize
    if fortran and len(shape) > 1:
        frames_present(path, offset, frame, frame, math.prod(nav), strict=True)
        return IndexedSource(
            functools.partial(np.memmap, path, dtype, "r", offset, shape, "F"),
            Shape(shape, sig_dims=sig_dims),
            dtype,
            # the first axis lies together
            (shape[0], *(1 for _ in shape[1:])),
            identity=identity,
            read_path="mmap",
            path=path,
        )
    _, present = frames_present(path, offset, frame, frame, math.prod(nav), strict=strict)
    return MemmapSource(FrameLayout(path, nav, sig, dtype, offset, frame, present), Metadata(), identity)


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file, max_header_size=_MAX_HEADER)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file, max_header_size=_MAX_HEADER)
    # version 3 differs from 2 in the encoding of field names only, and records are refused
    raise ValueError(f"version {version} is not supported")


FORMAT = Format("npy", "numpy array file", sniff, open_npy, (".npy",))
