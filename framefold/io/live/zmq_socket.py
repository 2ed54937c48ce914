"""A ZeroMQ socket that is read in short waits: messages as lists of memory views."""

from __future__ import annotations

from typing import Any, Literal

from framefold.errors import StreamError

Kind = Literal["pull", "sub", "req"]
# of what waits in our process: beyond that the sender feels it (PUSH, REQ) or drops (PUB)
_QUEUE = 64


class ZmqSocket:
    """A socket that connects; used by one thread.

    Parameters
    ----------
    endpoint
        ``tcp://host:port``.
    kind
        Pattern.
    limit
        Largest part of a message in bytes; ZeroMQ drops the connection of a sender that exceeds it.
    """

    def __init__(self, endpoint: str, kind: Kind, limit: int) -> None:
        self.endpoint, self._kind, self._limit = endpoint, kind, limit
        self._context: Any = None
        self._socket: Any = None

    def connect(self) -> None:
        """Open the socket; it connects, and connects again, in the background.

        Raises
        ------
        StreamError
            If pyzmq is not installed, or the address is none.
        """
        try:
            import zmq  # noqa: PLC0415  # optional
        except ImportError as exc:
            raise StreamError(f"{self.endpoint} needs pyzmq: pip install 'framefold[live]'") from exc
        self._context = zmq.Context()
        kinds = {"pull": zmq.PULL, "sub": zmq.SUB, "req": zmq.REQ}
        self._socket = self._context.socket(kinds[self._kind])
        options = {zmq.LINGER: 0, zmq.RCVHWM: _QUEUE, zmq.MAXMSGSIZE: self._limit}
        if self._kind == "req":  # a lost answer shall not block the next question
            options |= {zmq.REQ_RELAXED: 1, zmq.REQ_CORRELATE: 1}
        for option, value in options.items():
            self._socket.setsockopt(option, value)
        if self._kind == "sub":
            self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        try:
            self._socket.connect(self.endpoint)
        except zmq.ZMQError as exc:
            self.close()
            raise StreamError(
                f"cannot connect to {self.endpoint}: {exc}. It must be tcp://host:port"
            ) from exc

    def receive(self, timeout: float) -> list[memoryview] | None:
        """Return the parts of the next message, or None if none comes in `timeout` seconds."""
        import zmq  # noqa: PLC0415  # optional

        try:
            parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            if not self._socket.poll(timeout * 1000):
                return None
            parts = self._socket.recv_multipart(copy=False)
        return [part.buffer for part in parts]

    def send(self, data: bytes) -> None:
        """Send a question (REQ)."""
        self._socket.send(data)

    def close(self) -> None:
        """Close the socket and its threads."""
        if self._socket is not None:
            self._socket.close(0)
            self._socket = None
        if self._context is not None:
            self._context.term()
            self._context = None
