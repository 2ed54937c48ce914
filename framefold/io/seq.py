"""StreamPix sequences (.seq), as Norpix and Direct Electron cameras write them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.fields import read_bytes, unpack
from framefold.io.format import Format
from framefold.io.identity import file_identity
from framefold.io.memmap import FrameLayout, MemmapSource, checked_shape, frames_present
from framefold.io.mrc import open_mrc
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.tile import TileSlice, full_sig

_FIELDS = (
    ("magic", "I"), ("_name", "24s"), ("version", "i"), ("header_size", "i"), ("description", "512s"),
    ("width", "I"), ("height", "I"), ("bit_depth", "I"), ("bit_depth_real", "I"), ("image_bytes", "I"),
    ("image_format", "I"), ("allocated_frames", "I"), ("origin", "I"), ("true_image_size", "I"),
    ("frame_rate", "d"), ("_formats", "20s"), ("_bayer", "i"), ("_time_offset", "i"),
    ("_extended_header", "i"), ("compression", "I"),
)  # fmt: skip
_SIZE = 640


def sniff(path: str, head: bytes) -> str | None:
    """Tell why a file is not a sequence."""
    if head[:4] != b"\xed\xfe\x00\x00":
        return "does not begin with 0xFEED"
    return None if "Norpix".encode("utf-16-le") in head[:64] else "no Norpix behind 0xFEED"


def open_seq(path: str, *, strict: bool = False) -> MemmapSource:
    """Open a sequence; dark and gain images beside it (``.dark.mrc``, ``.gain.mrc``) become metadata.

    Parameters
    ----------
    path
        The file.
    strict
        A truncated file is an error.

    Raises
    ------
    DataError
        If the header is damaged, frames are compressed, or the pixels are not 8, 16 or 32 bit.
    """
    head = dict(unpack(read_bytes(path, 0, _SIZE), _FIELDS, path))
    head["description"] = head["description"].decode("utf-16-le", errors="replace").split("\0", 1)[0]
    sig = checked_shape(path, (head["height"], head["width"]), "frames of")
    if head["compression"] != 0:
        raise DataError(f"{path}: compression {head['compression']} is not supported: export it uncompressed")
    if head["bit_depth"] not in (8, 16, 32):
        raise DataError(f"{path}: pixels of {head['bit_depth']} bits are not supported: 8, 16 and 32 are")
    dtype = np.dtype(f"<u{head['bit_depth'] // 8}")
    size, stride = sig[0] * sig[1] * dtype.itemsize, head["true_image_size"]
    if stride < size:
        raise DataError(f"{path}: frames of {size} bytes every {stride} bytes: the header is damaged")
    # StreamPix 6 has a larger header
    offset = 8192 if head["version"] >= 5 else 1024
    frames, present = frames_present(path, offset, stride, size, None, strict=strict, footer=stride - size)
    rate = head["frame_rate"]
    metadata = Metadata(
        dwell_time=1 / rate if 1e-6 < rate < 1e9 else None,
        dark=_beside(path, "dark", sig), gain=_beside(path, "gain", sig), raw=head,
    )  # fmt: skip
    layout = FrameLayout(path, (frames,), sig, dtype, offset, stride, present)
    return MemmapSource(layout, metadata, file_identity(path, "seq"))


def _beside(path: str, kind: str, sig: tuple[int, ...]) -> npt.NDArray[Any] | None:
    """Return the reference image beside a sequence."""
    stem = path[: -len(".seq")] if path.lower().endswith(".seq.seq") else path
    name = f"{stem}.{kind}.mrc"
    if not os.path.isfile(name):
        return None
    source = open_mrc(name)
    if tuple(source.shape.sig) != sig:
        raise DataError(f"{name} is {tuple(source.shape.sig)}, the frames of {path} are {sig}")
    return source.read(TileSlice(0, 1, full_sig(sig)))[0].copy()


FORMAT = Format("seq", "StreamPix sequence of Norpix, Direct Electron", sniff, open_seq, (".seq",))
