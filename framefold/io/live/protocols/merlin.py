"""Merlin (Medipix3) over its TCP data socket: ``merlin://host:6342``."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError
from framefold.io.live.assembly import Assembly
from framefold.io.live.feed import Over, whole_frames
from framefold.io.live.protocols.merlin_frames import KeptMessages
from framefold.io.live.protocols.merlin_kernels import count_run
from framefold.io.live.protocols.merlin_messages import (
    NUMBERS,
    PREFIX,
    MerlinFrame,
    find_message,
    frame_count,
    frame_number,
    is_text,
    message_size,
    parse_frame,
    parse_text,
    scan_shape,
    unwrap,
)
from framefold.io.live.registry import register_protocol
from framefold.io.live.sequential import SequentialSource
from framefold.io.live.tcp import Closed, TcpConnection
from framefold.io.live.url import LiveRequest
from framefold.udfcore.live import AcquisitionStart

PORT = 6342
MAX_GARBAGE = 64 * 2**20
_BUFFER = 2**20
_READ = 2**20  # bytes worth waiting for, if the next block is larger
_PITCH = 55e-6
# MPX,%010d,MQ1,%06d, : what follows the comma behind the number
_SAME_FROM = PREFIX + 11


@register_protocol("merlin")
def open_merlin(request: LiveRequest) -> SequentialSource:
    """Return the source of ``merlin://host:port``."""
    host, port = request.address.host or "127.0.0.1", request.address.port(PORT)
    make = functools.partial(MerlinFeed, host, port)
    return SequentialSource(request.url, request.options, request.nav_shape, request.sync_offset, make)


@dataclass(slots=True, eq=False)
class _Ahead:
    """Where the frames that should come next are received in place.

    Attributes
    ----------
    rows
        Their messages.
    done
        Messages that were checked and counted.
    got
        Bytes received, those of `done` included.
    """

    rows: npt.NDArray[np.uint8]
    got: int
    done: int = 0


