"""A detector that is an array: the plainest live source, without sockets or processes."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, StreamError
from framefold.udfcore.live import (
    AcquisitionEnd,
    AcquisitionStart,
    Block,
    EndReason,
    Layout,
    LiveOptions,
    PieceGrid,
    SectorSpec,
    SectorStats,
)

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class MemoryLiveSource:
    """Sends the frames of an array as a live detector of several sectors would; pickles with its data.

    Attributes
    ----------
    array
        ``(frames, *sig)``.
    sectors
        The last signal axis is cut into this many sectors.
    pieces
        The first signal axis of each sector is cut into this many pieces; must divide its extent.
    block_frames
        Frames per block.
    valid
        Bool ``(frames, sectors * pieces)``, sector by sector: what arrives; None: everything.
    fps
        Frames per second; None: as fast as they are folded.
    slots
        Blocks in the ring.
    repeats
        How often the array is sent, one acquisition each; None: without end, in one acquisition.
    stated_frames
        What the announcement says about the number of frames; None: the truth, -1: nothing.
    known_before
        Whether the geometry is known without connecting.
    dead
        Sectors that never send; found after `start_timeout`.
    stop_after
        The sender falls silent after this many frames; the acquisition ends as ``"idle"``.
    """

    array: Array
    sectors: int = 1
    pieces: int = 1
    block_frames: int = 8
    valid: Flags | None = None
    fps: float | None = None
    slots: int = 4
    repeats: int | None = 1
    stated_frames: int | None = None
    known_before: bool = True
    dead: tuple[int, ...] = ()
    stop_after: int | None = None
    nav_shape: tuple[int, ...] | None = None
    sync_offset: int = 0
    options: LiveOptions = field(default_factory=LiveOptions)
    url: str = "memory://array"

    def __post_init__(self) -> None:
        if self.array.ndim < 2:
            raise DataError(f"the array needs frames with a signal axis, it has the shape {self.array.shape}")
        sig = self.array.shape[1:]
        if sig[-1] % self.sectors or (sig[0] // (self.sectors if len(sig) == 1 else 1)) % self.pieces:
            raise DataError(
                f"frames of {sig} cannot be cut into {self.sectors} sectors x {self.pieces} pieces"
            )
        wanted = (len(self.array), self.sectors * self.pieces)
        if self.valid is not None and self.valid.shape != wanted:
            raise DataError(f"valid has the shape {self.valid.shape}, expected {wanted}")

    def known(self) -> AcquisitionStart | None:
        """Return the geometry of all sectors, unless `known_before` is False."""
        return self.announcement(None) if self.known_before else None

    def announcement(self, sectors: tuple[int, ...] | None) -> AcquisitionStart:
        """Return what an acquisition announces."""
        sig = self.array.shape[1:]
        width = sig[-1] // self.sectors
        specs = []
        for s in range(self.sectors):
            if sectors is not None and s not in sectors:
                continue
            part = (*(slice(0, n) for n in sig[:-1]), slice(s * width, (s + 1) * width))
            extent = tuple(p.stop - p.start for p in part)
            piece = (extent[0] // self.pieces, *extent[1:])
            origins = tuple((i * piece[0], *(0,) * (len(sig) - 1)) for i in range(self.pieces))
            specs.append(SectorSpec(s, part, PieceGrid(piece, origins), f"{self.url}#{s}"))
        n = len(self.array) if self.repeats is not None else None
        if self.stated_frames is not None:
            n = None if self.stated_frames < 0 else self.stated_frames
        return AcquisitionStart(n, sig, self.array.dtype, None, tuple(specs), first_id=0)

    def open(self, sectors: tuple[int, ...] | None = None) -> MemoryStream:
        """Return the stream of some sectors."""
        return MemoryStream(self, sectors)

    def with_options(self, **options: Any) -> MemoryLiveSource:
        """Return a copy with other `LiveOptions`."""
        return replace(self, options=replace(self.options, **options))


class MemoryStream:
    """The stream of a `MemoryLiveSource`; see `Stream`.

    Missing pieces hold the largest value of the dtype: whoever reads them gets wrong numbers.
    """

    def __init__(self, source: MemoryLiveSource, sectors: tuple[int, ...] | None) -> None:
        self._source = source
        self._start = source.announcement(sectors)
        self._layout: Layout | None = None
        self._changed = threading.Condition()
        self._stopped: EndReason | None = None
        self._free = source.slots
        self._out: set[int] = set()
        self._left = source.repeats
        self._at = 0
        self._index = 0
        self._t0: float | None = None
        self._stats = [SectorStats(s.index, s.endpoint) for s in self._start.sectors]

    def prepare(self, layout: Layout = "pieces") -> AcquisitionStart | None:
        """Take the layout; there is nothing to bind."""
        self._layout = layout
        return self._start if self._source.known_before else None

    def wait_start(self, timeout: float | None) -> AcquisitionStart:
        """Begin the next acquisition."""
        if self._left is not None:
            if self._left == 0:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped is not None, timeout)
                raise StreamError(f"{self._source.url}: no acquisition began within {timeout} s")
            self._left -= 1
        with self._changed:
            self._at = self._index = 0
            self._t0 = None
            if self._stopped == "n_frames":
                self._stopped = None
            self._stats = [SectorStats(s.index, s.endpoint) for s in self._start.sectors]
        return self._start

    def next_block(self, timeout: float) -> Block | AcquisitionEnd | None:
        """Return the next block; waits for a free slot, and for the time of its last frame."""
        assert self._layout is not None, "prepare was not called"
        src = self._source
        self._refuse_dead()
        total = None if src.repeats is None else len(src.array)
        if src.stop_after is not None:
            total = src.stop_after if total is None else min(total, src.stop_after)
        if self._stopped is not None or (total is not None and self._at >= total):
            silent = src.stop_after is not None and src.stop_after == total
            reason: EndReason = self._stopped or ("idle" if silent else "n_frames")
            return AcquisitionEnd(reason, self._at - 1)
        n = src.block_frames if total is None else min(src.block_frames, total - self._at)
        if not self._wait(n, timeout):
            return None
        block = self._fill(n)
        self._at += n
        self._index += 1
        return block

    def _refuse_dead(self) -> None:
        dead = [s for s in self._start.sectors if s.index in self._source.dead]
        if not dead:
            return
        timeout = self._source.options.start_timeout
        with self._changed:
            self._changed.wait_for(lambda: self._stopped is not None, timeout)
        if self._stopped is None:
            names = ", ".join(f"{s.index} ({s.endpoint})" for s in dead)
            raise StreamError(f"nothing came from sector {names} within {timeout} s: 0 packets were received")

    def _wait(self, n: int, timeout: float) -> bool:
        """Wait until `n` frames were sent and a slot is free; False: not yet."""
        deadline = time.monotonic() + timeout
        if self._t0 is None:
            self._t0 = time.monotonic()
        due = 0.0 if self._source.fps is None else self._t0 + (self._at + n) / self._source.fps
        with self._changed:
            pause = min(due, deadline) - time.monotonic()
            if pause > 0:
                self._changed.wait_for(lambda: self._stopped is not None, pause)
            if self._stopped is not None or time.monotonic() < due:
                return False
            self._changed.wait_for(
                lambda: self._free > 0 or self._stopped is not None, deadline - time.monotonic()
            )
            if self._free <= 0 or self._stopped is not None:
                return False
            self._free -= 1
            self._out.add(self._index)
        return True

    def _fill(self, n: int) -> Block:
        src = self._source
        ids = np.arange(self._at, self._at + n) % len(src.array)
        frames = src.array[ids]
        top = (
            np.nan
            if frames.dtype.kind in "fc"
            else np.iinfo(frames.dtype).max
            if frames.dtype.kind != "b"
            else True
        )
        data: list[Array] = []
        valid: list[Flags] = []
        whole = frames.copy() if self._layout == "frames" else None
        for sector, stats in zip(self._start.sectors, self._stats, strict=True):
            m = len(sector.pieces)
            flags = np.ones((n, m), dtype=bool)
            if src.valid is not None:
                flags = src.valid[ids][:, sector.index * src.pieces : (sector.index + 1) * src.pieces].copy()
            valid.append(flags)
            if whole is None:
                parts = [frames[(slice(None), *sector.piece_slices(p))] for p in range(m)]
                block = np.ascontiguousarray(np.stack(parts))
                block[~flags.T] = top
                data.append(block)
            else:
                for p in range(m):
                    for i in np.flatnonzero(~flags[:, p]).tolist():
                        whole[i][sector.piece_slices(p)] = top
            here = int(np.count_nonzero(flags))
            stats.received += here
            stats.valid += here
            stats.expected += flags.size
            stats.lost += flags.size - here
            stats.bytes += here * int(np.prod(sector.pieces.shape)) * frames.dtype.itemsize
            stats.ring_fill = 1 - self._free / src.slots
        now = time.monotonic()
        arrays = tuple(data) if whole is None else (whole,)
        return Block(self._index, self._at, n, arrays, tuple(valid), now, now)

    def release(self, block: Block) -> None:
        """Free the slot of the block and spoil its data."""
        with self._changed:
            if block.index not in self._out:
                raise StreamError(f"block {block.index} was released twice")
            self._out.discard(block.index)
            self._free += 1
            self._changed.notify_all()
        for array in block.data:
            array[...] = 0

    def stop(self, reason: EndReason = "stopped") -> None:
        """End the acquisition."""
        with self._changed:
            self._stopped = self._stopped or reason
            self._changed.notify_all()

    def stats(self) -> tuple[SectorStats, ...]:
        """Return the accounts."""
        return tuple(replace(s) for s in self._stats)

    @property
    def held(self) -> int:
        """Blocks that are not released."""
        return len(self._out)

    def close(self) -> None:
        """End waiting calls."""
        self.stop()


__all__ = ["MemoryLiveSource", "MemoryStream"]
