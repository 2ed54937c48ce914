"""Frames as a Merlin detector sends them over TCP."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError
from framefold.io.live.replay.encoder import Message, Transport, unsigned
from framefold.udfcore.live import AcquisitionStart

_HEADER = 384


class MerlinEncoder:
    """Processed frames (U08, U16, U32, U64) of one chip.

    Parameters
    ----------
    exposure
        s, as the headers state it.
    """

    transport: Transport = "tcp"

    def __init__(self, exposure: float = 0.001) -> None:
        self._exposure = exposure
        self._dtype: np.dtype[Any] = np.dtype(">u2")

    def begin(self, start: AcquisitionStart) -> list[Message]:
        """Return the text header."""
        if len(start.sig_shape) != 2 or max(start.sig_shape) > 9999:
            raise StreamError(f"merlin carries images of at most 9999 x 9999, not {start.sig_shape}")
        self._dtype = unsigned(start, (1, 2, 4, 8), "merlin").newbyteorder(">")
        bits = 8 * self._dtype.itemsize
        lines = [
            "HDR,\t",
            "Time and Date Stamp (day, mnth, yr, hr, min, s):\t01/01/2026 00:00:00",
            "Chip Type (Medipix 3.0, Medipix 3.1, Medipix 3RX):\tMedipix 3RX",
            "Assembly Size (NX1, 2X2):\t   1x1",
            "Chip Mode  (SPM, CSM, CM, CSCM):\tSPM",
            f"Counter Depth (number):\t{ {8: 6, 16: 12}.get(bits, 24) }",
            "Acquisition Type (Normal, Th_scan, Config):\tNormal",
            f"Frames in Acquisition (Number):\t{start.n_frames or 0}",
            # as scans have it whose every frame is triggered: it tells nothing of their shape
            "Frames per Trigger (Number):\t1",
            "Trigger Start (Positive, Negative, Internal):\tRising Edge",
            "Trigger Stop (Positive, Negative, Internal):\tInternal",
            "Software Version:\tframefold emulator",
        ]
        if start.nav_shape is not None and len(start.nav_shape) == 2:
            lines += [f"ScanX:\t{start.nav_shape[1]}", f"ScanY:\t{start.nav_shape[0]}"]
        text = "\r\n".join([*lines, "End\t"]).encode("ascii")
        return [_message(text.ljust(2048))]

    def frame(self, index: int, frame: npt.NDArray[Any]) -> Message:
        """Return the message of a frame; numbers have six digits and begin with 1."""
        bits = 8 * self._dtype.itemsize
        height, width = frame.shape
        number = (index + 1) % 10**6
        text = (
            f"MQ1,{number:06d},{_HEADER:05d},01,{width:04d},{height:04d},U{bits:02d},   1x1,01,"
            f"2026-01-01 00:00:00.000000,{self._exposure:f},0,0,0,1.0E+1,5.11E+2,3RX,511,MQ1A,"
            f"2026-01-01T00:00:00.000000000Z,{round(self._exposure * 1e9)}ns,{min(bits, 24)},"
        )
        return _message(text.encode("ascii").ljust(_HEADER, b"\0"), frame.astype(self._dtype).tobytes())

    def end(self) -> list[Message]:
        """Return nothing: the number of frames says when it ends."""
        return []


def _message(*parts: bytes) -> Message:
    return [b"MPX,%010d," % (1 + sum(map(len, parts))), *parts]
