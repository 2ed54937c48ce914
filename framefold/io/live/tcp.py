"""A TCP connection that is read into memory of ours, with short waits so that a stop is noticed."""

from __future__ import annotations

import contextlib
import select
import socket

from framefold.errors import StreamError

_RECEIVE_BUFFER = 4 * 2**20


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
            # the window is agreed upon when the connection is made, so the buffer comes before
            self._socket = _connected(self.host, self.port, timeout)
        except OSError as exc:
            raise StreamError(
                f"cannot connect to {self.host}:{self.port}: {exc.strerror or exc}. "
                "Is the detector's server running, and is this the right port?"
            ) from exc

    def read_into(self, space: memoryview, timeout: float) -> int:
        """Receive at most ``len(space)`` bytes; return how many, 0 if none came in `timeout` seconds.

        Raises
        ------
        Closed
            If the other side closed the connection; it is closed here then, too.
        """
        if self._socket is None:
            raise Closed
        try:
            with contextlib.suppress(BlockingIOError):
                return self._got(self._socket.recv_into(space, 0, socket.MSG_DONTWAIT))
            # poll instead of select: it takes file numbers above 1023
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            if not poll.poll(timeout * 1000):
                return 0
            return self._got(self._socket.recv_into(space))
        except OSError as exc:
            self.close()
            raise Closed from exc

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

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
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            sock.settimeout(timeout)
            sock.connect(address)
            sock.settimeout(None)
        except OSError as exc:
            failure = exc
            sock.close()
        else:
            return sock
    raise failure or OSError(f"{host} has no address")