class MerlinFeed:
    """Frames of one Merlin data socket; see `Feed`.

    Bytes are received where the frames will be folded as long as frame follows frame; whatever else comes is
    moved to a buffer and looked at there.

    Parameters
    ----------
    host, port
        Of the data socket.
    """

    def __init__(self, host: str, port: int) -> None:
        self.endpoint = f"merlin://{host}:{port}"
        self._connection = TcpConnection(host, port)
        self._data: npt.NDArray[np.uint8] = np.empty(_BUFFER, np.uint8)
        self._from = self._to = 0
        self._garbage = self._strays = 0
        self._fields: dict[str, str] | None = None
        self._first: MerlinFrame | None = None
        self._same = self._prefix = b""  # of every frame: behind its number, and its length
        self._last = 0
        self._skip = 0
        self._ahead: _Ahead | None = None
        self.keeping: KeptMessages | None = None

    def connect(self) -> None:
        """Connect to the detector."""
        self._connection.connect()

    def begin(self, timeout: float, *, wanted: bool) -> AcquisitionStart | None:
        """Return the next acquisition once its text and the header of its first frame are here."""
        self._leave_place()
        if not self._connection.connected and self._to == self._from:
            if wanted:
                self._again(timeout)
            else:
                time.sleep(timeout)
            return None
        start = self._try_begin()
        if start is None:
            self._read(timeout)
            start = self._try_begin()
        return start

    def receive(self, assembly: Assembly, timeout: float) -> Over | None:
        """Hand all whole frames that are here to `assembly`."""
        if self._ahead is None:
            over = self._take(assembly)
            if over is not None or assembly.complete:
                return over
            self._go_ahead(assembly)
        here = self._read(timeout) if self._ahead is None else self._read_ahead(assembly, timeout)
        over = self._take(assembly)
        if over is None and here is None:
            self._leave_place()
            return self._cut(assembly)
        return over

    def heard(self) -> str:
        """Say what came instead of a header."""
        if not self._connection.connected:
            return "The connection was closed by the detector."
        if self._fields is not None:
            return "The header of the acquisition arrived, but no frame."
        return (
            f"Connected; received {self._strays} frames of an acquisition without its header, and "
            f"{self._garbage} other bytes."
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    # -- bytes -----------------------------------------------------------------------------------------

    def _view(self) -> memoryview:
        return self._data.data[self._from : self._to]

    def _read(self, timeout: float) -> int | None:
        """Receive what is there; None if the connection is closed."""
        if self._to == self._from:
            self._from = self._to = 0
        elif len(self._data) - self._to < len(self._data) // 4:
            self._move(self._data)
        if self._to == len(self._data):
            raise StreamError(f"{self.endpoint}: a message exceeds the {len(self._data)} bytes expected")
        try:
            n = self._connection.read_into(self._data.data[self._to :], timeout)
        except Closed:
            return None
        self._to += n
        return n

    def _go_ahead(self, assembly: Assembly) -> None:
        """Receive in place from now on, if the next frame is wanted."""
        data = self._data[self._from : self._to]  # less than a message
        rows = assembly.ahead(0, self._last) if self._as_hoped(data) else None
        if rows is not None:
            self._ahead = _Ahead(rows, len(data))
            rows.reshape(-1)[: len(data)] = data
            self._from = self._to = 0

    def _read_ahead(self, assembly: Assembly, timeout: float) -> int | None:
        """Receive in place and count the frames that are whole; None if the connection is closed."""
        here, like = self._ahead, self._first
        assert here is not None
        assert like is not None
        space = here.rows.reshape(-1)[here.got :]
        left = like.message - here.got % like.message
        try:
            n = self._connection.read_into(
                space.data, timeout, max(left, min(_READ, here.rows.size // 4, len(space)))
            )
        except Closed:
            return None
        here.got += n
        run = self._run_ahead(here, like)
        if run:
            here.done += run
            self._last += run
            assembly.filled(0, self._last - run, run)
        if here.done == len(here.rows):
            self._ahead = None
        elif not self._as_hoped(data := here.rows.reshape(-1)[here.done * like.message : here.got]) or (
            len(data) >= like.message
        ):
            self._leave_place()
        return n

    def _as_hoped(self, data: npt.NDArray[np.uint8]) -> bool:
        """Tell whether these bytes may be the beginning of another frame of the same kind."""
        hoped = self._prefix + b"MQ1,"
        return hoped.startswith(bytes(data[: len(hoped)]))

    def _run_ahead(self, here: _Ahead, like: MerlinFrame) -> int:
        """Return how many of the whole messages that are not counted are the frames that should come."""
        data, at = here.rows.reshape(-1), here.done * like.message
        whole = here.got // like.message - here.done
        if not whole:
            return 0
        view = data.data[at : here.got]
        if (
            bytes(view[_SAME_FROM : like.same_to]) != self._same
            or bytes(view[:PREFIX]) != self._prefix
            or frame_number(view) != (self._last + 1) % NUMBERS
        ):
            return 0
        return count_run(data, at, here.got, like.message, _SAME_FROM, like.same_to, whole)

    def _leave_place(self) -> None:
        """Move what was received in place and not counted to the buffer."""
        here, self._ahead = self._ahead, None
        if here is None:
            return
        assert self._first is not None
        rest = here.rows.reshape(-1)[here.done * self._first.message : here.got]
        if len(rest) > len(self._data):
            self._data = np.empty(len(rest) + self._first.message, np.uint8)
        self._data[: len(rest)] = rest
        self._from, self._to = 0, len(rest)

    def _move(self, target: npt.NDArray[np.uint8]) -> None:
        n = self._to - self._from
        target[:n] = self._data[self._from : self._to].copy()
        self._data, self._from, self._to = target, 0, n

    def _make_room(self, message: int) -> None:
        """Let at least two messages fit, so that reading one does not wait for another one's bytes."""
        if 4 * message > len(self._data):
            self._move(np.empty(4 * message, np.uint8))

    def _again(self, timeout: float) -> None:
        try:
            self._connection.connect(timeout=max(timeout, 1.0))
        except StreamError:
            time.sleep(timeout)  # the detector may come back; who waits has a limit of his own

    # -- acquisitions ----------------------------------------------------------------------------------

    def _try_begin(self) -> AcquisitionStart | None:
        while True:
            if self._skip:  # the rest of a frame that nobody waits for
                n = min(self._skip, self._to - self._from)
                self._from, self._skip = self._from + n, self._skip - n
                if self._skip:
                    return None
            if not self._find():
                return None
            view = self._view()
            try:
                size = message_size(view) or 0  # never 0: `_find` saw 19 bytes of it
            except StreamError:  # garbage that looks like a message
                self._from, self._garbage = self._from + 4, self._garbage + 4
                continue
            if is_text(view):
                if len(view) < size:
                    self._make_room(size)
                    return None
                self._fields, self._garbage = parse_text(view[:size]), 0
                self._from += size
            elif self._fields is None:
                self._strays += 1
                self._skip = size
            else:
                frame = parse_frame(view, size)
                return None if frame is None else self._begun(frame)

    def _find(self) -> bool:
        """Skip what is no message; whether one begins here then."""
        n = find_message(self._view())
        self._from += n
        self._garbage += n
        if self._garbage > MAX_GARBAGE:
            raise StreamError(
                f"{self.endpoint}: {self._garbage} bytes came without the beginning of a message (MPX,): "
                "is this the data port of a Merlin (6342), not its command port?"
            )
        return self._to - self._from >= PREFIX + 4

    def _begun(self, frame: MerlinFrame) -> AcquisitionStart:
        fields, head = self._fields or {}, frame.header
        self._first, self._fields, self._strays = frame, None, 0
        self._same = bytes(self._view()[_SAME_FROM : frame.same_to])
        self._prefix = bytes(self._view()[:PREFIX])
        self.keeping = KeptMessages(frame)
        self._last = 0
        self._make_room(frame.message)
        sig = head.sig_shape
        meta: dict[str, Any] = {"detector": "Merlin", "pixel_size": (_PITCH, _PITCH), "header": fields}
        if head.exposure:
            meta |= {"dwell_time": head.exposure, "frame_time": head.exposure}
        return AcquisitionStart(
            frame_count(fields),
            sig,
            head.dtype.newbyteorder("="),
            scan_shape(fields),
            whole_frames(sig, self.endpoint),
            1,
            meta,
        )

    # -- frames ----------------------------------------------------------------------------------------

    def _take(self, assembly: Assembly) -> Over | None:
        while not assembly.complete:
            view = self._view()
            size = message_size(view)
            if size is None or len(view) < PREFIX + 4:
                return None
            if is_text(view):  # stays here for `begin`
                return Over("restart", "the detector began another acquisition")
            assert self._first is not None
            if size == self._first.message and len(view) < size:
                return None
            number = self._number(view, size, self._first)
            if number is None:
                return None
            self._take_run(assembly, self._first, number)
        return None

    def _number(self, view: memoryview, size: int, first: MerlinFrame) -> int | None:
        """Return the number of the frame that begins here; None: more bytes are needed to tell its kind."""
        if size == first.message and bytes(view[_SAME_FROM : first.same_to]) == self._same:
            number = frame_number(view)
            if number is not None:
                return number
        frame = parse_frame(view, size)
        if frame is None:
            return None
        self._check(frame)
        return frame.header.sequence

    def _take_run(self, assembly: Assembly, frame: MerlinFrame, stated: int) -> None:
        number = self._last = unwrap(stated, self._last)
        rows = assembly.rows(0, number - 1)
        n = 1
        if rows is not None:
            n = count_run(
                self._data, self._from, self._to, frame.message, _SAME_FROM, frame.same_to, len(rows)
            )
            rows[:n] = self._data[self._from : self._from + n * frame.message].reshape(n, -1)
            assembly.filled(0, number - 1, n)
        self._last += n - 1
        self._from += n * frame.message

    def _check(self, frame: MerlinFrame) -> None:
        assert self._first is not None
        here, first = frame.header, self._first.header
        if replace(here, sequence=0, timestamp="", exposure=None) != replace(
            first, sequence=0, timestamp="", exposure=None
        ):
            raise StreamError(
                f"{self.endpoint}: frame {here.sequence} has other headers than the first ({here} against "
                f"{first}): frames of varying kind are not supported"
            )

    def _cut(self, assembly: Assembly) -> Over:
        """Count the frame that the closed connection leaves incomplete as begun."""
        stated = frame_number(self._view())
        where = ""
        if stated is not None:
            number = unwrap(stated, self._last)
            assembly.begun(0, number - 1)
            where = f" within frame {number}"
        self._from = self._to = 0
        return Over("end-message", f"the detector closed the connection{where}")
