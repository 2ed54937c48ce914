"""How processes that put frames together talk: one connection each way, opened with the secret of the run."""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError

Array = npt.NDArray[Any]

# kind, acquisition, block, first frame, frames, ages of first and last packet, payload
_HEADER = struct.Struct("<BqqqqddQ")
STRIPE, END, CREDIT, REVOKE, BYE = 1, 2, 3, 4, 5
TOKEN_BYTES = 32
CONNECT_SECONDS = 30.0
HELLO_SECONDS = 3.0
SEND_SECONDS = (
    120.0  # a process that takes nothing for so long is lost; machines may be suspended for a while
)


class Head(NamedTuple):
    """What precedes every message."""

    kind: int
    run: int
    block: int = 0
    first: int = 0
    frames: int = 0
    age_first: float = 0.0
    age_last: float = 0.0
    nbytes: int = 0


@dataclass(frozen=True)
class Address:
    """Where a process takes stripes, and the secret that a sender must show."""

    host: str
    port: int
    token: bytes


@dataclass(frozen=True)
class Wire:
    """How to reach one another.

    Attributes
    ----------
    host
        Where to listen; loopback, or the address under which workers see one another.
    server, client
        TLS settings of the cluster for the two ends of a connection; None: in the clear.
    """

    host: str
    server: ssl.SSLContext | None = None
    client: ssl.SSLContext | None = None


class Listener:
    """Takes connections of those who show the secret; each gets a thread.

    Parameters
    ----------
    wire
        Where, and how.
    ranks
        Numbers below this may come.
    receive
        Called in the thread of a connection, until it is over.
    """

    def __init__(self, wire: Wire, ranks: int, receive: Callable[[socket.socket, int], None]) -> None:
        self._server = wire.server
        self._ranks = ranks
        self._receive = receive
        self._listener = socket.create_server((wire.host, 0))
        self.address = Address(wire.host, self._listener.getsockname()[1], secrets.token_bytes(TOKEN_BYTES))
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._spawn(self._accept)

    def _spawn(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name="framefold-shuffle", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._spawn(self._greet, sock)

    def _greet(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.settimeout(HELLO_SECONDS)
            if self._server is not None:
                sock = self._server.wrap_socket(sock, server_side=True)
            hello = read(sock, TOKEN_BYTES + 8)
            rank = struct.unpack("<q", hello[TOKEN_BYTES:])[0]
            if hmac.compare_digest(hello[:TOKEN_BYTES], self.address.token) and 0 <= rank < self._ranks:
                sock.settimeout(None)
                _keep_alive(sock)
                self._receive(sock, rank)
        sock.close()  # a stranger, or it is over

    def close(self) -> None:
        """Take no more connections; the threads end when their connections are closed."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in list(self._threads):
            if thread is not threading.current_thread():
                thread.join(HELLO_SECONDS + 1)


class Peer:
    """Somebody to send to. Several threads may send; a message is never torn.

    Parameters
    ----------
    wire
        How.
    address
        Where.
    rank
        Who we are.
    under_way
        Stripes that may be under way.

    Raises
    ------
    StreamError
        If nobody answers there.
    """

    def __init__(self, wire: Wire, address: Address, rank: int, under_way: int) -> None:
        try:
            sock = socket.create_connection((address.host, address.port), CONNECT_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if wire.client is not None:
                sock = wire.client.wrap_socket(sock, server_hostname=address.host)
            sock.sendall(address.token + struct.pack("<q", rank))
        except OSError as exc:
            raise StreamError(
                f"the shuffle cannot reach the worker at {address.host}:{address.port}: {exc}"
            ) from exc
        sock.settimeout(SEND_SECONDS)
        _keep_alive(sock)
        self._sock = sock
        self._lock = threading.Lock()
        self.credits = threading.Semaphore(under_way)
        self.alive = True
        self.behind = False

    def send(self, head: Head, arrays: Sequence[Array] = ()) -> bool:
        """Send a message; False if the other is gone."""
        with self._lock:
            if not self.alive:
                return False
            try:
                self._sock.sendall(_HEADER.pack(*head))
                for array in arrays:
                    self._sock.sendall(array.reshape(-1).view(np.uint8).data)
            except OSError:
                self.lost()
        return self.alive

    def lost(self) -> None:
        """Send nothing more, and let nobody wait for credit."""
        self.alive = False
        self.credits.release()

    def close(self) -> None:
        """Close the connection."""
        self.lost()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


def _keep_alive(sock: socket.socket) -> None:
    """Notice within half a minute when the other machine is gone without a word."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):  # not on every system
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def read_head(sock: socket.socket) -> Head:
    """Return the next header.

    Raises
    ------
    OSError
        If the connection is over.
    """
    return Head(*_HEADER.unpack(read(sock, _HEADER.size)))


def read(sock: socket.socket, n: int) -> bytes:
    """Return `n` bytes."""
    out = np.empty(n, dtype=np.uint8)
    read_into(sock, out)
    return out.tobytes()


def read_into(sock: socket.socket, array: Array) -> None:
    """Fill `array`."""
    view: memoryview = array.reshape(-1).view(np.uint8).data
    while view.nbytes:
        got = sock.recv_into(view)
        if not got:
            raise OSError("the connection was closed")
        view = view[got:]
