"""How blocks of datagrams lie in their ring: frames in a block, slots, the place of every piece."""

from __future__ import annotations

import math
from dataclasses import dataclass

from framefold.errors import DataError
from framefold.io.live.core import CoreSpec
from framefold.io.live.ring import default_ring_bytes
from framefold.io.live.udp_detector import UdpDetector
from framefold.udfcore.live import Layout, LiveOptions, SectorSpec

FIRST_BLOCK = 8
SLOT_BYTES = 64 << 20
MIN_SLOTS, GOOD_SLOTS, MAX_SLOTS = 4, 32, 64
MAX_ROOM = 1024
_BUFFER_SECONDS = 0.1
_BUFFER_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one stream receives.

    Attributes
    ----------
    detector, options, n_frames, peer
        As in `UdpSource`.
    numbers
        Of the sectors of this stream.
    """

    detector: UdpDetector
    options: LiveOptions
    n_frames: int | None
    peer: str
    numbers: tuple[int, ...]

    @property
    def sectors(self) -> tuple[SectorSpec, ...]:
        """The sectors of this stream."""
        return tuple(self.detector.sectors[i] for i in self.numbers)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Frames in a block at first, frames a slot has room for, slots, bytes of a frame in a slot."""

    block: int
    room: int
    slots: int
    frame_bytes: int


def ring_sizes(wanted: Wanted, layout: Layout) -> Sizes:
    """Return how large blocks are, and how many fit the ring."""
    options, d = wanted.options, wanted.detector
    item = d.format.decoded_dtype.itemsize
    own = sum(len(s.pieces) for s in wanted.sectors) * d.format.pixels * item
    frame = math.prod(d.sig_shape) * item if layout == "frames" else own
    ring = options.ring_bytes or min(default_ring_bytes(), max(64 << 20, 512 * frame))
    most = _most(ring, frame, wanted.n_frames)
    if len(wanted.sectors) < len(d.sectors):
        # streams on several hosts must agree about the blocks, however many sectors each of them has
        whole = math.prod(d.sig_shape) * item
        most = min(most, _most(options.ring_bytes or 64 << 20, whole, wanted.n_frames))
    block = FIRST_BLOCK if d.fps is None else max(1, round(options.block_time * d.fps))
    slots = ring // (most * frame)
    if slots < MIN_SLOTS:
        raise DataError(
            f"ring_bytes={ring} is too small: {MIN_SLOTS} blocks of one frame of {frame} bytes need "
            f"{MIN_SLOTS * frame}"
        )
    return Sizes(min(block, most), most, min(slots, MAX_SLOTS), frame)


def _most(ring: int, frame: int, n_frames: int | None) -> int:
    """Return the most frames of a block: many slots are better than large ones, but eight shall fit."""
    share = max(ring // (GOOD_SLOTS * frame), min(FIRST_BLOCK, ring // (2 * MIN_SLOTS * frame)))
    most = max(1, min(SLOT_BYTES // frame, share, MAX_ROOM))
    return most if n_frames is None else min(most, n_frames)


def core_spec(wanted: Wanted, layout: Layout, *, compiled: bool) -> CoreSpec:
    """Return what the receiver is told."""
    options, d = wanted.options, wanted.detector
    sizes, f = ring_sizes(wanted, layout), d.format
    item = f.decoded_dtype.itemsize
    rows, width = wanted.sectors[0].pieces.shape
    offsets, before = [], 0
    for s in wanted.sectors:
        if layout == "pieces":
            offsets.append([before + p * f.pixels * item for p in range(len(s.pieces))])
            before += len(s.pieces) * f.pixels * item
        else:
            y0, x0 = s.part[0].start, s.part[1].start
            offsets.append([((y0 + y) * d.sig_shape[1] + x0 + x) * item for y, x in s.pieces.origins])
    most = max(map(len, offsets))
    pixels = f.pixels * item
    chosen = [
        int(layout == "pieces"), pixels if layout == "pieces" else sizes.frame_bytes, rows,
        (width if layout == "pieces" else d.sig_shape[1]) * item, sizes.room * sizes.frame_bytes,
    ]  # fmt: skip
    fps = d.fps or 400.0
    rate = fps * max(len(s.pieces) for s in wanted.sectors) * f.size
    flips = d.flips or (False,) * len(d.sectors)
    # kept aside: what fits a quarter of the ring, once it is decoded
    kept = max(256, sizes.slots * sizes.room * sizes.frame_bytes // (4 * pixels))
    return CoreSpec(
        endpoints=[[e.host, e.port, e.interface] for e in (d.endpoints[i] for i in wanted.numbers)],
        table=f.table().tolist(),
        size=f.size,
        offsets=[[*o, *[0] * (most - len(o))] for o in offsets],
        layout=chosen,
        flips=[int(flips[i]) for i in wanted.numbers],
        pieces=[len(s.pieces) for s in wanted.sectors],
        slots=sizes.slots,
        block=sizes.block,
        room=sizes.room,
        frames=wanted.n_frames,
        id_bits=f.id_bits,
        deadline=options.deadline,
        flag_lag=f.flag_lag,
        idle_timeout=options.idle_timeout,
        first_frame=options.first_frame,
        # streams on several hosts must agree about the blocks
        block_time=options.block_time if d.fps is None and len(wanted.sectors) == len(d.sectors) else 0.0,
        buffer_bytes=int(max(_BUFFER_BYTES, _BUFFER_SECONDS * rate)),
        rate=rate,
        peer=wanted.peer,
        kept=min(kept, max(256, (64 << 20) // f.size)),
        compiled=compiled,
    )
