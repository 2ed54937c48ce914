"""Takes the frames that an emulated detector sends from any source, as its protocol can carry them."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfcore.source import Source
from framefold.udfcore.tile import TileSlice, full_sig

MAX_BYTES = 8 << 30


def frames_of(data: Any, limit: int | None = None) -> npt.NDArray[Any]:
    """Return the frames ``(n, *sig)`` in memory.

    Parameters
    ----------
    data
        Array whose last two axes are the frame, `Source`, or anything with a ``source``.
    limit
        No more than so many; None: all.

    Raises
    ------
    DataError
        If there are none, or more than 8 GiB.
    """
    source = getattr(data, "source", data)
    if isinstance(source, np.ndarray):
        if source.ndim < 3 or source.size == 0:
            raise DataError(f"an emulator needs frames: an array (n, height, width), not {source.shape}")
        return source.reshape(-1, *source.shape[-2:])[:limit]
    if not isinstance(source, Source):
        raise DataError(f"an emulator sends an array or a dataset, not a {type(data).__name__}")
    sig, n = tuple(source.shape.sig), source.shape.nav.size
    n = n if limit is None else min(n, limit)
    size = n * math.prod(sig) * source.dtype.itemsize
    if size > MAX_BYTES:
        raise DataError(
            f"{source.identity} has {size / 2**30:.1f} GiB, emulators send from memory: at most "
            f"{MAX_BYTES >> 30} GiB. Take a part of it"
        )
    out = np.zeros((n, *sig), source.dtype)
    valid = np.ones(n, bool) if source.valid is None else source.valid
    for i in range(n):
        if valid[i]:
            out[i] = source.read(TileSlice(i, i + 1, full_sig(sig)))[0]
    return out


def fitted(
    frames: npt.NDArray[Any], most: int, multiple: tuple[int, int], protocol: str
) -> npt.NDArray[np.uint16]:
    """Return frames as uint16 between 0 and `most`, cropped to multiples; a warning says what is changed.

    Parameters
    ----------
    frames
        ``(n, height, width)``.
    most
        Largest value.
    multiple
        Height and width are made multiples of it.
    protocol
        For the warning.

    Raises
    ------
    DataError
        If nothing is left.
    """
    if frames.ndim != 3 or frames.dtype.kind not in "buif":
        raise DataError(f"{protocol} sends images of numbers, not {frames.shape[1:]} of {frames.dtype}")
    height, width = (n - n % m for n, m in zip(frames.shape[1:], multiple, strict=True))
    if not height or not width:
        raise DataError(f"{protocol}: frames of {frames.shape[1:]} are smaller than {multiple}")
    changes = []
    if (height, width) != frames.shape[1:]:
        changes.append(f"cropped from {frames.shape[1:]} to {(height, width)}")
    part = frames[:, :height, :width]
    low, high = part.min(), part.max()
    if low < 0 or high > most:
        changes.append(f"values from {low:g} to {high:g} are clipped to 0..{most}")
    if frames.dtype.kind == "f":
        whole = np.round(part)
        if not np.array_equal(whole, part):
            changes.append("values are rounded")
        part = whole
    if changes:
        warnings.warn(f"{protocol} cannot send these frames as they are: {', '.join(changes)}", stacklevel=3)
    return np.clip(part, 0, most).astype(np.uint16)
