"""Merlin (Medipix3) over its TCP data socket: ``merlin://host:6342``."""

from __future__ import annotations

import functools
import time
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError
from framefold.io.live.assembly import Assembly
from framefold.io.live.feed import Over, whole_frames
from framefold.io.live.protocols.merlin_kernels import copy_big_endian, count_run
from framefold.io.live.protocols.merlin_messages import (
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
_BUFFER = 4 * 2**20
_PITCH = 55e-6
# MPX,%010d,MQ1,%06d, : what follows the comma behind the number
_SAME_FROM = PREFIX + 11


@register_protocol("merlin")
def open_merlin(request: LiveRequest) -> SequentialSource:
    """Return the source of ``merlin://host:port``."""
    host, port = request.address.host or "127.0.0.1", request.address.port(PORT)
    make = functools.partial(MerlinFeed, host, port)
    return SequentialSource(request.url, request.options, request.nav_shape, request.sync_offset, make)


class MerlinFeed:
    """Frames of one Merlin data socket; see `Feed`.

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
        self._same = b""  # of the header of every frame, behind its number
        self._last = 0
        self._skip = 0

    def connect(self) -> None:
        """Connect to the detector."""
        self._connection.connect()

    def begin(self, timeout: float, *, wanted: bool) -> AcquisitionStart | None:
        """Return the next acquisition once its text and the header of its first frame are here."""
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
        over = self._take(assembly)
        if over is not None or assembly.complete:
            return over
        if self._read(timeout) is not None:
            return self._take(assembly)
        over = self._take(assembly)
        return over or self._cut(assembly)

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
            self._decode(frame, rows[:n])
            assembly.filled(0, number - 1, n)
        self._last += n - 1
        self._from += n * frame.message

    def _decode(self, frame: MerlinFrame, out: npt.NDArray[np.generic]) -> None:
        head, first = frame.header, self._from + PREFIX + frame.header.offset
        if head.raw:
            from framefold.io.decode import decode_r64  # noqa: PLC0415  # loads numba

            decode_r64(self._data, first, frame.message, head.depth, head.sig_shape[0], head.quad, 0, out)
        else:
            copy_big_endian(self._data, first, frame.message, head.dtype.itemsize, out)

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
