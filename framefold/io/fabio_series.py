"""EDF, CBF, MarCCD and other detector images by fabio, a frame at a time."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.counter import ReadCounter
from framefold.io.fields import read_bytes
from framefold.io.format import Format
from framefold.io.identity import file_identity
from framefold.io.memmap import checked_shape
from framefold.io.memory import require_numbers
from framefold.io.output import check_tile, output_for
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import ReadStats
from framefold.udfcore.tile import TileSlice

_KEPT_FRAMES = 4
_CBF_HEADER = 65536


def sniff(path: str, head: bytes) -> str | None:
    """Tell why a file is none of the images that fabio is used for."""
    text = head[:1024]
    if text.lstrip().startswith(b"{") and (b"EDF_" in text or b"HeaderID" in text or b"Dim_1" in text):
        return None
    if text.startswith(b"###CBF") or b"_array_data" in text:
        return None
    # a MarCCD file is a TIFF with a header of its own at 1024
    if head[:2] in (b"II", b"MM") and head[1024:1056].find(b"MMX") >= 0:
        return None
    return "no header of EDF, CBF or MarCCD"


def open_fabio(path: str) -> FabioSource:
    """Open an image, or all images of a multi-frame EDF file.

    Raises
    ------
    DataError
        If fabio is missing or cannot read the file.
    """
    image = _open(path)
    try:
        frames, frame = int(image.nframes), image.data
        header = {str(k): str(v) for k, v in dict(image.header).items()}
    except Exception as exc:
        raise DataError(f"{path}: cannot read as {type(image).__name__}: {exc}") from exc
    finally:
        image.close()
    if frame is None or frame.ndim != 2:
        raise DataError(f"{path}: holds no image")
    require_numbers(frame.dtype, path)
    shape = checked_shape(path, (frames, *frame.shape), "the stack")
    source = FabioSource(path, shape, frame.dtype.newbyteorder("="), header, file_identity(path, "fabio"))
    # decoded already; in a series of single images that is all there is
    source._frames[0] = frame
    return source


class FabioSource:
    """Frames of one file; see `open_fabio`."""

    is_view = False
    valid = None

    def __init__(
        self, path: str, shape: tuple[int, ...], dtype: np.dtype[Any], header: dict[str, str], identity: str
    ) -> None:
        self.path, self.dtype, self.identity = path, dtype, identity
        self.shape = Shape(shape, sig_dims=2)
        self.natural_chunks = (1, *shape[1:])
        self.metadata = Metadata(dwell_time=_exposure(header), raw=header)
        self._counter = ReadCounter("fabio", "decoded by fabio")
        self._lock = threading.Lock()
        # tiles of one frame follow one another
        self._frames: OrderedDict[int, npt.NDArray[Any]] = OrderedDict()

    def read(self, tile: TileSlice, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return the values of `tile`; see `Source.read`."""
        check_tile(tile, self.shape.nav.size, tuple(self.shape.sig), self.path)
        began = time.perf_counter()
        out = output_for(tile, self.dtype, out, self.path)
        for i, index in enumerate(range(tile.start, tile.stop)):
            out[i] = self._frame(index)[tile.sig]
        self._counter.add(out.nbytes, time.perf_counter() - began)
        return out

    def stats(self) -> ReadStats:
        """Return what was read so far in this process."""
        return self._counter.stats()

    def __reduce__(self) -> tuple[Any, ...]:
        return FabioSource, (self.path, tuple(self.shape), self.dtype, self.metadata.raw, self.identity)

    def __repr__(self) -> str:
        return f"<FabioSource {self.path} {self.shape} {self.dtype}>"

    def _frame(self, index: int) -> npt.NDArray[Any]:
        with self._lock:
            if index in self._frames:
                return self._frames[index]
        image = _open(self.path)
        try:
            frame = np.asarray(image.get_frame(index).data)
        except Exception as exc:
            raise DataError(f"{self.path}: cannot read frame {index}: {exc}") from exc
        finally:
            image.close()
        if frame.shape != tuple(self.shape.sig) or frame.dtype.newbyteorder("=") != self.dtype:
            raise DataError(
                f"{self.path}: frame {index} is {frame.shape} {frame.dtype}, "
                f"the first {tuple(self.shape.sig)} {self.dtype}"
            )
        with self._lock:
            self._frames[index] = frame
            while len(self._frames) > _KEPT_FRAMES:
                self._frames.popitem(last=False)
        return frame


def _exposure(header: dict[str, str]) -> float | None:
    """Return the exposure time in s, as EDF states it."""
    for name in ("exposure_time", "ExposureTime", "count_time"):
        value = header.get(name, "").split(" ")[0]
        try:
            return float(value)
        except ValueError:
            continue
    return None


def _require_whole_cbf(path: str) -> None:
    """Refuse cut CBF files, in which fabio would search for the pixels for ever."""
    head = read_bytes(path, 0, min(_CBF_HEADER, max(1, os.path.getsize(path))))
    if not head.startswith(b"###CBF"):
        return
    begin = head.find(b"\x0c\x1a\x04\xd5")
    size = re.search(rb"X-Binary-Size:\s*(\d{1,12})", head)
    if begin < 0 or size is None or os.path.getsize(path) < begin + 4 + int(size[1]):
        raise DataError(f"{path} is truncated or damaged: its pixels are not all there")


def _open(path: str) -> Any:
    try:
        import fabio  # noqa: PLC0415  # optional
    except ImportError as exc:
        raise DataError(
            "EDF, CBF and MarCCD files need the fabio package: pip install 'framefold[formats]'"
        ) from exc
    _require_whole_cbf(path)
    try:
        return fabio.open(path)
    except Exception as exc:
        # each of its formats raises its own types for damaged files
        size = os.path.getsize(path) if os.path.exists(path) else 0
        raise DataError(f"{path} ({size} bytes): fabio cannot open it: {exc}") from exc


FORMAT = Format("fabio", "EDF, CBF, MarCCD images by fabio", sniff, open_fabio, (".edf", ".cbf", ".mccd"))
