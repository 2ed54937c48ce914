"""Merlin files (.mib with an optional .hdr): processed frames by memory map, raw ones by our own kernels."""

from __future__ import annotations

import functools
import glob
import math
import os
import time
import warnings
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.counter import ReadCounter
from framefold.io.format import Format
from framefold.io.identity import file_identity
from framefold.io.mapped import MappedFile
from framefold.io.memmap import FrameLayout, MemmapSource, copied_rows, frames_present
from framefold.io.mib_header import MibHeader, parse_hdr, parse_header, scan_shape
from framefold.io.output import check_tile, output_for
from framefold.io.series import find_files, open_series
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import ReadStats, Source
from framefold.udfcore.tile import TileSlice

_PITCH = 55e-6  # Medipix3
_MAX_HDR = 2**20


def sniff(path: str, head: bytes) -> str | None:
    """Tell why a file is not of a Merlin detector."""
    return None if head.startswith((b"MQ1,", b"HDR,")) else "begins with neither MQ1, nor HDR,"


def open_mib(path: str, *, strict: bool = False) -> Source:
    """Open a Merlin scan.

    Parameters
    ----------
    path
        The ``.mib`` file, or the ``.hdr`` file beside it; the latter also finds a numbered series of
        ``.mib`` files.
    strict
        A truncated file, or a jump in the frame numbers, is an error instead of a warning.

    Raises
    ------
    DataError
        If a header is damaged, the frames differ in size, or the pixels are of an unsupported kind.
    """
    stem, _ = os.path.splitext(path)
    if _begins(path, b"HDR,"):
        beside = [p for p in (stem + ".mib", stem + ".MIB") if os.path.exists(p)]
        if not beside and not glob.glob(glob.escape(stem) + "*.mib"):
            raise DataError(f"{path}: no file {stem}*.mib beside it holds the frames")
        files = beside[:1] or find_files(glob.escape(stem) + "*.mib")
        if len(files) > 1:
            return open_series(
                files, functools.partial(_open_file, hdr_path=path, strict=strict), "mib", consecutive=True
            )
        return _open_file(files[0], path, strict)
    hdr = next((p for p in (stem + ".hdr", stem + ".HDR") if os.path.exists(p)), None)
    return _open_file(path, hdr, strict)


