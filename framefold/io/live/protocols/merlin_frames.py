"""Merlin frames in a block: whole messages as they were received, decoded where they are folded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.io.live.protocols.merlin_kernels import copy_big_endian
from framefold.io.live.protocols.merlin_messages import PREFIX, MerlinFrame


@dataclass(frozen=True, slots=True, eq=False)
class MerlinFrames:
    """Whole messages, one behind the other; see `EncodedFrames`.

    Attributes
    ----------
    data
        uint8 ``(frames, bytes of a message)``, C-contiguous.
    like
        Header of all of them.
    """

    data: npt.NDArray[np.uint8]
    like: MerlinFrame

    def decode(self, frames: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        """Write some frames to `out`; every frame that arrived can be decoded."""
        if int(frames[-1]) - int(frames[0]) == len(frames) - 1:  # nearly always: spares 30 us
            self._run(int(frames[0]), out)
            return
        at = 0
        for run in np.split(frames, np.flatnonzero(np.diff(frames) != 1) + 1):
            self._run(int(run[0]), out[at : at + len(run)])
            at += len(run)

    def _run(self, frame: int, out: npt.NDArray[Any]) -> None:
        head, message = self.like.header, self.like.message
        data, first = self.data.reshape(-1), frame * message + PREFIX + head.offset
        if head.raw:
            from framefold.io.decode import decode_r64  # noqa: PLC0415  # loads numba

            decode_r64(data, first, message, head.depth, head.sig_shape[0], head.quad, 0, out)
        else:
            copy_big_endian(data, first, message, head.dtype.itemsize, out)


@dataclass(frozen=True, slots=True)
class KeptMessages:
    """Frames of one kind are kept as `MerlinFrames`; see `Keeping`."""

    like: MerlinFrame

    @property
    def frame_bytes(self) -> int:
        """Bytes of a message."""
        return self.like.message

    def place(self, slot: npt.NDArray[np.uint8], frames: int) -> npt.NDArray[np.uint8]:
        """Return the beginning of the slot as messages."""
        return slot[: frames * self.like.message].reshape(frames, self.like.message)

    def frames(self, place: npt.NDArray[np.uint8]) -> MerlinFrames:
        """Return the frames in it."""
        return MerlinFrames(place, self.like)
