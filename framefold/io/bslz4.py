"""Whether the blocks of a bitshuffle-LZ4 stream fit its length: a library crashes if they do not."""

from __future__ import annotations

import struct

import numba
import numpy as np
import numpy.typing as npt


@numba.njit(nogil=True, cache=True)
def bslz4_blocks_fit(payload: npt.NDArray[np.uint8], nbytes: int, block: int, itemsize: int) -> bool:
    """Tell whether the block sizes of a bitshuffle-LZ4 stream add up to its length.

    Layout: per block a big-endian u4 with its compressed size, then that many bytes; blocks hold
    `block` bytes, the last one what is left in multiples of 8 elements; up to 7 elements follow raw.
    """
    pos = 0
    left = nbytes - nbytes % (8 * itemsize)
    tail = nbytes - left
    while left > 0:
        if pos + 4 > payload.size:
            return False
        size = 0
        for i in range(4):
            size = size * 256 + int(payload[pos + i])
        pos += 4 + size
        left -= block
    return pos + tail == payload.size


def bslz4_blocks_fit_reference(
    payload: npt.NDArray[np.uint8], nbytes: int, block: int, itemsize: int
) -> bool:
    """Do as `bslz4_blocks_fit` does, by `struct`."""
    data, pos = payload.tobytes(), 0
    for _ in range(-(-(nbytes // (8 * itemsize) * 8 * itemsize) // block)):
        if len(data) < pos + 4:
            return False
        pos += 4 + struct.unpack_from(">I", data, pos)[0]
    return pos + nbytes % (8 * itemsize) == len(data)
