"""Images in a block as they came over the wire, compressed or not: decoded where they are folded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.io.live.encoded import UndecodableError


@dataclass(frozen=True, slots=True, eq=False)
class PackedFrames:
    """One or more encoded arrays per frame; see `EncodedFrames`.

    Attributes
    ----------
    arrays
        ``(frames,)`` of objects: for each frame the `EncodedArray` of its channels. They hold the messages.
    stacked
        Channels are the first signal axis of a frame; otherwise there is one.
    """

    arrays: npt.NDArray[Any]
    stacked: bool

    def decode(self, frames: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
        """Decode some frames to `out`; return which are damaged, None if none is."""
        bad: list[int] = []
        for i, frame in enumerate(frames.tolist()):
            targets = out[i] if self.stacked else out[i][np.newaxis]
            try:
                for array, target in zip(self.arrays[frame], targets, strict=True):
                    array.decode_into(target)
            except UndecodableError:
                bad.append(i)
        if not bad:
            return None
        flags = np.zeros(len(frames), dtype=bool)
        flags[bad] = True
        return flags


@dataclass(frozen=True, slots=True)
class KeptImages:
    """Images are kept as `PackedFrames`; see `Keeping`.

    The messages hold the memory, but count as if they were decoded: `ring_bytes` is never exceeded.

    Attributes
    ----------
    frame_bytes
        Of a decoded frame.
    stacked
        As in `PackedFrames`.
    """

    frame_bytes: int
    stacked: bool

    def place(self, slot: npt.NDArray[np.uint8], frames: int) -> npt.NDArray[np.object_]:
        """Return room for the arrays of each frame; the slot is only a permit."""
        return np.empty(frames, dtype=object)

    def frames(self, place: npt.NDArray[np.object_]) -> PackedFrames:
        """Return the frames in it."""
        return PackedFrames(place, self.stacked)
