"""Arrays as they come from a wire: dtype and shape checked before memory is asked for, decoded into place."""

from __future__ import annotations

import functools
import importlib.util
import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError
from framefold.io.hdf5_filters import BITSHUFFLE, BLOSC, LZ4, Decoder, find_decoder

DTYPES = frozenset(
    ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
    + ("float16", "float32", "float64", "complex64", "complex128")
)
MAX_BYTES = 2**30
_BITSHUFFLE_BLOCK = 8192
_CODECS = {"lz4-block": "lz4", "bslz4-blocks": "bslz4"}  # framing without a header -> with one


class UndecodableError(StreamError):
    """The bytes of one array do not decode to its shape; the stream can go on."""


@dataclass(frozen=True, slots=True)
class EncodedArray:
    """An array, perhaps compressed.

    Attributes
    ----------
    shape
        C order.
    dtype
        With byte order.
    codec
        ``""``, ``"lz4"`` and ``"bslz4"`` with a header of total and block size, ``"lz4-block"`` and
        ``"bslz4-blocks"`` without one, ``"blosc"``.
    data
        Bytes as received.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    codec: str
    data: memoryview

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded array."""
        return math.prod(self.shape) * self.dtype.itemsize

    def decode(self) -> npt.NDArray[Any]:
        """Return the array in native byte order."""
        out = np.empty(self.shape, self.dtype.newbyteorder("="))
        self.decode_into(out)
        return out

    def view(self) -> npt.NDArray[Any]:
        """Return the array, without a copy where it is neither compressed nor of another byte order."""
        if self.codec or not self.dtype.isnative or len(self.data) != self.nbytes:
            return self.decode()
        return np.frombuffer(self.data, self.dtype).reshape(self.shape)

    def check(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Check what can be told without decoding, for an array of this shape and (native) dtype.

        Raises
        ------
        UndecodableError
            If there are more or fewer bytes than pixels need.
        StreamError
            If another array is expected, or a library is missing.
        """
        if shape != self.shape or dtype != self.dtype.newbyteorder("="):
            raise StreamError(
                f"an array of {self.shape} {self.dtype} arrived where {shape} {dtype} is expected"
            )
        if not self.codec and len(self.data) != self.nbytes:
            raise UndecodableError(f"{len(self.data)} bytes arrived for an array of {self.nbytes} bytes")
        if self.codec and self.codec != "lz4-block":  # which may need another library
            _decoder(_CODECS.get(self.codec, self.codec), self.dtype.itemsize)

    def decode_into(self, out: npt.NDArray[Any]) -> None:
        """Write the array to `out`, of its shape and, but for the byte order, of its dtype.

        Raises
        ------
        UndecodableError
            If the bytes do not decode to exactly this size.
        StreamError
            If another array is expected, or a library is missing.
        """
        self.check(out.shape, out.dtype)
        if not self.codec:
            out[...] = np.frombuffer(self.data, self.dtype).reshape(self.shape)
            return
        target = out if out.flags.c_contiguous else np.empty(out.shape, out.dtype)
        try:
            self._decompress(target)
        except ValueError as exc:
            raise UndecodableError(
                f"{self.codec} data of an array of {self.shape} {self.dtype}: {exc}"
            ) from exc
        if not self.dtype.isnative:
            target.byteswap(inplace=True)
        if target is not out:
            out[...] = target

    def _decompress(self, target: npt.NDArray[Any]) -> None:
        data = self.data
        if self.codec == "lz4-block" and bytes(data[:3]) != b"\0\0\0":  # no block begins so, a header does
            _lz4_block(data, target)
            return
        codec = _CODECS.get(self.codec, self.codec)
        # sizes are known without a header, and one simulator leaves it empty
        empty = self.codec == "bslz4" and len(data) > 12 and bytes(data[:12]) == bytes(12)
        if empty or self.codec == "bslz4-blocks":
            header = struct.pack(">QI", self.nbytes, _BITSHUFFLE_BLOCK)
            data = memoryview(header + bytes(data[12 if empty else 0 :]))
        decoder = _decoder(codec, self.dtype.itemsize)
        if decoder.decode_into is not None:
            decoder.decode_into(data, target)
        else:
            raw = np.frombuffer(decoder.decode(data, target.nbytes), np.uint8)
            target.reshape(-1).view(np.uint8)[...] = raw


def checked_dtype(text: Any, allowed: frozenset[str] = DTYPES) -> np.dtype[Any]:
    """Return the dtype of that name.

    Raises
    ------
    StreamError
        If it is not one of numbers (no objects, no records).
    """
    if not isinstance(text, str) or text.lstrip("<>|=") not in allowed:
        raise StreamError(f"dtype {str(text)[:40]!r} is not allowed: {', '.join(sorted(allowed))}")
    # ">uint16" is no name that numpy knows
    dtype = np.dtype(text.lstrip("<>|="))
    return dtype.newbyteorder(">") if text.startswith(">") else dtype


def checked_shape(shape: Any, dtype: np.dtype[Any], most: int = MAX_BYTES) -> tuple[int, ...]:
    """Return the shape as a tuple of ints.

    Raises
    ------
    StreamError
        If it is none, or the array would have more than `most` bytes.
    """
    if not isinstance(shape, list | tuple) or not 0 <= len(shape) <= 8:
        raise StreamError(f"{str(shape)[:60]} is no shape of an array")
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in shape):
        raise StreamError(f"{str(shape)[:60]} is no shape of an array: sizes are integers, 1 at least")
    size = math.prod(shape) * dtype.itemsize
    if size > most:
        raise StreamError(f"an array of {tuple(shape)} {dtype} has {size} bytes, at most {most} are allowed")
    return tuple(shape)


@functools.cache
def _decoder(codec: str, itemsize: int) -> Decoder:
    if codec == "bslz4":
        decoder, reason = find_decoder([(BITSHUFFLE, (0, 0, itemsize, 0, 2), "")], itemsize)
    elif codec == "lz4":
        decoder, reason = find_decoder([(LZ4, (), "")], itemsize)
    elif codec == "blosc":
        decoder, reason = find_decoder([(BLOSC, (), "")], itemsize)
    else:
        decoder, reason = None, f"unknown compression {codec!r}: bslz4 and lz4 are known"
    if decoder is None:
        raise StreamError(reason.replace("framefold[formats]", "framefold[live]"))
    return decoder


def _lz4_block(data: memoryview, target: npt.NDArray[Any]) -> None:
    if importlib.util.find_spec("lz4") is None:
        raise StreamError("LZ4 blocks need the package lz4: pip install 'framefold[live]'")
    import lz4.block  # type: ignore[import-untyped]  # noqa: PLC0415  # optional

    try:
        raw = lz4.block.decompress(data, uncompressed_size=target.nbytes)
    except lz4.block.LZ4BlockError as exc:
        raise ValueError(str(exc)) from exc
    if len(raw) != target.nbytes:
        raise ValueError(f"it decodes to {len(raw)} bytes, its shape needs {target.nbytes}")
    target.reshape(-1).view(np.uint8)[...] = np.frombuffer(raw, np.uint8)
