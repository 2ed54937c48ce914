"""A dataset as the datagrams of a detector: what an encoder makes, and how ids and flags are put in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Stamp:
    """Where a number of changing value stands in the header.

    Attributes
    ----------
    offset, size
        Bytes.
    big_endian
        Byte order.
    """

    offset: int
    size: int
    big_endian: bool


@dataclass(frozen=True)
class Wire:
    """Datagrams of some frames, in the order in which the detector sends them.

    Attributes
    ----------
    headers
        uint8 ``(frames, packets, header)``, without id and flag.
    payloads
        uint8 ``(frames, packets, bytes)``.
    sectors, pieces
        Of each packet of a frame, int64 ``(packets,)``; pieces are numbered as the receiver does.
    frame_id
        Where the id goes.
    flag
        Byte and mask that tell that the acquisition is on; None: the protocol has none.
    guard
        Bytes of the header whose damage the receiver must notice.
    url
        The URL that receives it, with port 0.
    """

    headers: npt.NDArray[np.uint8]
    payloads: npt.NDArray[np.uint8]
    sectors: npt.NDArray[np.int64]
    pieces: npt.NDArray[np.int64]
    frame_id: Stamp
    flag: tuple[int, int] | None
    guard: tuple[int, int]
    url: str

    @property
    def frames(self) -> int:
        """Frames in memory."""
        return len(self.headers)

    @property
    def packets(self) -> int:
        """Packets of a frame."""
        return self.headers.shape[1]

    @property
    def size(self) -> int:
        """Bytes of a datagram."""
        return int(self.headers.shape[2] + self.payloads.shape[2])

    @property
    def n_sectors(self) -> int:
        """Number of sectors."""
        return int(self.sectors.max()) + 1
