"""Raw binary files: frames one after the other, described by the user."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.format import Format
from framefold.io.identity import file_identity
from framefold.io.memmap import FrameLayout, MemmapSource, checked_shape, frames_present
from framefold.io.memory import require_numbers
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.source import Source

# detectors in use, tried when a size does not fit
_COMMON_FRAMES = (
    (256, 256), (512, 512), (128, 128), (192, 192), (64, 64), (1024, 1024), (514, 514), (515, 515),
    (516, 516), (128, 130), (130, 128), (195, 487), (264, 264), (2048, 2048), (4096, 4096), (1028, 1062),
    (32, 32), (16, 16),
)  # fmt: skip


def sniff(path: str, head: bytes) -> str | None:
    """Tell that raw files cannot be recognised."""
    return "has no signature: chosen when sig_shape= and dtype= are given"


def open_raw(
    path: str,
    *,
    sig_shape: Sequence[int] | None = None,
    dtype: npt.DTypeLike | None = None,
    nav_shape: Sequence[int] | None = None,
    offset: int = 0,
    frame_header: int = 0,
    frame_footer: int = 0,
    strict: bool = False,
) -> Source:
    """Open a raw file as a series of frames.

    Parameters
    ----------
    path
        The file.
    sig_shape
        Shape of a frame.
    dtype
        Of the pixels; ``">u2"`` for big-endian files.
    nav_shape
        Scan shape: without it, a file whose size is no multiple of the frames is refused; with it, a cut last
        frame is invalid.
    offset
        Bytes before the first frame.
    frame_header, frame_footer
        Bytes before and after the pixels of each frame.
    strict
        A truncated file is an error.

    Raises
    ------
    DataError
        If `sig_shape` or `dtype` is missing, or the size does not fit: names shapes that would.
    """
    if sig_shape is None or dtype is None:
        raise DataError(
            f"{path}: a raw file needs sig_shape= and dtype=, "
            "for instance sig_shape=(256, 256), dtype='uint16'"
        )
    kind = _as_dtype(dtype)
    require_numbers(kind, path)
    sig = checked_shape(path, tuple(sig_shape), "sig_shape")
    for name, n in (("offset", offset), ("frame_header", frame_header), ("frame_footer", frame_footer)):
        if n < 0:
            raise DataError(f"{name}={n} must not be negative")
    pixels = math.prod(sig) * kind.itemsize
    stride = frame_header + pixels + frame_footer
    identity = file_identity(
        path, "raw", sig_shape=sig, dtype=kind.str, offset=offset, header=frame_header, footer=frame_footer
    )
    size = os.path.getsize(path) - offset
    if size < pixels + frame_header or (nav_shape is None and size % stride):
        raise DataError(_misfit(path, size, sig, kind, stride, nav_shape))
    first = offset + frame_header
    # a scan that lacks frames is reported here with its bytes, and not once more above
    wanted = math.prod(nav_shape) if nav_shape is not None and size % stride else 0
    declared = wanted if wanted > size // stride else None
    frames, present = frames_present(
        path, first, stride, pixels, declared, strict=strict, footer=frame_footer
    )
    return MemmapSource(FrameLayout(path, (frames,), sig, kind, first, stride, present), Metadata(), identity)


def _as_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        return np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError) as exc:
        raise DataError(f"dtype={dtype!r} is not a dtype: give one such as 'uint16' or '>u2'") from exc


def _misfit(
    path: str,
    size: int,
    sig: tuple[int, ...],
    dtype: np.dtype[Any],
    stride: int,
    nav_shape: Sequence[int] | None,
) -> str:
    fits = [
        s
        for s in _COMMON_FRAMES
        if size >= math.prod(s) * dtype.itemsize and not size % (math.prod(s) * dtype.itemsize)
    ]
    if nav_shape is not None and (n := math.prod(nav_shape)) > 0 and not size % (n * dtype.itemsize):
        side = math.isqrt(size // (n * dtype.itemsize))
        if side and side * side * n * dtype.itemsize == size:
            fits = [(side, side), *(f for f in fits if f != (side, side))]
    hint = f" Frames that fit: {', '.join(map(str, fits[:3]))}." if fits else ""
    return (
        f"{path} has {size} bytes of frames, which is {size / stride:.6g} frames of {sig} {dtype} "
        f"({stride} bytes each).{hint} Check sig_shape=, dtype= and offset=, "
        "or give nav_shape= to leave out the rest"
    )


FORMAT = Format(
    "raw", "raw binary frames, described by sig_shape= and dtype=", sniff, open_raw, (".raw", ".bin")
)
