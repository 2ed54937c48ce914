"""A TCP connection that is read into memory of ours, with short waits so that a stop is noticed."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError

_WAKE_BYTES = 2**19
_SPARE_BYTES = 2**20


class Closed(Exception):  # the ordinary end of a connection
    """The other side closed the connection."""


class TcpConnection:
    """A connection to a server; used by one thread.

    Parameters
    ----------
    host, port
        Of the server.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._socket: socket.socket | None = None
        self._poll = select.poll()  # instead of select: it takes file numbers above 1023
        self._wake = 1  # bytes that end a wait
        self._limit = 0.0  # seconds that a `read_rows` takes, 0: for ever
        self._spare: npt.NDArray[np.uint8] | None = None
        self._held = 0  # bytes in it

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._socket is not None

    def connect(self, timeout: float = 10.0) -> None:
        """Connect, or connect again.

        Raises
        ------
        StreamError
            Naming the address, if nobody answers.
        """
        self.close()
        try:
            self._socket = _connected(self.host, self.port, timeout)
        except OSError as exc:
            raise StreamError(
                f"cannot connect to {self.host}:{self.port}: {exc.strerror or exc}. "
                "Is the detector's server running, and is this the right port?"
            ) from exc
        self._poll, self._wake, self._limit, self._held = select.poll(), 1, 0.0, 0
        self._poll.register(self._socket, select.POLLIN)

    def read_into(self, space: memoryview, timeout: float, at_least: int = 1) -> int:
        """Receive at most ``len(space)`` bytes; return how many, 0 if none came in `timeout` seconds.

        Parameters
        ----------
        space
            Where to.
        timeout
            s.
        at_least
            Wait until so many bytes are there, or the time is over: each call costs more than the copy of
            some ten kilobytes.

        Raises
        ------
        Closed
            If the other side closed the connection; it is closed here then, too.
        """
        if self._socket is None:
            raise Closed
        try:
            if at_least > 1:
                self._wake_at(at_least)
                self._poll.poll(timeout * 1000)
                timeout = 0.0
            with contextlib.suppress(BlockingIOError):
                return self._got(self._socket.recv_into(space, 0, socket.MSG_DONTWAIT))
            if timeout <= 0:
                return 0
            self._wake_at(1)
            if not self._poll.poll(timeout * 1000):
                return 0
            return self._got(self._socket.recv_into(space))
        except OSError as exc:
            self.close()
            raise Closed from exc

    def read_rows(self, rows: npt.NDArray[Any], at: int, timeout: float) -> int:
        """Receive frames until `rows` are full or `timeout` seconds are over; return how far they are filled.

        With as few calls as can be: with many, a thread wakes up more often than it copies.

        Parameters
        ----------
        rows
            ``(n, *part)``. Where they are parts of larger frames, they come by way of memory that stays in
            the cache; a ``recvmsg`` that puts every row in its place takes longer.
        at
            Bytes of them that are there; as was returned last, or 0 for others.
        timeout
            s.

        Raises
        ------
        Closed
            As `read_into` does.
        """
        if self._socket is None:
            raise Closed
        try:
            if timeout != self._limit:
                self._limit = timeout
                seconds = struct.pack("@ll", int(timeout), max(1, int(timeout % 1 * 1e6)))
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
            if rows.flags.c_contiguous:
                return at + self._all(rows.reshape(-1).view(np.uint8)[at:])
            row = rows.nbytes // len(rows)
            first = at // row
            n = min(len(rows) - first, max(1, _SPARE_BYTES // row))
            if self._spare is None or len(self._spare) < n * row:
                self._spare = np.empty(n * row, np.uint8)
            self._held += self._all(self._spare[self._held : n * row])
            whole = self._held // row
            if whole:
                here = self._spare[: whole * row].view(rows.dtype)
                rows[first : first + whole] = here.reshape(whole, *rows.shape[1:])
                rest = self._spare[whole * row : self._held].copy()
                self._held = len(rest)
                self._spare[: len(rest)] = rest
            return at + whole * row
        except OSError as exc:
            self.close()
            raise Closed from exc

    def _all(self, space: npt.NDArray[np.uint8]) -> int:
        """Fill `space`; return the bytes that came in the time that is set."""
        assert self._socket is not None
        self._wake_at(min(len(space), _WAKE_BYTES))
        try:
            return self._got(self._socket.recv_into(space.data, 0, socket.MSG_WAITALL))
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _wake_at(self, n: int) -> None:
        if n == self._wake:
            return
        assert self._socket is not None
        self._wake = n
        with contextlib.suppress(OSError):  # where the system cannot, the wait ends with the first byte
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, n)

    def _got(self, n: int) -> int:
        if n == 0:
            self.close()
            raise Closed
        return n


def _connected(host: str, port: int, timeout: float) -> socket.socket:
    failure: OSError | None = None
    for family, kind, proto, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, proto)
        try:
            sock.settimeout(timeout)
            # no SO_RCVBUF: the system lets the window grow further than a program may ask for (rmem_max)
            sock.connect(address)
            sock.settimeout(None)
        except OSError as exc:
            failure = exc
            sock.close()
        else:
            return sock
    raise failure or OSError(f"{host} has no address")


class TcpReader:
    """A connection as bytes to look at and to skip, for protocols that need no more.

    Parameters
    ----------
    host, port
        Of the server.
    limit
        Most bytes that can be looked at.
    """

    def __init__(self, host: str, port: int, limit: int = 2**28) -> None:
        self._connection = TcpConnection(host, port)
        self._limit = limit
        self._data = bytearray(2**20)
        self._from = self._to = 0

    def connect(self) -> None:
        """Connect, or connect again; see `TcpConnection.connect`."""
        self._from = self._to = 0
        self._connection.connect()

    def peek(self, n: int, timeout: float) -> memoryview | None:
        """Return the next `n` bytes, valid until the next call; None if `timeout` seconds do not bring them.

        Raises
        ------
        Closed
            If the connection has ended and less than `n` bytes are left.
        StreamError
            If `n` is above the limit.
        """
        if n > self._limit:
            raise StreamError(
                f"{self._connection.host}:{self._connection.port}: {n} bytes in one piece, at most "
                f"{self._limit} are allowed"
            )
        until = time.monotonic() + timeout
        while self._to - self._from < n:
            if len(self._data) - self._from < n:
                self._make_room(n)
            left = max(0.0, until - time.monotonic())
            got = self._connection.read_into(memoryview(self._data)[self._to :], left)
            if not got and time.monotonic() >= until:
                return None
            self._to += got
        return memoryview(self._data)[self._from : self._from + n]

    def skip(self, n: int) -> None:
        """Go on behind `n` bytes that `peek` returned."""
        self._from += n
        if self._from == self._to:
            self._from = self._to = 0

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _make_room(self, n: int) -> None:
        # another array: what `peek` returned last may still be looked at
        data = bytearray(max(len(self._data), 4 * n))
        data[: self._to - self._from] = self._data[self._from : self._to]
        self._data, self._from, self._to = data, 0, self._to - self._from
