"""Images of EPICS areaDetectors (NTNDArray), from the fields of the structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError
from framefold.io.live.encoded import EncodedArray, checked_dtype, checked_shape

# pvData's ScalarType: what `codec.parameters` states for compressed images
_SCALARS = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
)
_CODECS = {"lz4": "lz4-block", "bslz4": "bslz4-blocks", "blosc": "blosc"}
_IDS = 2**32


def parse_ndarray(
    value: npt.NDArray[Any] | None,
    dimensions: Sequence[Any],
    codec: str,
    parameters: Any,
    compressed: Any,
) -> EncodedArray:
    """Return the image of an NTNDArray, not decoded.

    Parameters
    ----------
    value
        Its flat array.
    dimensions
        Sizes, x first.
    codec
        ``""``, ``"lz4"``, ``"bslz4"`` or ``"blosc"``.
    parameters
        For compressed images the number of the type of pixels.
    compressed
        Bytes of a compressed image.

    Raises
    ------
    StreamError
        If it holds no image, or one in another codec.
    """
    if value is None or value.dtype.hasobject:
        raise StreamError("an NTNDArray without an array of numbers")
    sizes = [int(n) for n in reversed(dimensions) if isinstance(n, int | np.integer)]
    if not codec:
        dtype = checked_dtype(value.dtype.name)
        data = memoryview(np.ascontiguousarray(value).view(np.uint8).data)
        return EncodedArray(checked_shape(sizes, dtype), dtype, "", data)
    if codec not in _CODECS:
        raise StreamError(f"NTNDArray in the codec {codec[:20]!r}: none, lz4, bslz4 and blosc are known")
    if not isinstance(parameters, int | np.integer) or not 0 <= parameters < len(_SCALARS):
        raise StreamError(f"NTNDArray in {codec} of pixels of type {str(parameters)[:20]}: 0 to 10 are known")
    dtype = np.dtype(_SCALARS[int(parameters)])
    raw = np.ascontiguousarray(value).view(np.uint8)
    size = (
        int(compressed)
        if isinstance(compressed, int | np.integer) and 0 < compressed <= raw.size
        else raw.size
    )
    return EncodedArray(checked_shape(sizes, dtype), dtype, _CODECS[codec], memoryview(raw[:size].data))


@dataclass(slots=True)
class Counter:
    """Turns the 32-bit `uniqueId` into a running number from the first id on."""

    first: int | None = None
    last: int = 0

    def number(self, unique_id: int) -> int:
        """Return the number of an id; negative if it is older than the first."""
        if self.first is None:
            self.first = self.last = unique_id
        ahead = (unique_id - self.last + _IDS // 2) % _IDS - _IDS // 2
        here = self.last + ahead
        self.last = max(self.last, here)
        return here - self.first
