"""Frames by number into blocks, for streams with backpressure: gaps are lost, what comes too late is late."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from framefold.io.live.slots import Slots, carve
from framefold.udfcore.live import AcquisitionStart, Block, EncodedFrames, Layout, Receipt, SectorStats

_FIRST = 8
_WINDOW = 2
# of a sector that are folded at once on receipt: with half of it calls cost more than the caches save
_CHUNK_BYTES = 2**21
_MOST_ON_RECEIPT = 4096  # frames in a block that needs no memory
# a jump of more frames than this in a run without an end is a damaged number, not a gap
MAX_JUMP = 2**20


class Cancelled(Exception):  # no error: the wait for a slot was called off
    """The acquisition was stopped while its reader waited for memory."""


class Keeping(Protocol):
    """How the frames of a detector with one sector of one piece wait in a block as they came."""

    @property
    def frame_bytes(self) -> int:
        """Memory for a frame."""
        ...

    def place(self, slot: npt.NDArray[np.uint8], frames: int) -> npt.NDArray[Any]:
        """Return where the frames go, ``(frames, ...)``, usually a view of `slot`."""
        ...

    def frames(self, place: npt.NDArray[Any]) -> EncodedFrames:
        """Return the frames in what `place` returned, or in the first of them."""
        ...


@dataclass(slots=True, eq=False)
class _Open:
    index: int
    first: int
    frames: int
    slot: npt.NDArray[np.uint8] | None  # None: folded on receipt
    data: tuple[npt.NDArray[Any], ...]
    valid: tuple[npt.NDArray[np.bool_], ...]
    t_first: float = 0.0
    t_last: float = 0.0
    receipt: Receipt | None = None

    @property
    def stop(self) -> int:
        return self.first + self.frames


class Assembly:
    """Blocks being filled; each sector by one thread, several sectors by one or by several.

    Every sector is one stream in order: once a sector has passed a block, nothing more of it can come. A
    block closes when all sectors have passed it, or one is two blocks ahead, or `deadline` seconds
    after the next block began.

    Parameters
    ----------
    start
        Geometry.
    n_frames
        Frames to take; more are foreign. None: no end.
    layout
        See `Block`.
    block_time
        Seconds of frames in a block, at the measured rate.
    deadline
        s.
    slots
        Memory.
    emit
        Takes each closed block and its slot.
    cancelled
        Whether a wait for memory shall end.
    keeping
        How frames wait undecoded; None: as arrays.
    receipt
        Returns what folds the pieces of the next block as they come, or None.
    """

    def __init__(
        self,
        start: AcquisitionStart,
        n_frames: int | None,
        *,
        layout: Layout,
        block_time: float,
        deadline: float,
        slots: Slots,
        emit: Callable[[Block, npt.NDArray[np.uint8] | None], None],
        cancelled: Callable[[], bool],
        keeping: Keeping | None = None,
        receipt: Callable[[], Receipt | None] = lambda: None,
    ) -> None:
        self.start, self.n_frames, self.slots = start, n_frames, slots
        self.stats = tuple(SectorStats(s.index, s.endpoint) for s in start.sectors)
        self.last_frame = -1
        self.t_last = 0.0
        self._layout, self._emit, self._cancelled = layout, emit, cancelled
        self._block_time, self._deadline, self._keeping = block_time, deadline, keeping
        self._parts = [tuple(s.stop - s.start for s in sector.part) for sector in start.sectors]
        self._passed = [0] * len(start.sectors)
        self._open: deque[_Open] = deque()
        self._changed = slots.changed  # with the lock of everything here
        self._receipt = receipt
        self._lent: list[_Open | None] = [None] * len(start.sectors)  # where the thread of a sector may write
        # what is folded on receipt lies here: the number of the first frame, and memory for a few
        self._here: list[tuple[int, npt.NDArray[Any]] | None] = [None] * len(start.sectors)
        self._index = self._next = 0
        frame_time = start.meta.get("frame_time")
        known = isinstance(frame_time, int | float) and frame_time > 0
        self._size = _clamp(block_time / float(frame_time) if known else _FIRST, _MOST_ON_RECEIPT)  # type: ignore[arg-type]
        self._clock: tuple[float, int] | None = None

    @property
    def complete(self) -> bool:
        """Whether all frames have been closed."""
        return self.n_frames is not None and self._next >= self.n_frames and not self._open

    @property
    def block_frames(self) -> int:
        """Frames in the blocks that are opened next; sectors may be one block apart, not more."""
        return min(self._size, self.slots.frames)

    def rows(self, sector: int, frame: int) -> npt.NDArray[Any] | None:
        """Return the place of `frame` and of those behind it in its block, ``(k, *part)``, k >= 1.

        Of frames that are kept undecoded it is what `Keeping.place` returned, from `frame` on. None if it is
        not wanted; it is counted then, and `filled` must not be called.

        Raises
        ------
        Cancelled
            If the acquisition was stopped while this waited for memory.
        """
        with self._changed:
            self._lent[sector] = None
            block = self._block_of(sector, frame)
            if block is None:
                return None
            i = frame - block.first
            if block.valid[sector][i, 0]:
                self._count(sector, "duplicate")
                return None
            stop = block.frames
            if frame < self._passed[sector]:  # out of order: no further than to a frame that is there
                stop = i + int(np.argmax(np.append(block.valid[sector][i:, 0], True)))
            self._lent[sector] = block
            if block.receipt is not None:
                return self._scratch(sector, frame, stop - i)
            if self._keeping is not None:
                return block.data[0][i:stop]
            if self._layout == "frames":
                return block.data[0][(slice(i, stop), *self.start.sectors[sector].part)]
            return block.data[sector][0, i:stop]

    def _scratch(self, sector: int, frame: int, most: int) -> npt.NDArray[Any]:
        have = self._here[sector]
        if have is None:
            n = max(1, _CHUNK_BYTES // self._row_bytes(sector))
            have = frame, np.empty((n, *self._parts[sector]), self.start.dtype)
        self._here[sector] = frame, have[1]
        return have[1][:most]

    def ahead(self, sector: int, frame: int, timeout: float | None = None) -> npt.NDArray[Any] | None:
        """Return what `rows` does for a frame that should come next; None if it is not wanted: not counted.

        Parameters
        ----------
        sector, frame
            Which.
        timeout
            Seconds to wait for other sectors, where this one would be more than a block before them; None if
            they did not come. Without it the block that they belong to is closed.

        Raises
        ------
        Cancelled
            As `rows` does.
        """
        with self._changed:
            if timeout is not None and not self._changed.wait_for(
                lambda: frame < self._next or len(self._open) < _WINDOW or self._first_passed(), timeout
            ):
                return None
            wanted = self._passed[sector] <= frame and (self.n_frames is None or frame < self.n_frames)
            return self.rows(sector, frame) if wanted else None

    def filled(self, sector: int, frame: int, n: int = 1) -> None:
        """Say that `n` frames from `frame` on lie where `rows` told."""
        block = self._lent[sector]
        if block is None or block.receipt is None:
            with self._changed:
                self._mark(sector, frame, n)
            return
        have = self._here[sector]
        assert have is not None
        rows = have[1][frame - have[0] : frame - have[0] + n]
        with block.receipt.hold():  # whoever asks it for what is in closed blocks waits
            with self._changed:
                good = self._mark(sector, frame, n)
            if good:
                block.receipt.fold(block.index, sector, frame, rows)

    def _mark(self, sector: int, frame: int, n: int) -> bool:
        """Count frames as valid; False: their block was closed without them."""
        now = time.monotonic()
        for block in self._open:
            if block.first <= frame < block.stop:
                break
        else:
            self._count(sector, "late", n)
            return False
        i = frame - block.first
        block.valid[sector][i : i + n] = True
        block.t_first = block.t_first or now
        block.t_last = self.t_last = now
        stats = self.stats[sector]
        stats.received += n
        stats.valid += n
        stats.bytes += n * self._row_bytes(sector)
        self.last_frame = max(self.last_frame, frame + n - 1)
        self._passed[sector] = max(self._passed[sector], frame + n)
        if frame + n == block.stop:
            self._lent[sector] = None
            self._close_passed()
        return True

    def corrupt(self, sector: int, n: int = 1) -> None:
        """Count pieces that arrived damaged; their frames are lost unless they come again."""
        self.t_last = time.monotonic()
        self._count(sector, "corrupt", n)

    def foreign(self, sector: int, n: int = 1) -> None:
        """Count pieces that do not belong to this acquisition."""
        self._count(sector, "foreign", n)

    def tick(self, now: float) -> None:
        """Close what has waited for longer than the deadline."""
        with self._changed:
            while (
                len(self._open) > 1 and now - self._open[1].t_first > self._deadline and self._open[1].t_first
            ):
                self._close()

    def begun(self, sector: int, frame: int) -> None:
        """Count `frame` as begun, though the rest of it will not come."""
        if self.rows(sector, frame) is not None:
            with self._changed:
                self.last_frame = max(self.last_frame, frame)

    def finish(self) -> None:
        """Close all open blocks; the last ends with the last frame that was begun."""
        with self._changed:
            while self._open:
                self._close(cut=len(self._open) == 1)

    def discard(self) -> None:
        """Free the memory of open blocks without delivering them."""
        with self._changed:
            while self._open:
                self._give_back(self._open.popleft())

    def _give_back(self, block: _Open) -> None:
        if block.slot is not None:
            self.slots.give_back(block.slot)

    def _first_passed(self) -> bool:
        return min(self._passed) >= self._open[0].stop

    def _block_of(self, sector: int, frame: int) -> _Open | None:
        first = self._open[0].first if self._open else self._next
        if frame < 0 or (self.n_frames is not None and frame >= self.n_frames):
            self._count(sector, "foreign")
            return None
        if self.n_frames is None and frame - max(self.last_frame, 0) > MAX_JUMP:
            self._count(sector, "foreign")
            return None
        if frame < first:
            self._count(sector, "late")
            return None
        if frame >= self._next:
            # nothing of this sector can come any more for what lies before: closed before memory is asked for
            self._passed[sector] = max(self._passed[sector], frame)
            self._close_passed()
            self._open_until(frame)
        return next(b for b in self._open if b.first <= frame < b.stop)

    def _open_until(self, frame: int) -> None:
        while frame >= self._next:
            while len(self._open) >= _WINDOW:
                self._close()
            receipt = None if self._keeping is not None else self._receipt()
            if receipt is not None and not receipt.active:
                receipt = None
            slot = None if receipt is not None else self.slots.take(self._cancelled)
            if slot is None and receipt is None:
                raise Cancelled
            if frame < self._next or len(self._open) >= _WINDOW:  # while this thread waited
                if slot is not None:
                    self.slots.give_back(slot)
                continue
            most = self.slots.frames if receipt is None else _MOST_ON_RECEIPT
            frames = min(self._size, most)
            if frame - self._next >= frames:  # a gap: as few empty blocks as it takes
                frames = min(most, frame - self._next)
            if self.n_frames is not None:
                frames = min(frames, self.n_frames - self._next)
            self._open.append(self._new_block(slot, frames, receipt))
            self._next += frames
            self._index += 1
            self._close_passed()

    def _new_block(self, slot: npt.NDArray[np.uint8] | None, frames: int, receipt: Receipt | None) -> _Open:
        dtype = self.start.dtype
        data: tuple[npt.NDArray[Any], ...]
        if slot is None:
            data = ()
        elif self._keeping is not None:
            data = (self._keeping.place(slot, frames),)
        elif self._layout == "frames":
            data = carve(slot, [(frames, *self.start.sig_shape)], dtype)
        else:
            data = carve(slot, [(1, frames, *part) for part in self._parts], dtype)
        valid = tuple(np.zeros((frames, 1), np.bool_) for _ in self._parts)
        return _Open(self._index, self._next, frames, slot, data, valid, receipt=receipt)

    def _close_passed(self) -> None:
        while self._open and self._first_passed():
            self._close()

    def _close(self, *, cut: bool = False) -> None:
        block = self._open.popleft()
        self._changed.notify_all()  # those who are ahead go on
        frames = block.frames
        if block.slot is not None and any(lent is block for lent in self._lent):
            self.slots.forget(block.slot)  # a thread may be about to write there
        if cut:  # what lies behind the last frame is unseen, not lost
            frames = max(0, min(frames, self.last_frame + 1 - block.first))
            self._next = block.first + frames
        for stats, arrived in zip(self.stats, block.valid, strict=True):
            stats.expected += frames
            stats.lost += frames - int(np.count_nonzero(arrived))
            stats.ring_fill = self.slots.fill
        if not frames:
            self._give_back(block)
            return
        self._follow_rate(block)
        data: tuple[Any, ...] = block.data
        valid = block.valid
        if frames < block.frames:
            along = self._layout == "frames" or self._keeping is not None
            data = tuple(d[:frames] if along else d[:, :frames] for d in data)
            valid = tuple(v[:frames] for v in valid)
        if self._keeping is not None:
            data = (self._keeping.frames(data[0]),)
        closed = Block(
            block.index, block.first, frames, data, valid, block.t_first, block.t_last, block.receipt
        )
        self._emit(closed, block.slot)

    def _follow_rate(self, block: _Open) -> None:
        if not block.t_last:
            return
        if self._clock is not None:
            seconds, frames = block.t_last - self._clock[0], block.stop - self._clock[1]
            if seconds > 0 and frames > 0:
                # at most twice as many, so that one burst does not set the size
                wanted = min(self._block_time * frames / seconds, 2 * self._size)
                most = self.slots.frames if block.receipt is None else _MOST_ON_RECEIPT
                self._size = _clamp(wanted, most)
        self._clock = block.t_last, block.stop

    def _count(self, sector: int, fate: str, n: int = 1) -> None:
        stats = self.stats[sector]
        stats.received += n
        setattr(stats, fate, getattr(stats, fate) + n)

    def _row_bytes(self, sector: int) -> int:
        size = self.start.dtype.itemsize
        for n in self._parts[sector]:
            size *= n
        return size


def _clamp(frames: float, most: int) -> int:
    return max(1, min(round(min(frames, most)), most))
