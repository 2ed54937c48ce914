"""Kernels that unpack the raw (R64) pixels of Medipix3 chips."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

DEPTHS = {1: "uint8", 6: "uint8", 12: "uint16", 24: "uint32"}


def stored_bits(depth: int) -> int:
    """Return how many bits a pixel of a counter `depth` takes in the file."""
    return {1: 1, 6: 8, 12: 16, 24: 32}[depth]


def unpack_reference(
    raw: npt.NDArray[np.uint8], depth: int, height: int, width: int, quad: bool
) -> npt.NDArray[Any]:
    """Return the frames of `decode_r64`, slowly: pixel k is the k-th group of bits of a big-endian word.

    `raw` is uint8 ``(frames, bytes)``.
    """
    bits = min(stored_bits(depth), 16)
    words = raw.view(">u8").astype(np.uint64)
    px = (words[..., None] >> np.arange(0, 64, bits, dtype=np.uint64)) & np.uint64(2**bits - 1)
    px = px.reshape(len(raw), -1)
    if depth == 24:
        high, low = np.split(px, 2, axis=1)
        px = high << np.uint64(12) | low
    if not quad:
        return px.reshape(-1, height, width).astype(DEPTHS[depth])
    rows = px.reshape(-1, height // 2, 4, width // 2)
    top = np.concatenate([rows[:, :, 3], rows[:, :, 2]], axis=-1)
    bottom = np.concatenate([rows[:, ::-1, 1, ::-1], rows[:, ::-1, 0, ::-1]], axis=-1)
    return np.concatenate([top, bottom], axis=1).astype(DEPTHS[depth])


_ONES = np.uint64(0x0101010101010101)
_BITS = np.uint64(0x8040201008040201)
_BITS_TURNED = np.uint64(0x0102040810204080)
_SEVENS = np.uint64(0x7F7F7F7F7F7F7F7F)
_EVEN = np.uint64(0x00FF00FF00FF00FF)


@numba.njit(nogil=True, cache=True)
def _swap2(v: Any) -> Any:
    """Swap the bytes of each 16-bit part of a word."""
    return ((v & _EVEN) << np.uint64(8)) | ((v >> np.uint64(8)) & _EVEN)


@numba.njit(nogil=True, cache=True)
def _swap8(v: Any) -> Any:
    """Swap all bytes of a word; one instruction once compiled."""
    low = np.uint64(0x0000FFFF0000FFFF)
    v = _swap2(v)
    v = ((v & low) << np.uint64(16)) | ((v >> np.uint64(16)) & low)
    return (v << np.uint64(32)) | (v >> np.uint64(32))


@numba.njit(nogil=True, cache=True)
def _row1(words: Any, turned: bool, row: Any) -> None:
    bits = _BITS_TURNED if turned else _BITS
    last = row.shape[0] - 1
    for w in range(words.shape[0]):
        v = _swap8(words[w])
        for b in range(8):
            # a bit to each of eight bytes, then every byte that is not zero becomes 1
            spread = (((v >> np.uint64(8 * b)) & np.uint64(255)) * _ONES) & bits
            at = 8 * w + b
            row[last - at if turned else at] = ((spread + _SEVENS) >> np.uint64(7)) & _ONES


@numba.njit(nogil=True, cache=True)
def _row6(words: Any, turned: bool, row: Any) -> None:
    last = row.shape[0] - 1
    for w in range(words.shape[0]):
        if turned:
            row[last - w] = words[w]
        else:
            row[w] = _swap8(words[w])


@numba.njit(nogil=True, cache=True)
def _row12(words: Any, turned: bool, row: Any) -> None:
    last = row.shape[0] - 1
    for w in range(words.shape[0]):
        if turned:
            row[last - w] = _swap2(words[w])
        else:
            row[w] = _swap8(words[w])


@numba.njit(nogil=True, cache=True)
def _row24(high: Any, low: Any, row: Any) -> None:
    part, shift = np.uint64(0xFFFF), np.uint64(12)
    for w in range(high.shape[0]):
        a, b = _swap8(high[w]), _swap8(low[w])
        for k in range(2):
            s, t = np.uint64(32 * k), np.uint64(32 * k + 16)
            one = (((a >> s) & part) << shift) | ((b >> s) & part)
            two = (((a >> t) & part) << shift) | ((b >> t) & part)
            row[2 * w + k] = one | (two << np.uint64(32))


@numba.njit(nogil=True, cache=True)
def _row(data: Any, start: int, size: int, depth: int, turned: bool, second: int, row: Any) -> None:
    words = data[start : start + size].view(np.uint64)
    if depth == 1:
        _row1(words, turned, row)
    elif depth == 6:
        _row6(words, turned, row)
    elif depth == 12:
        _row12(words, turned, row)
    else:
        # the counter's high 12 bits come as a frame of their own, before the low ones
        _row24(words, data[start + second : start + second + size].view(np.uint64), row)


@numba.njit(nogil=True, cache=True)
def _decode(
    data: Any, first: int, stride: int, depth: int, height: int, quad: bool, y0: int, out: Any
) -> None:
    bits = 1 if depth == 1 else (8 if depth == 6 else 16)
    per_word = 64 // (32 if depth == 24 else (8 if depth == 1 else bits))
    width = out.shape[2] * per_word
    px = width // 2 if quad else width
    half, at = height // 2, out.shape[2] // 2
    size = px * bits // 8
    second = size * height
    for f in range(out.shape[0]):
        begin = first + f * stride
        for r in range(out.shape[1]):
            y = y0 + r
            if not quad:
                _row(data, begin + y * size, size, depth, False, second, out[f, r])
            elif y < half:
                _row(data, begin + (4 * y + 3) * size, size, depth, False, second, out[f, r, :at])
                _row(data, begin + (4 * y + 2) * size, size, depth, False, second, out[f, r, at:])
            else:
                stored = begin + 4 * (height - 1 - y) * size
                _row(data, stored + size, size, depth, True, second, out[f, r, :at])
                _row(data, stored, size, depth, True, second, out[f, r, at:])


def decode_r64(
    data: npt.NDArray[np.uint8],
    first: int,
    stride: int,
    depth: int,
    height: int,
    quad: bool,
    y0: int,
    out: npt.NDArray[Any],
) -> None:
    """Unpack rows ``y0 .. y0 + out.shape[1]`` of R64 frames.

    Within each 64-bit word pixels are stored in reverse. A quad stores a row of each chip side by side as
    ``[4 | 3 | 2 | 1]``, the image is ``[1 2 / 3 4]`` with 3 and 4 turned by 180 degrees.

    Parameters
    ----------
    data
        uint8, one axis: bytes of the file.
    first, stride
        Where the pixels of the first frame begin, and bytes from frame to frame.
    depth
        Counter depth: 1, 6, 12 or 24 bits; a quad has no 24.
    height
        Rows of the image.
    quad
        Four chips in two rows, else one chip.
    y0
        First row.
    out
        ``(frames, rows, width)``, dtype `DEPTHS`, C-contiguous; the rows of a chip are made of 64-bit words.
    """
    read_only = data.view()
    # one type for all callers: one compilation. Words, since LLVM takes minutes over loops of bytes
    read_only.flags.writeable = False
    _decode(read_only, first, stride, depth, height, quad, y0, out.view(np.uint64))
