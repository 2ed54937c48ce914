"""Chunk decoders outside HDF5: stored bytes -> bytes of pixels, without the GIL where possible."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

DEFLATE, SHUFFLE, BLOSC, LZ4, BITSHUFFLE, ZSTD = 1, 2, 32001, 32004, 32008, 32015

_DECTRIS_ALGORITHMS = ("bslz4", "lz4", "bszstd")  # the order of its C enumeration

Filter = tuple[int, tuple[int, ...], str]
Decode = Callable[[memoryview, int], Any]
DecodeInto = Callable[[memoryview, npt.NDArray[Any]], None]


@dataclass(frozen=True)
class Decoder:
    """How to decode a chunk.

    Attributes
    ----------
    name
        For `ReadStats` and errors, for instance ``"bslz4 by dectris-compression"``.
    decode
        ``(stored bytes, decoded size) -> buffer`` of exactly that size; raises `ValueError` when the
        stored bytes do not give it.
    decode_into
        ``(stored bytes, array) -> None``: the same straight into a C-contiguous array of the decoded
        size; None where the library cannot.
    """

    name: str
    decode: Decode
    decode_into: DecodeInto | None = None


def find_decoder(filters: Sequence[Filter], itemsize: int) -> tuple[Decoder | None, str]:
    """Return the decoder of a filter pipeline, or None and the reason why there is none.

    Parameters
    ----------
    filters
        (id, cd_values, name) in the order of writing.
    itemsize
        Bytes per element of the dataset.
    """
    codes = [f[0] for f in filters]
    if not codes:
        return Decoder("uncompressed", _plain), ""
    shuffled = codes[0] == SHUFFLE
    if shuffled:
        size = filters[0][1][0] if filters[0][1] else itemsize
        if size != itemsize:
            return None, f"shuffle works on elements of {size} bytes, the dataset has {itemsize}"
        codes = codes[1:]
    if len(codes) > 1:
        return None, f"filter pipeline {[f[0] for f in filters]} is none of the known ones"
    inner, reason = (
        (Decoder("shuffle", _plain), "") if not codes else _single(codes[0], filters[-1][1], itemsize)
    )
    if inner is None or not shuffled:
        return inner, reason
    return Decoder(f"shuffle + {inner.name}", _unshuffled(inner.decode, itemsize)), ""


def _single(code: int, values: tuple[int, ...], itemsize: int) -> tuple[Decoder | None, str]:
    if code == BITSHUFFLE:
        return _bitshuffle(values, itemsize)
    if code == DEFLATE:
        return Decoder("gzip by zlib", _inflate), ""
    if code == LZ4:
        if not _installed("dectris.compression"):
            return None, "LZ4 chunks need dectris-compression: pip install 'framefold[formats]'"
        return _dectris("lz4", itemsize), ""
    if code in (ZSTD, BLOSC):
        name = "zstd" if code == ZSTD else "blosc"
        if not _installed("numcodecs"):
            return None, f"{name} chunks need numcodecs: pip install 'framefold[formats]'"
        return Decoder(f"{name} by numcodecs", _numcodecs(name)), ""
    return None, f"filter {code} has no decoder outside HDF5"


def _bitshuffle(values: tuple[int, ...], itemsize: int) -> tuple[Decoder | None, str]:
    # cd_values: library version major, minor, element size, block size in elements, 2 = lz4, 3 = zstd
    size, _block, codec = (*values[2:5], 0, 0, 0)[:3]
    if size != itemsize:
        return None, f"bitshuffle works on elements of {size} bytes, the dataset has {itemsize}"
    if codec not in (2, 3):
        return None, f"bitshuffle with codec {codec}: only 2 (lz4) and 3 (zstd) are known"
    algorithm = "bslz4" if codec == 2 else "bszstd"
    if _installed("dectris.compression"):
        return _dectris(algorithm, itemsize), ""
    if codec == 2 and _installed("bitshuffle"):
        return Decoder("bslz4 by bitshuffle", _bitshuffle_library(itemsize)), ""
    return None, f"{algorithm} chunks need dectris-compression: pip install 'framefold[formats]'"


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False


def _expect(got: int, nbytes: int) -> None:
    if got != nbytes:
        raise ValueError(f"it decodes to {got} bytes, its shape needs {nbytes}")


def _plain(stored: memoryview, nbytes: int) -> Any:
    _expect(len(stored), nbytes)
    return stored


def _inflate(stored: memoryview, nbytes: int) -> Any:
    stream = zlib.decompressobj()
    try:
        # one byte more than expected: a longer stream is noticed without being unpacked
        pixels = stream.decompress(stored, nbytes + 1)
    except zlib.error as exc:
        raise ValueError(f"zlib says {exc}") from exc
    _expect(len(pixels), nbytes)
    if not stream.eof:
        raise ValueError("its gzip stream is incomplete")
    return pixels


def _unshuffled(decode: Decode, itemsize: int) -> Decode:
    def run(stored: memoryview, nbytes: int) -> Any:
        planes = np.frombuffer(decode(stored, nbytes), np.uint8).reshape(itemsize, -1)
        return np.ascontiguousarray(planes.T).reshape(-1)

    return run


def _check_header(stored: memoryview, nbytes: int) -> int:
    """Return the block size in bytes that an LZ4 or bitshuffle chunk states in its 12-byte header."""
    if len(stored) < 12:
        raise ValueError(f"it holds {len(stored)} bytes, less than the header of 12")
    stated, block = struct.unpack(">QI", stored[:12])
    _expect(stated, nbytes)
    return int(block)


def _dectris(algorithm: str, itemsize: int) -> Decoder:
    from dectris.compression import decompress

    def run(stored: memoryview, nbytes: int) -> Any:
        # checked before: the library allocates what the header says
        _check_header(stored, nbytes)
        try:
            pixels = decompress(stored, algorithm, elem_size=itemsize)
        except RuntimeError as exc:
            raise ValueError(f"dectris-compression says {exc}") from exc
        _expect(len(pixels), nbytes)
        return pixels

    name = f"{algorithm} by dectris-compression"
    buffer_function = _dectris_c_function()
    if buffer_function is None:
        return Decoder(name, run)
    number = _DECTRIS_ALGORITHMS.index(algorithm)

    def into(stored: memoryview, target: npt.NDArray[Any]) -> None:
        _check_header(stored, target.nbytes)
        source = np.frombuffer(stored, np.uint8)
        # plain integers for addresses: ctypes releases the GIL meanwhile
        got = buffer_function(
            number, target.ctypes.data, target.nbytes, source.ctypes.data, source.size, itemsize
        )
        if got != target.nbytes:
            raise ValueError("dectris-compression cannot decode it")

    return Decoder(name, run, into)


@functools.cache
def _dectris_c_function() -> Any:
    """Return `compression_decompress_buffer` of the library, None where its build hides it.

    Its Python function makes a bytes object, whose copy costs 12 % of the time of a 512 x 512 frame.
    """
    import dectris.compression

    try:
        function = ctypes.CDLL(dectris.compression.__file__).compression_decompress_buffer
    except (OSError, AttributeError):
        return None
    size, address = ctypes.c_size_t, ctypes.c_void_p
    function.argtypes, function.restype = (ctypes.c_int, address, size, address, size, size), size
    return function


def _bitshuffle_library(itemsize: int) -> Decode:
    import bitshuffle

    from framefold.io.bslz4 import bslz4_blocks_fit  # noqa: PLC0415  # loads numba

    dtype = np.dtype(f"u{itemsize}") if itemsize in (1, 2, 4, 8) else np.dtype(f"V{itemsize}")

    def run(stored: memoryview, nbytes: int) -> Any:
        block = _check_header(stored, nbytes)
        payload = np.frombuffer(stored, np.uint8)[12:]
        # the library trusts the block sizes in the stream: broken ones crash the process
        if block % (8 * itemsize) or not block or not bslz4_blocks_fit(payload, nbytes, block, itemsize):
            raise ValueError("the sizes of its LZ4 blocks do not add up")
        count = nbytes // itemsize
        try:
            return bitshuffle.decompress_lz4(payload, (count,), dtype, block // itemsize).view(np.uint8)
        except Exception as exc:  # the library raises a bare Exception subclass
            raise ValueError(f"bitshuffle says {exc}") from exc

    return run


def _numcodecs(name: str) -> Decode:
    import numcodecs  # type: ignore[import-untyped]

    codec = numcodecs.Zstd() if name == "zstd" else numcodecs.Blosc()

    def run(stored: memoryview, nbytes: int) -> Any:
        if name == "blosc" and len(stored) >= 8:  # checked before: the library allocates what the header says
            _expect(struct.unpack_from("<I", stored, 4)[0], nbytes)
        try:
            pixels = codec.decode(stored)
        except (RuntimeError, ValueError) as exc:
            raise ValueError(f"{name} says {exc}") from exc
        _expect(len(pixels), nbytes)
        return pixels

    return run
