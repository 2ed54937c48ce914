"""The seam between emulators and protocols with one connection: an encoder turns frames into messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError
from framefold.udfcore.live import AcquisitionStart

Message = list[bytes]
Transport = Literal["tcp", "push", "pub", "rep", "pva"]


class Encoder(Protocol):
    """Writes what a detector sends; written apart from the parser, from the same description.

    Attributes
    ----------
    transport
        ``"tcp"``: the parts of a message are bytes one behind the other; ``"push"``, ``"pub"``, ``"rep"``:
        ZeroMQ, a message has parts; ``"pva"``: a structure, and its pixels.
    """

    transport: Transport

    def begin(self, start: AcquisitionStart) -> list[Message]:
        """Return what is sent when an acquisition begins.

        Raises
        ------
        StreamError
            If the protocol cannot carry such frames.
        """
        ...

    def frame(self, index: int, frame: npt.NDArray[Any]) -> Message:
        """Return the message of frame `index`, from 0."""
        ...

    def end(self) -> list[Message]:
        """Return what is sent when an acquisition ends."""
        ...


@dataclass(slots=True)
class Series:
    """Which series of images an encoder is in, and the pixels it states.

    Attributes
    ----------
    number
        Of the series.
    dtype
        Of the images on the wire.
    """

    number: int
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype("u2"))

    def begin(self, start: AcquisitionStart, sizes: tuple[int, ...], protocol: str) -> tuple[int, int]:
        """Go on to the next series; return height and width of its images.

        Raises
        ------
        StreamError
            If `protocol`, which has pixels of `sizes` bytes, carries no such frames.
        """
        if len(start.sig_shape) != 2:
            raise StreamError(f"{protocol} carries images, not arrays of {start.sig_shape}")
        self.dtype = unsigned(start, sizes, protocol)
        self.number += 1
        height, width = start.sig_shape
        return height, width


def unsigned(start: AcquisitionStart, sizes: tuple[int, ...], protocol: str) -> np.dtype[Any]:
    """Return the unsigned integer type of the smallest of `sizes` bytes that carries the frames.

    Raises
    ------
    StreamError
        If they are no unsigned integers (or bool) that fit.
    """
    dtype = start.dtype
    fit = [n for n in sizes if n >= dtype.itemsize]
    if dtype.kind not in "ub" or not fit:
        raise StreamError(
            f"{protocol} carries unsigned integers of {', '.join(map(str, sizes))} bytes, not {dtype}: "
            "convert the dataset first"
        )
    return np.dtype(f"u{fit[0]}")
