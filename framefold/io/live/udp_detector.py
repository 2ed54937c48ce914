"""What a detector over UDP looks like: its sectors, where they are received, and what their datagrams are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from framefold.errors import DataError
from framefold.io.live.packet import PacketFormat
from framefold.io.live.sockets import Endpoint, is_multicast
from framefold.udfcore.live import SectorSpec


@dataclass(frozen=True)
class UdpDetector:
    """A detector whose sectors each send their part of every frame in datagrams of one size.

    Attributes
    ----------
    sig_shape
        Of a frame: two axes.
    sectors
        What arrives where. All pieces of all sectors have one shape.
    endpoints
        Of each sector.
    format
        Of the datagrams.
    flips
        Per sector: its rows are sent from the bottom upwards. Empty: none.
    fps
        Frames per second, where known.
    meta
        For `AcquisitionStart`.
    """

    sig_shape: tuple[int, int]
    sectors: tuple[SectorSpec, ...]
    endpoints: tuple[Endpoint, ...]
    format: PacketFormat
    flips: tuple[bool, ...] = ()
    fps: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = {s.pieces.shape for s in self.sectors}
        if len(shapes) != 1 or math.prod(next(iter(shapes))) != self.format.pixels:
            raise DataError(f"pieces of {sorted(shapes)}, datagrams of {self.format.pixels} pixels")
        if len(self.endpoints) != len(self.sectors):
            raise DataError(f"{len(self.sectors)} sectors, but {len(self.endpoints)} ports")
        for e in self.endpoints:
            if is_multicast(e.host) and not e.interface:
                raise DataError(
                    f"{e.host} is a multicast group: name the interface, for instance ?iface=eth1"
                )
