"""Frames as the DECTRIS stream V2 carries them: CBOR maps over ZeroMQ."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.io.live.replay.compress import Compression, compress
from framefold.io.live.replay.encoder import Message, Series, Transport
from framefold.udfcore.live import AcquisitionStart

_TAGS = {1: 64, 2: 69, 4: 70, 8: 71}


class DectrisEncoder:
    """Start, images of one threshold, end.

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
        """Return the start message."""
        height, width = self._series.begin(start, (1, 2, 4, 8), "the DECTRIS stream")
        fields: dict[str, Any] = {
            "number_of_images": start.n_frames or 0,
            "image_size_x": width,
            "image_size_y": height,
            "image_dtype": self._series.dtype.name,
            "channels": ["threshold_1"],
            "detector_description": "framefold emulator",
        }
        mask = start.meta.get("pixel_mask")
        if isinstance(mask, np.ndarray):
            fields["pixel_mask"] = {"threshold_1": _tagged(mask.astype("u4"), self._compression)}
        return [self._message("start", fields)]

    def frame(self, index: int, frame: npt.NDArray[Any]) -> Message:
        """Return an image message."""
        array = _tagged(frame.astype(self._series.dtype), self._compression)
        return self._message("image", {"image_id": index, "data": {"threshold_1": array}})

    def end(self) -> list[Message]:
        """Return the end message."""
        return [self._message("end", {})]

    def _message(self, kind: str, fields: dict[str, Any]) -> Message:
        import cbor2  # noqa: PLC0415  # optional

        number = self._series.number
        head = {"type": kind, "series_id": number, "series_unique_id": f"emulated-{number}"}
        # the tag says that CBOR follows; detectors send it
        return [bytes(cbor2.dumps(cbor2.CBORTag(55799, {**head, **fields})))]


def _tagged(array: npt.NDArray[Any], compression: Compression) -> Any:
    import cbor2  # noqa: PLC0415  # optional

    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    data: Any = compress(little, compression)
    if compression != "none":
        data = cbor2.CBORTag(56500, [compression, little.itemsize, data])
    return cbor2.CBORTag(40, [list(array.shape), cbor2.CBORTag(_TAGS[little.itemsize], data)])
