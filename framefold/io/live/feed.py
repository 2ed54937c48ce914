"""The seam between a protocol with backpressure and the stream that blocks its frames: `Feed`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from framefold.errors import StreamError
from framefold.io.live.assembly import Assembly, Keeping
from framefold.udfcore.live import AcquisitionStart, EndReason, PieceGrid, SectorSpec


@dataclass(frozen=True, slots=True)
class Over:
    """What a feed answers when an acquisition has ended: why, and in words where that needs words."""

    reason: EndReason
    text: str = ""


def whole_frames(sig_shape: tuple[int, ...], endpoint: str) -> tuple[SectorSpec, ...]:
    """Return the one sector of a detector that sends whole frames.

    Raises
    ------
    StreamError
        If its frames have no pixels to count: a single number.
    """
    if not sig_shape:
        raise StreamError(f"{endpoint}: an array without dimensions arrived where an image is expected")
    part = tuple(slice(0, n) for n in sig_shape)
    return (SectorSpec(0, part, PieceGrid(sig_shape, ((0,) * len(sig_shape),)), endpoint),)


def keeping(feed: Feed) -> Keeping | None:
    """Return how the frames of the acquisition that `feed` began last are kept; None: as arrays."""
    return getattr(feed, "keeping", None)


def readers(feed: Feed) -> Sequence[Reader]:
    """Return what reads the acquisition that `feed` began last, each in a thread of its own."""
    return getattr(feed, "readers", (feed,))


class Reader(Protocol):
    """Takes what arrives in some of the sectors of a detector."""

    def receive(self, assembly: Assembly, timeout: float) -> Over | None:
        """Hand what arrives within about `timeout` seconds to `assembly`; return at least that often.

        Raises
        ------
        StreamError
            If the stream breaks its protocol: the acquisition ends with what arrived before.
        """
        ...


class Feed(Reader, Protocol):
    """One connection to a detector that waits for us; used by one thread.

    Attributes
    ----------
    endpoint
        Address, for messages.
    keeping
        May be left out. For the acquisition that `begin` returned last, of whole frames in one piece: how
        frames wait in blocks undecoded, so that the threads that fold them do that work; None: as arrays.
    readers
        May be left out. For the acquisition that `begin` returned last, where sectors come through several
        connections: who receives them, each in a thread of its own and other sectors than the others; it is
        over when all say so. `receive` is not called then.
    """

    endpoint: str

    def connect(self) -> None:
        """Open the sockets.

        Raises
        ------
        StreamError
            Naming the address and the mend.
        """
        ...

    def begin(self, timeout: float, *, wanted: bool) -> AcquisitionStart | None:
        """Return the next acquisition, or None after about `timeout` seconds without one.

        Its sectors are all that this feed delivers. A connection that was lost is made again if somebody
        waits for the acquisition (`wanted`).
        """
        ...

    def heard(self) -> str:
        """Say what was received since the last acquisition, for the error when none begins."""
        ...

    def close(self) -> None:
        """Close the sockets; may be called twice."""
        ...
