"""Streams of detectors that wait for us (TCP, ZeroMQ, PVA): one thread reads, a full memory stops it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from framefold.errors import FramefoldError, StreamError
from framefold.io.live.assembly import Assembly
from framefold.io.live.crew import Crew
from framefold.io.live.feed import Feed, Over, keeping, readers
from framefold.io.live.slots import Slots
from framefold.udfcore.live import (
    AcquisitionEnd,
    AcquisitionStart,
    Block,
    EndReason,
    Layout,
    LiveOptions,
    Receipt,
    SectorStats,
)

_TICK = 0.05
_RING_LIMIT = 2 * 2**30


@dataclass(eq=False)
class _Acquisition:
    """What the reader and the consumer share about one acquisition."""

    start: AcquisitionStart
    stats: tuple[SectorStats, ...] = ()
    stop: EndReason | None = None
    receipt: Receipt | None = None


class SequentialStream:
    """The stream over a `Feed`: frames by number into blocks of bounded memory. See `Stream` for its methods.

    The reader goes on into the next acquisition while the consumer is still busy with this one, until the
    memory is full: nothing that arrives between two acquisitions is missed.

    Parameters
    ----------
    feed
        The connection.
    options
        Those of the source.
    wanted
        Frames until the end of the scan that the user stated; None: as announced.
    """

    def __init__(self, feed: Feed, options: LiveOptions, wanted: int | None = None) -> None:
        self._feed, self._options, self._wanted = feed, options, wanted
        self._layout: Layout = "pieces"
        self._items: deque[_Acquisition | Block | AcquisitionEnd | Exception] = deque()
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._connected = self._closing = self._stopped = self._waiting = False
        self._current: _Acquisition | None = None  # of the consumer
        # what the consumer holds, and may still hold when the reader is further on
        self._held: dict[int, tuple[Block, npt.NDArray[np.uint8], Slots]] = {}
        self._failure: Exception | None = None

    def prepare(self, layout: Layout = "pieces") -> AcquisitionStart | None:
        """Connect; the geometry is known when the detector announces it. See `Stream.prepare`."""
        if self._thread is not None or self._closing:
            raise StreamError(f"{self._feed.endpoint}: a stream is prepared once; open another one")
        self._layout = layout
        name = f"framefold-live {self._feed.endpoint}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        with self._change:
            self._change.wait_for(lambda: self._connected or self._failure is not None)
            if not self._connected and self._failure is not None:
                raise self._failure
        return None

    def wait_start(self, timeout: float | None) -> AcquisitionStart:
        """Return the next acquisition; what is left of the one before is dropped. See `Stream.wait_start`."""
        if self._thread is None:
            raise StreamError(f"{self._feed.endpoint}: prepare() comes before wait_start()")
        with self._change:
            self._current, self._waiting = None, True
            there = self._change.wait_for(lambda: self._dropped_until_start() or self._stopped, timeout)
            self._waiting = False
            if there:
                if self._stopped:
                    self._stopped = False
                    raise StreamError(f"{self._feed.endpoint}: stopped before an acquisition began")
                item = self._items.popleft()
                if isinstance(item, Exception):
                    self._items.append(item)  # every later call tells the same
                    raise item
                assert isinstance(item, _Acquisition)
                self._current = item
                return item.start
        raise StreamError(
            f"{self._feed.endpoint}: no acquisition began in {timeout:g} s. {self._feed.heard()} "
            "Is the detector armed after this program has connected? start_timeout= waits longer"
        )

    def next_block(self, timeout: float) -> Block | AcquisitionEnd | None:
        """Return what comes next, or None after `timeout` seconds. See `Stream.next_block`."""
        with self._change:
            if not self._change.wait_for(lambda: bool(self._items), timeout):
                return None
            item = self._items[0]
            if isinstance(item, Block | AcquisitionEnd):
                self._items.popleft()
                return item
            text = str(item) if isinstance(item, Exception) else "no acquisition is under way"
            return AcquisitionEnd("error", -1, text)

    def fold_on_receipt(self, receipt: Receipt) -> None:
        """Fold pieces as they come. See `FoldsOnReceipt`."""
        if self._current is not None:
            self._current.receipt = receipt

    def release(self, block: Block) -> None:
        """Let the memory of `block` be filled again. See `Stream.release`."""
        held = self._held.pop(id(block), None)
        if held is not None:
            held[2].give_back(held[1])

    def stop(self, reason: EndReason = "stopped") -> None:
        """End the acquisition, or the wait for one. See `Stream.stop`."""
        with self._change:
            if self._current is not None:
                self._current.stop = self._current.stop or reason
            else:
                self._stopped = True
            self._change.notify_all()

    def stats(self) -> tuple[SectorStats, ...]:
        """Return the accounts of the acquisition that `wait_start` returned last."""
        return () if self._current is None else self._current.stats

    def close(self) -> None:
        """Close the connection and end the thread; blocks still held stay valid. See `Stream.close`."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(10)
        with self._change:
            self._items.clear()
            self._items.append(StreamError(f"{self._feed.endpoint}: the stream is closed"))
            self._change.notify_all()

    # -- the reader ------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._feed.connect()
            with self._change:
                self._connected = True
                self._change.notify_all()
            while not self._closing:
                start = self._feed.begin(_TICK, wanted=self._waiting)
                if start is not None:
                    self._acquire(start)
        except Exception as exc:  # noqa: BLE001  # whatever happens here, the consumer must not wait for ever
            self._fail(exc)
        finally:
            self._feed.close()

    def _fail(self, exc: Exception) -> None:
        if not isinstance(exc, FramefoldError):
            exc = _wrapped(exc, self._feed.endpoint)
        with self._change:
            self._failure = exc
            self._items.append(exc)
            self._change.notify_all()

    def _acquire(self, start: AcquisitionStart) -> None:
        acquisition = _Acquisition(start)
        total = self._options.ring_bytes or min(_RING_LIMIT, _memory() // 4)
        kept = keeping(self._feed)
        frame_bytes = start.frame_bytes if kept is None else kept.frame_bytes
        assembly = Assembly(
            start,
            _frames(start, self._options, self._wanted),
            layout=self._layout,
            block_time=self._options.block_time,
            deadline=self._options.deadline,
            slots=Slots(frame_bytes, total, len(start.sectors)),
            emit=lambda block, slot: self._emit(block, slot, assembly.slots),
            cancelled=lambda: self._closing or acquisition.stop is not None,
            keeping=kept,
            receipt=lambda: acquisition.receipt,
        )
        acquisition.stats = assembly.stats
        self._put(acquisition)
        try:
            over = self._receive(assembly, acquisition)
        except Exception as exc:  # noqa: BLE001  # what arrived before is delivered whatever happened
            over = Over("error", str(exc if isinstance(exc, FramefoldError) else _wrapped(exc)))
        if self._closing:
            assembly.discard()
            return
        assembly.finish()
        self._put(AcquisitionEnd(over.reason, assembly.last_frame, over.text))

    def _receive(self, assembly: Assembly, acquisition: _Acquisition) -> Over:
        began, options = time.monotonic(), self._options
        announced = assembly.start.n_frames

        def stopped() -> bool:
            return self._closing or acquisition.stop is not None or assembly.complete

        with Crew(readers(self._feed), assembly, stopped) as crew:
            while True:
                over = crew.receive(_TICK)
                if self._closing or acquisition.stop is not None:
                    return Over(acquisition.stop or "stopped")
                if assembly.complete:
                    return Over("n_frames")
                if over is not None:
                    return over
                now = time.monotonic()
                assembly.tick(now)
                if assembly.last_frame >= 0:
                    quiet = now - assembly.t_last
                    all_here = announced is not None and assembly.last_frame + 1 >= announced
                    if all_here and quiet > options.deadline:
                        return Over("n_frames", f"the detector announced {announced} frames")
                    if quiet > options.idle_timeout:
                        return Over("idle", f"nothing arrived for {options.idle_timeout:g} s")
                elif options.start_timeout is not None and now - began > options.start_timeout:
                    return Over("error", f"no frame arrived {options.start_timeout:g} s after the header")

    def _emit(self, block: Block, slot: npt.NDArray[np.uint8] | None, slots: Slots) -> None:
        if slot is not None:
            self._held[id(block)] = block, slot, slots
        self._put(block)

    def _put(self, item: _Acquisition | Block | AcquisitionEnd) -> None:
        with self._change:
            self._items.append(item)
            self._change.notify_all()

    def _dropped_until_start(self) -> bool:
        while self._items and isinstance(self._items[0], Block | AcquisitionEnd):
            item = self._items.popleft()
            if isinstance(item, Block):
                self.release(item)
        return bool(self._items)


@dataclass(frozen=True)
class SequentialSource:
    """A live source with one connection; pickles, opens nothing by itself. See `LiveSource`.

    Attributes
    ----------
    url, options, nav_shape, sync_offset
        See `LiveSource`.
    make_feed
        Importable function without arguments but those bound to it; returns the `Feed`.
    """

    url: str
    options: LiveOptions
    nav_shape: tuple[int, ...] | None
    sync_offset: int
    make_feed: Callable[[], Feed]

    def known(self) -> AcquisitionStart | None:
        """Return None: such detectors announce their geometry when an acquisition begins."""
        return None

    def open(self, sectors: tuple[int, ...] | None = None) -> SequentialStream:
        """Return the stream. All sectors come through one connection: they cannot be spread over hosts."""
        if sectors is not None and len(sectors) == 0:
            raise StreamError(f"{self.url}: a stream of no sectors was asked for")
        wanted = None
        if self.nav_shape is not None:
            wanted = max(1, int(np.prod(self.nav_shape, dtype=object)) + self.sync_offset)
        return SequentialStream(self.make_feed(), self.options, wanted)


def _frames(start: AcquisitionStart, options: LiveOptions, wanted: int | None) -> int | None:
    """Return the frames to take: as the user says, else as the header does."""
    return options.n_frames or wanted or start.n_frames


def _memory() -> int:
    import os  # noqa: PLC0415

    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 8 * 2**30


def _wrapped(exc: Exception, where: str = "") -> StreamError:
    error = StreamError(f"{where}{': ' if where else ''}{type(exc).__name__}: {exc}")
    error.__cause__ = exc
    return error