def _open_file(path: str, hdr_path: str | None, strict: bool) -> MibSource:
    first = _header_at(path, 0)
    frames, present = frames_present(path, first.offset, first.stride, first.frame_bytes, None, strict=strict)
    for index in {present // 2, present - 1}:
        other = _header_at(path, index * first.stride)
        if replace(other, sequence=0, timestamp="", exposure=None) != replace(
            first, sequence=0, timestamp="", exposure=None
        ):
            raise DataError(
                f"{path}: frame {index} has other headers than the first ({other} against {first}): "
                "frames of varying size are not supported"
            )
    hdr = _read_hdr(hdr_path)
    scan = scan_shape(hdr, frames)
    nav = scan if scan is not None and math.prod(scan) == frames else (frames,)
    metadata = Metadata(
        dwell_time=first.exposure,
        pixel_size=(_PITCH, _PITCH),
        nav_shape=scan,
        raw={"hdr": hdr, "first_frame": asdict(first)},
    )
    return MibSource(path, first, nav, present, metadata, file_identity(path, "mib"), strict=strict)


class MibSource:
    """Frames of a Merlin file; see `open_mib`."""

    def __init__(
        self,
        path: str,
        header: MibHeader,
        nav_shape: tuple[int, ...],
        present: int,
        metadata: Metadata,
        identity: str,
        *,
        strict: bool,
    ) -> None:
        self.path, self._header, self._strict = path, header, strict
        sig = header.sig_shape
        self.shape = Shape((*nav_shape, *sig), sig_dims=2)
        self.dtype = header.dtype.newbyteorder("=")
        stored = (header.frame_bytes,) if header.raw else sig
        dtype = np.dtype("u1") if header.raw else header.dtype
        self._frames = MemmapSource(
            FrameLayout(path, nav_shape, stored, dtype, header.offset, header.stride, present),
            metadata,
            identity,
        )
        self._counter = ReadCounter("decode", f"raw frames of {header.depth} bits are unpacked")
        self._warned = False

    @property
    def metadata(self) -> Metadata:
        """Exposure, scan shape, headers."""
        return self._frames.metadata

    @property
    def identity(self) -> str:
        """Path, size, modification time."""
        return self._frames.identity

    @property
    def natural_chunks(self) -> tuple[int, ...]:
        """Single rows for views, blocks of rows where bytes are copied or decoded."""
        sig = self._header.sig_shape
        return (1, *((1,) if self.is_view else copied_rows(sig, self.dtype.itemsize)), sig[1])

    @property
    def is_view(self) -> bool:
        """True for 8-bit frames, which need neither swap nor decoding."""
        return self._frames.is_view and not self._header.raw

    @property
    def valid(self) -> npt.NDArray[np.bool_] | None:
        """False for a truncated last frame."""
        return self._frames.valid

    def read(self, tile: TileSlice, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return the values of `tile`; see `Source.read`."""
        if not self._header.raw:
            got = self._frames.read(tile, out)
            self._check_numbers(tile, self._frames.mapped(tile))
            return got
        check_tile(tile, self._frames.layout.present, tuple(self.shape.sig), self.path)
        began = time.perf_counter()
        mapped = self._frames.mapped(tile)
        self._check_numbers(tile, mapped)
        out = output_for(tile, self.dtype, out, self.path)
        self._decode(mapped.bytes, tile, out)
        self._counter.add(out.nbytes, time.perf_counter() - began)
        return out

    def stats(self) -> ReadStats:
        """Return what was read so far in this process."""
        return self._counter.stats() if self._header.raw else self._frames.stats()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (
            self.path, self._header, tuple(self.shape.nav), self._frames.layout.present, self.metadata,
            self.identity, self._strict,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<MibSource {self.path} {self.shape} {self.dtype} {self._header.pixel}>"

    def _decode(self, data: npt.NDArray[np.uint8], tile: TileSlice, out: npt.NDArray[Any]) -> None:
        from framefold.io.decode import decode_r64  # noqa: PLC0415  # loads numba

        rows, cols = tile.sig
        width = self.shape.sig[1]
        whole = cols == slice(0, width)
        # the rows of all chips are interleaved: they are unpacked at full width
        full = out if whole else np.empty((*out.shape[:2], width), self.dtype)
        head = self._header
        first = head.offset + tile.start * head.stride
        decode_r64(data, first, head.stride, head.depth, self.shape.sig[0], head.quad, rows.start, full)
        if not whole:
            out[...] = full[:, :, cols]

    def _check_numbers(self, tile: TileSlice, mapped: MappedFile) -> None:
        """Compare the frame numbers at both ends of the tile with the first of the file.

        That costs 2 us per tile; a frame lost inside of it shows at its end.
        """
        stride, first = self._header.stride, self._header.sequence
        for frame in (tile.start, tile.stop - 1) if tile.stop > tile.start else ():
            number = mapped.peek(frame * stride, frame * stride + 16)
            if number.startswith(b"MQ1,%06d," % (first + frame)):
                continue
            if not number.startswith(b"MQ1,"):
                raise DataError(
                    f"{self.path}: no frame header where frame {frame} should begin (byte {frame * stride})"
                )
            self._report(frame, first + frame, number)

    def _report(self, frame: int, expected: int, number: bytes) -> None:
        stated = number[4:].split(b",")[0].decode("ascii", errors="replace")
        text = (
            f"{self.path}: frame {frame} has the number {stated}, expected {expected}: "
            "frames were lost or reordered"
        )
        if self._strict:
            raise DataError(f"{text} (strict=True)")
        if not self._warned:
            self._warned = True
            warnings.warn(text, stacklevel=4)


def _rebuild(
    path: str, header: MibHeader, nav_shape: tuple[int, ...], present: int, metadata: Metadata,
    identity: str, strict: bool,
) -> MibSource:  # fmt: skip
    return MibSource(path, header, nav_shape, present, metadata, identity, strict=strict)


def _header_at(path: str, offset: int) -> MibHeader:
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(4096)
    except OSError as exc:
        raise DataError(f"cannot open {path}: {exc.strerror or exc}") from exc
    return parse_header(data, f"{path}, byte {offset}")


def _begins(path: str, mark: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(mark)) == mark
    except OSError as exc:
        raise DataError(f"cannot open {path}: {exc.strerror or exc}") from exc


def _read_hdr(path: str | None) -> dict[str, str]:
    if path is None:
        return {}
    with open(path, encoding="utf-8", errors="replace") as file:
        return parse_hdr(file.read(_MAX_HDR))


FORMAT = Format("mib", "Merlin / Medipix3, processed and raw, with .hdr", sniff, open_mib, (".mib", ".hdr"))
