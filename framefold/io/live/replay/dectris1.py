"""Frames as the DECTRIS stream V1 carries them: JSON and blobs in parts over ZeroMQ."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.io.live.replay.compress import Compression, bitshuffled, lz4_block
from framefold.io.live.replay.encoder import Message, Series, Transport
from framefold.udfcore.live import AcquisitionStart


class Dectris1Encoder:
    """Header, frames, end.

    Parameters
    ----------
    compression
        Of the images.
    series
        Number of the first series.
    """

    transport: Transport = "push"

    def __init__(self, compression: Compression = "bslz4", series: int = 1) -> None:
        self._compression: Compression = compression
        self._series = Series(series - 1)

    def begin(self, start: AcquisitionStart) -> list[Message]:
        """Return the header; with a pixel mask in `meta` all of its details."""
        height, width = self._series.begin(start, (1, 2, 4), "the DECTRIS stream V1")
        config = {
            "nimages": start.n_frames or 1,
            "ntrigger": 1,
            "x_pixels_in_detector": width,
            "y_pixels_in_detector": height,
            "bit_depth_image": 8 * self._series.dtype.itemsize,
            "description": "framefold emulator",
        }
        mask = start.meta.get("pixel_mask")
        head = {"htype": "dheader-1.0", "series": self._series.number, "header_detail": "basic"}
        parts = [_json(head), _json(config)]
        if isinstance(mask, np.ndarray):
            about = {"htype": "dpixelmask-1.0", "shape": [width, height], "type": "uint32"}
            parts = [_json({**head, "header_detail": "all"}), parts[1]]
            parts += [_json(about), mask.astype("<u4").tobytes()]
        return [parts]

    def frame(self, index: int, frame: npt.NDArray[Any]) -> Message:
        """Return the four parts of an image."""
        array = np.ascontiguousarray(frame, self._series.dtype.newbyteorder("<"))
        encoding, blob = self._encoded(array)
        about = {
            "htype": "dimage_d-1.0",
            "shape": list(array.shape[::-1]),
            "type": self._series.dtype.name,
            "encoding": encoding,
            "size": len(blob),
        }
        head = {"htype": "dimage-1.0", "series": self._series.number, "frame": index, "hash": ""}
        times = {"htype": "dconfig-1.0", "start_time": 0, "stop_time": 0, "real_time": 0}
        return [_json(head), _json(about), blob, _json(times)]

    def end(self) -> list[Message]:
        """Return the end of the series."""
        return [[_json({"htype": "dseries_end-1.0", "series": self._series.number})]]

    def _encoded(self, array: npt.NDArray[Any]) -> tuple[str, bytes]:
        if self._compression == "bslz4":
            head = struct.pack(">QI", array.nbytes, 8192)
            return f"bs{8 * array.itemsize}-lz4<", head + bitshuffled(array)
        if self._compression == "lz4":
            return "lz4<", lz4_block(array.tobytes())
        return "<", array.tobytes()


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode("ascii")
