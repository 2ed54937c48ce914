"""The words of live acquisitions: what a stream of partial frames announces, delivers and counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Missing = Literal["skip", "fill", "drop-frame", "error"]
Layout = Literal["pieces", "frames"]
EndReason = Literal["n_frames", "end-message", "idle", "stopped", "restart", "error"]


class FrameStatus(IntEnum):
    """How much of a frame arrived; uint8 in navigation buffers."""

    UNSEEN = 0
    COMPLETE = 1
    PARTIAL = 2
    LOST = 3


@dataclass(frozen=True)
class LiveOptions:
    """Options of a live source, by keyword of ``ctx.load`` or as query keys of its URL.

    Attributes
    ----------
    missing
        What happens to a piece that has not arrived when its block closes: its frame is left out of the
        tiles of that piece (``"skip"``), folded with `fill_value` (``"fill"``), left out everywhere
        (``"drop-frame"``), or ends the run (``"error"``).
    fill_value
        For ``missing="fill"``; NaN is allowed for float input.
    deadline
        Seconds after the first packet of the next block until a block closes incomplete.
    idle_timeout
        Seconds without a packet that end an acquisition which has begun.
    start_timeout
        Seconds to wait for the first frame of every sector; None: for ever.
    block_time
        Seconds of frames in a block.
    ring_bytes
        Memory for blocks per host; None: the smaller of 2 GiB and a quarter of the memory.
    receiver
        UDP only: receive in a process of its own, or in a thread.
    placement
        Sector -> name or host of the worker that receives it; empty: all on one.
    n_frames
        Frames of the acquisition where the protocol does not tell; None: product of the scan shape.
    history
        Frames kept by navigation buffers of runs without an end.
    restart_every
        Runs without an end: results per pixel and for all start anew every so many frames; shown are those of
        the last finished window. None: never.
    decay
        Runs without an end: seconds after which what came before counts 1/e, in sums and means per pixel and
        for all. None: nothing is forgotten.
    first_frame
        Id of the first frame where it is known beforehand; None: announced or elected.
    on_worker_loss
        When a worker dies that receives: its sectors are received again on its host, from the frame on that
        is then sent (``"restart"``, where the detector sends without being asked), the others go on without
        them (``"continue"``), or the run ends (``"error"``).
    """

    missing: Missing = "skip"
    fill_value: float = 0
    deadline: float = 0.2
    idle_timeout: float = 5.0
    start_timeout: float | None = 60.0
    block_time: float = 0.03
    ring_bytes: int | None = None
    receiver: Literal["process", "thread"] = "process"
    placement: Mapping[int, str] = field(default_factory=dict)
    n_frames: int | None = None
    history: int = 65536
    restart_every: int | None = None
    decay: float | None = None
    first_frame: int | None = None
    on_worker_loss: Literal["restart", "continue", "error"] = "restart"


@dataclass(frozen=True, slots=True)
class PieceGrid:
    """Pieces of a sector: what one packet carries, the unit of validity. All pieces have one shape.

    Attributes
    ----------
    shape
        Of one piece, in signal axes.
    origins
        First pixel of each piece, relative to the sector's part of the frame.
    """

    shape: tuple[int, ...]
    origins: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.origins)


@dataclass(frozen=True, slots=True)
class SectorSpec:
    """One sub-detector with a stream of its own.

    Attributes
    ----------
    index
        Number of the sector.
    part
        Its slices of the signal axes; the parts of all sectors are disjoint and cover the frame.
    pieces
        What arrives at once.
    endpoint
        Where it is received, for messages.
    shard
        The stream carries whole frames, but only some of them (several PULL sockets on one PUSH).
    """

    index: int
    part: tuple[slice, ...]
    pieces: PieceGrid
    endpoint: str
    shard: bool = False

    def piece_slices(self, piece: int) -> tuple[slice, ...]:
        """Return the slices of the signal axes of one piece."""
        origin = self.pieces.origins[piece]
        return tuple(
            slice(p.start + o, p.start + o + n)
            for p, o, n in zip(self.part, origin, self.pieces.shape, strict=True)
        )


@dataclass(frozen=True)
class AcquisitionStart:
    """What is known when an acquisition begins (or when its sockets are open, for fixed geometries).

    Attributes
    ----------
    n_frames
        Frames to come; None: not known.
    sig_shape, dtype
        Of a whole frame, native byte order.
    nav_shape
        Scan shape as the stream states it; None: not stated.
    sectors
        The sub-detectors that *this* stream object receives.
    first_id
        Id of the first frame where the protocol tells; None: elected.
    meta
        Plain values from headers (energy, pixel size, detector name, pixel mask, ...).
    """

    n_frames: int | None
    sig_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    nav_shape: tuple[int, ...] | None
    sectors: tuple[SectorSpec, ...]
    first_id: int | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_pieces(self) -> int:
        """Pieces of a whole frame, over the sectors of this stream."""
        return sum(len(s.pieces) for s in self.sectors)

    @property
    def frame_bytes(self) -> int:
        """Bytes of a whole decoded frame."""
        return math.prod(self.sig_shape) * self.dtype.itemsize


class EncodedFrames(Protocol):
    """The frames of a sector in a block as they came over the wire: decoded by whoever folds them."""

    def decode(self, frames: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
        """Write some frames to `out`; called by any thread, for frames that are valid.

        Parameters
        ----------
        frames
            Numbers in the block, ascending.
        out
            ``(n, *part)``, C-contiguous.

        Returns
        -------
        Bool ``(n,)``: frames that could not be decoded, their values are undefined; None: there are none.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Frames ``[first_frame, first_frame + frames)`` of all sectors of a stream, closed.

    Attributes
    ----------
    index
        Number of the block; the same for all streams of an acquisition.
    first_frame
        Running number of its first frame in the acquisition, from 0.
    frames
        Number of frames.
    data
        Per sector ``(pieces, frames, *piece)`` (layout ``"pieces"``; a piece is contiguous over frames), or
        one array ``(frames, *sig)`` alone (layout ``"frames"``). Where `valid` is False the values are
        undefined; the engine may write there. Sectors of one piece may stay `EncodedFrames`, all of them, in
        either layout. Gone when the block is released.
    valid
        Per sector, bool ``(frames, pieces)``: which pieces arrived.
    t_first, t_last
        ``time.monotonic()`` of its first and last packet.
    receipt
        What folded its pieces as they arrived; `data` is empty then. None: they are to be folded.
    """

    index: int
    first_frame: int
    frames: int
    data: tuple[Any, ...]
    valid: tuple[npt.NDArray[np.bool_], ...]
    t_first: float = 0.0
    t_last: float = 0.0
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True)
class AcquisitionEnd:
    """The acquisition is over: no block follows.

    Attributes
    ----------
    reason
        Why.
    last_frame
        Running number of the last frame that was begun; -1: none.
    text
        For people, where the reason needs words.
    first_id
        Id on the wire of frame 0, where the protocol has one.
    """

    reason: EndReason
    last_frame: int
    text: str = ""
    first_id: int | None = None


@dataclass(slots=True)
class SectorStats:
    """The accounts of one sector, in pieces. Every packet has exactly one fate.

    ``received == valid + duplicate + late + overrun + corrupt + foreign + with_worker`` and
    ``expected == valid + lost`` over the frames of closed blocks. `with_worker` had arrived on a worker that
    was lost before it told what it made of them.
    """

    sector: int
    endpoint: str = ""
    received: int = 0
    valid: int = 0
    duplicate: int = 0
    late: int = 0
    overrun: int = 0
    corrupt: int = 0
    foreign: int = 0
    expected: int = 0
    lost: int = 0
    kernel_drops: int = 0
    bytes: int = 0
    ring_fill: float = 0.0
    with_worker: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the counters as plain values."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


class Stream(Protocol):
    """The sectors of one live detector that this process receives; not shared between processes.

    Order of calls: `prepare`, then for every acquisition `wait_start`, `next_block`/`release` until the
    `AcquisitionEnd`, at last `close`. `next_block` is called by one thread, `release` and `stop` by any.
    """

    def prepare(self, layout: Layout = "pieces") -> AcquisitionStart | None:
        """Bind or connect and touch the memory. After this no packet is missed.

        Returns the geometry where it is known before the first message, else None.

        Raises
        ------
        StreamError
            Naming the endpoint and the mend, if that is not possible.
        """
        ...

    def wait_start(self, timeout: float | None) -> AcquisitionStart:
        """Return what the next acquisition announces, at once where the geometry is fixed.

        Raises
        ------
        StreamError
            After `timeout` seconds, naming every silent sector and what was received there; and when `stop`
            is called meanwhile.
        """
        ...

    def next_block(self, timeout: float) -> Block | AcquisitionEnd | None:
        """Return the next closed block in order, the end, or None if nothing closes in `timeout` seconds.

        Raises
        ------
        StreamError
            If sectors are still silent after `start_timeout`, naming them, or the protocol is broken.
        """
        ...

    def release(self, block: Block) -> None:
        """Give the memory of `block` back, so that it can be filled again."""
        ...

    def stop(self, reason: EndReason = "stopped") -> None:
        """End the acquisition; what arrived is closed and still delivered."""
        ...

    def stats(self) -> tuple[SectorStats, ...]:
        """Return the accounts as they are now, final after the end."""
        ...

    def close(self) -> None:
        """Free sockets, memory and processes; may be called at any time and twice."""
        ...


class Receipt(Protocol):
    """Folds pieces in the thread that receives them, while they lie in its cache: no block holds them.

    Attributes
    ----------
    active
        Whether blocks that begin now shall be folded so.
    """

    active: bool

    def hold(self) -> AbstractContextManager[Any]:
        """Return what a thread holds from before it says that pieces are valid until they are folded."""
        ...

    def fold(self, block: int, sector: int, first_frame: int, rows: npt.NDArray[Any]) -> None:
        """Fold frames of a sector of one piece.

        Parameters
        ----------
        block
            Index of the block they belong to.
        sector
            Position of the sector in the stream.
        first_frame
            Running number of the first of them.
        rows
            ``(n, *part)``, C-contiguous, free to be overwritten afterwards.
        """
        ...


@runtime_checkable
class FoldsOnReceipt(Protocol):
    """A `Stream` whose threads can fold what they receive."""

    def fold_on_receipt(self, receipt: Receipt) -> None:
        """Use `receipt` for the acquisition that `wait_start` returned last, from its next block on."""
        ...


@dataclass(frozen=True, slots=True)
class FirstFrame:
    """The id that the first frame of an acquisition has on the wire, where it is known modulo ``2**bits``."""

    id: int
    bits: int


def last_of(candidates: Sequence[FirstFrame]) -> FirstFrame:
    """Return the candidate that comes last; they lie together, at either side of where ids wrap around."""
    base = candidates[0]
    half = 1 << (base.bits - 1)
    ahead = max((c.id - base.id + half) % (2 * half) - half for c in candidates)
    return FirstFrame((base.id + ahead) % (2 * half), base.bits)


@runtime_checkable
class SharedStart(Protocol):
    """A `Stream` of some sectors that finds out the first frame together with those of other processes."""

    def hold(self) -> bool:
        """Do not begin before `agree`; False if the first frame is known. Called once, after `prepare`."""
        ...

    def candidate(self) -> FirstFrame | None:
        """Return the first frame of which every piece can come in the own sectors; None: not known so far."""
        ...

    def agree(self, first: FirstFrame) -> None:
        """Begin with this frame, the last of all candidates."""
        ...

    def first(self) -> FirstFrame | None:
        """Return the first frame of the acquisition that runs; None: it has not begun."""
        ...

    def resume(self, first: FirstFrame) -> None:
        """Let the next `wait_start` join an acquisition that others have begun with frame `first`.

        It begins with the block of the first packet that comes; what was before is not in the accounts.
        """
        ...


@dataclass(frozen=True)
class LiveReady:
    """What ``on_ready`` is told: from now on nothing that the detector sends is missed.

    Attributes
    ----------
    url
        Of the source.
    start
        What is known of the acquisition; None where the detector tells only when it begins.
    endpoints
        Where it is received, one per sector that is known.
    """

    url: str
    start: AcquisitionStart | None
    endpoints: tuple[str, ...] = ()


@runtime_checkable
class LiveSource(Protocol):
    """What a live URL stands for: pickles as the URL and its options, opens nothing by itself.

    Attributes
    ----------
    url
        As given.
    options
        Policies and limits.
    nav_shape
        Scan shape the user stated, or None.
    sync_offset
        As for files: frame *i* of the dataset is frame ``i + sync_offset`` of the stream.
    """

    @property
    def url(self) -> str: ...
    @property
    def options(self) -> LiveOptions: ...
    @property
    def nav_shape(self) -> tuple[int, ...] | None: ...
    @property
    def sync_offset(self) -> int: ...

    def known(self) -> AcquisitionStart | None:
        """Return the geometry of all sectors where it is known without connecting, else None."""
        ...

    def open(self, sectors: tuple[int, ...] | None = None) -> Stream:
        """Return the stream of these sectors (None: all) in this process; it is not prepared yet."""
        ...
