"""Where the messages of an emulated detector go: a TCP connection, or a ZeroMQ socket."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Protocol

from framefold.errors import StreamError
from framefold.io.live.replay.encoder import Message, Transport

_TICK = 0.05
_TICK_MS = 50
_CHUNK = 2**20


class Line(Protocol):
    """A place for messages; every call returns False once the emulator is stopped.

    Attributes
    ----------
    address
        What follows the ``://`` of the URL that receives them.
    """

    address: str

    def ready(self) -> bool:
        """Wait for somebody, where the detector does."""
        ...

    def send(self, message: Message) -> bool:
        """Send a message, waiting while nobody takes it."""
        ...

    def cut(self) -> None:
        """Break the connection, where there is one."""
        ...

    def close(self) -> None:
        """Free the sockets."""
        ...


def open_line(transport: Transport, host: str, port: int, stopped: threading.Event) -> Line:
    """Return a line that listens at `host` and `port`; 0: any port that is free."""
    if transport == "tcp":
        return TcpLine(host, port, stopped)
    if transport == "pva":
        from framefold.io.live.replay.pva import PvaLine  # noqa: PLC0415  # needs p4p

        return PvaLine(host, port, stopped)
    return ZmqLine(host, port, transport, stopped)


class TcpLine:
    """One connection at a time; see `Line`."""

    def __init__(self, host: str, port: int, stopped: threading.Event) -> None:
        self._listener = socket.create_server((host, port))
        self._listener.settimeout(_TICK)
        self.address = f"{host}:{self._listener.getsockname()[1]}"
        self._stopped = stopped
        self._connection: socket.socket | None = None

    def ready(self) -> bool:
        """Accept a connection, if there is none."""
        while self._connection is None and not self._stopped.is_set():
            try:
                self._connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self._connection.settimeout(_TICK)
        return self._connection is not None

    def send(self, message: Message) -> bool:
        """Send the parts one behind the other."""
        assert self._connection is not None
        for part in message:
            view = memoryview(part)
            while view:
                if self._stopped.is_set():
                    return False
                try:
                    view = view[self._connection.send(view[:_CHUNK]) :]
                except TimeoutError:
                    continue
        return True

    def cut(self) -> None:
        """Close the connection; the next one is accepted by `ready`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Close all sockets."""
        self.cut()
        self._listener.close()


class ZmqLine:
    """A socket that binds; see `Line`."""

    def __init__(self, host: str, port: int, transport: Transport, stopped: threading.Event) -> None:
        try:
            import zmq  # noqa: PLC0415  # optional
        except ImportError as exc:
            raise StreamError("this emulator needs pyzmq: pip install 'framefold[live]'") from exc
        self._stopped, self._asks = stopped, transport == "rep"
        self._context = zmq.Context()
        kinds = {"push": zmq.PUSH, "pub": zmq.PUB, "rep": zmq.REP}
        self._socket = self._context.socket(kinds[transport])
        self._out, self._in = zmq.POLLOUT, zmq.POLLIN
        self._at_once, self._full = zmq.DONTWAIT, zmq.Again
        self._socket.bind(f"tcp://{host}:{port or '*'}")
        bound = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2]
        self.address = f"{host}:{bound}"

    def ready(self) -> bool:
        """Wait for nobody: messages wait themselves."""
        return not self._stopped.is_set()

    def send(self, message: Message) -> bool:
        """Send a message: a PUSH socket waits for somebody who takes it, a REP socket for a question."""
        while not self._stopped.is_set():
            if self._asks and self._socket.poll(_TICK_MS, self._in):
                self._socket.recv()
                self._socket.send_multipart(message)
                return True
            if not self._asks and self._socket.poll(_TICK_MS, self._out):
                # the one who would take it may leave after the poll: a send that waits would wait for ever
                with contextlib.suppress(self._full):
                    self._socket.send_multipart(message, self._at_once)
                    return True
        return False

    def cut(self) -> None:
        """Do nothing: ZeroMQ connects again by itself."""

    def close(self) -> None:
        """Close the socket."""
        # what is sent but not yet taken would be lost otherwise; a receiver that is gone never takes it
        self._socket.close(1000)
        self._context.term()
