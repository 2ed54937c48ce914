"""Connections between the processes of one iterative reduction: one socket for every pair of them."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import select
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import ExecutorError

Array = npt.NDArray[Any]
TOKEN_BYTES = 32
HELLO_SECONDS = 3.0
CONNECT_SECONDS = 60.0
KEEPALIVE_SECONDS = 10  # of silence, until a host that vanished without a word is asked


class LinkLost(ExecutorError):
    """Another process of the reduction is gone, or gave up."""


@dataclass(frozen=True)
class Offer:
    """Where a process can be reached by the others.

    Attributes
    ----------
    host, port, token
        Where it listens, and the secret that a caller must show.
    place
        Processes of the same place can map one another's memory.
    pid
        Process id there.
    """

    host: str
    port: int
    token: bytes
    place: str
    pid: int


def place_of_process() -> str:
    """Return what processes have in common that can open ``/proc/PID/fd`` of one another."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino} {os.getuid()}"
    except OSError:  # not Linux
        return secrets.token_hex(16)


class Door:
    """Listens for the other processes; `connect` makes the links and closes it."""

    def __init__(self, host: str) -> None:
        self._listener = socket.create_server((host, 0), backlog=128)
        port = self._listener.getsockname()[1]
        self.offer = Offer(host, port, secrets.token_bytes(TOKEN_BYTES), place_of_process(), os.getpid())

    def connect(self, rank: int, offers: Sequence[Offer]) -> Links:
        """Call all processes of lower rank, and wait for the calls of the others.

        Raises
        ------
        LinkLost
            If one does not answer.
        """
        sockets: dict[int, socket.socket] = {}
        deadline = time.monotonic() + CONNECT_SECONDS
        try:
            for other, offer in enumerate(offers[:rank]):
                sock = socket.create_connection((offer.host, offer.port), CONNECT_SECONDS)
                sock.sendall(offer.token + struct.pack("<q", rank))
                sockets[other] = sock
            while len(sockets) < len(offers) - 1:
                self._listener.settimeout(max(0.01, deadline - time.monotonic()))
                other, sock = self._hello()
                if rank < other < len(offers) and other not in sockets:
                    sockets[other] = sock
                else:
                    sock.close()
        except OSError as exc:
            for sock in sockets.values():
                sock.close()
            raise LinkLost(
                f"not all workers of the iteration could be reached from rank {rank}: {exc}"
            ) from exc
        finally:
            self.close()
        return Links(rank, len(offers), sockets)

    def _hello(self) -> tuple[int, socket.socket]:
        """Return who called; strangers are sent away as rank -1."""
        sock, _ = self._listener.accept()
        sock.settimeout(HELLO_SECONDS)
        with contextlib.suppress(OSError):
            hello = bytearray(TOKEN_BYTES + 8)
            view, got = memoryview(hello), 0
            while got < len(hello):
                n = sock.recv_into(view[got:])
                if n == 0:
                    return -1, sock
                got += n
            if hmac.compare_digest(bytes(hello[:TOKEN_BYTES]), self.offer.token):
                return int(struct.unpack("<q", hello[TOKEN_BYTES:])[0]), sock
        return -1, sock

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


class Links:
    """Blocking messages of known length between the processes; whoever goes is noticed by all at once."""

    def __init__(self, rank: int, size: int, sockets: Mapping[int, socket.socket]) -> None:
        self.rank = rank
        self.size = size
        self._sockets = dict(sockets)
        for sock in self._sockets.values():
            sock.settimeout(None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)

    def send(self, to: int, data: Array) -> None:
        """Send the bytes of a contiguous array."""
        try:
            self._sockets[to].sendall(_bytes(data))
        except OSError as exc:
            raise self._lost(to, exc) from exc

    def receive(self, source: int, out: Array) -> None:
        """Fill a contiguous array."""
        view = _bytes(out)
        sock = self._sockets[source]
        try:
            while view.nbytes:
                got = sock.recv_into(view)
                if got == 0:
                    raise OSError("the connection was closed")
                view = view[got:]
        except OSError as exc:
            raise self._lost(source, exc) from exc

    def exchange(self, to: int, data: Array, source: int, out: Array) -> None:
        """Send to one and receive from another at the same time: all may do so, and none waits for ever."""
        outgoing, incoming = _bytes(data), _bytes(out)
        a, b = self._sockets[to], self._sockets[source]
        poll = select.poll()
        if a is b:
            poll.register(a, select.POLLIN | select.POLLOUT)
        else:
            poll.register(a, select.POLLOUT)
            poll.register(b, select.POLLIN)
        who = to
        try:
            while outgoing.nbytes or incoming.nbytes:
                for fd, event in poll.poll():
                    if outgoing.nbytes and fd == a.fileno() and event & ~select.POLLIN:
                        who = to
                        with contextlib.suppress(BlockingIOError):
                            outgoing = outgoing[a.send(outgoing, socket.MSG_DONTWAIT) :]
                        if not outgoing.nbytes:
                            poll.modify(a, select.POLLIN) if a is b else poll.unregister(a)
                    if incoming.nbytes and fd == b.fileno() and event & ~select.POLLOUT:
                        who = source
                        with contextlib.suppress(BlockingIOError):
                            got = b.recv_into(incoming, 0, socket.MSG_DONTWAIT)
                            if got == 0:
                                raise OSError("the connection was closed")
                            incoming = incoming[got:]
                        if not incoming.nbytes:
                            poll.modify(b, select.POLLOUT) if a is b else poll.unregister(b)
        except OSError as exc:
            raise self._lost(who, exc) from exc

    def close(self) -> None:
        """Close all connections; the others notice."""
        for sock in self._sockets.values():
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits in it
            sock.close()

    def _lost(self, rank: int, exc: OSError) -> LinkLost:
        return LinkLost(f"rank {self.rank} of the iteration lost rank {rank}: {exc}")


def _bytes(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
