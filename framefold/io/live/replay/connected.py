"""An emulated detector that is connected to (TCP, ZeroMQ): sends what an encoder makes of a dataset."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, StreamError
from framefold.io.live.replay.dectris import DectrisEncoder
from framefold.io.live.replay.dectris1 import Dectris1Encoder
from framefold.io.live.replay.encoder import Encoder, Message
from framefold.io.live.replay.fates import Impairments
from framefold.io.live.replay.frames import fitted
from framefold.io.live.replay.karabo import KaraboEncoder
from framefold.io.live.replay.merlin import MerlinEncoder
from framefold.io.live.replay.options import EmulatorOptions
from framefold.udfcore.live import AcquisitionStart

_TICK = 0.05
_TICK_MS = 50
_CHUNK = 2**20


class _Line(Protocol):
    """Where messages go; every call returns False once the emulator is stopped."""

    port: int

    def ready(self) -> bool: ...
    def send(self, message: Message) -> bool: ...
    def close(self) -> None: ...


class ConnectedEmulator:
    """A detector that listens, and sends a dataset to who connects.

    Parameters
    ----------
    protocol
        Scheme of its URL.
    encoder
        Makes the messages.
    frames
        ``(n, *sig)``.
    nav_shape
        Scan shape that headers state; None: none.
    rate
        Frames per second; None: as fast as possible.
    loops
        Times that the dataset is sent in one acquisition.
    repeat, gap
        Acquisitions, and s between them.
    loss
        Probability that a frame is left out.
    garbage
        Random bytes before the first message (TCP).
    seed
        Of everything that is random.
    host
        Address to listen at.
    port
        0: any that is free.
    query
        Behind the ``?`` of the URL.
    """

    def __init__(
        self,
        protocol: str,
        encoder: Encoder,
        frames: npt.NDArray[Any],
        *,
        nav_shape: tuple[int, ...] | None = None,
        rate: float | None = None,
        loops: int = 1,
        repeat: int = 1,
        gap: float = 0.0,
        loss: float = 0.0,
        garbage: int = 0,
        seed: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
        query: str = "",
    ) -> None:
        self.protocol, self._encoder, self._data = protocol, encoder, frames
        self._rate, self._loops, self._repeat, self._gap = rate, loops, repeat, gap
        self._loss, self._garbage = loss, garbage
        self._rng = np.random.default_rng(seed)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._start = AcquisitionStart(
            self.frames, frames.shape[1:], frames.dtype, nav_shape, (), 0, {"source": "emulator"}
        )
        encoder.begin(self._start)  # whether the protocol carries such frames is said at once
        self._line: _Line
        if encoder.transport == "tcp":
            self._line = _Tcp(host, port, self._stop)
        else:
            self._line = _Zmq(host, port, encoder.transport, self._stop)
        self._host, self._query = host, query
        self.left_out: list[npt.NDArray[np.int64]] = []
        self.seconds = 0.0

    @property
    def url(self) -> str:
        """What a receiver opens."""
        return f"{self.protocol}://{self._host}:{self._line.port}" + (
            f"?{self._query}" if self._query else ""
        )

    @property
    def frames(self) -> int:
        """Frames of an acquisition."""
        return len(self._data) * self._loops

    def start(self, to: Any = None) -> None:
        """Begin to send as soon as somebody connects; `to` is not needed."""
        if self._thread is not None:
            raise StreamError("the emulator has begun already")
        self._thread = threading.Thread(target=self._run, name="framefold-emulator", daemon=True)
        self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything is sent; return whether it is.

        Raises
        ------
        StreamError
            If sending failed.
        """
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                return False
        if self._error is not None:
            raise StreamError(f"the emulator failed: {self._error}") from self._error
        return True

    def stop(self) -> None:
        """Stop sending, and close the sockets."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._line.close()

    def report(self) -> dict[str, Any]:
        """Return what was done, as plain values: the frames that were left out, per acquisition."""
        return {
            "protocol": self.protocol, "url": self.url, "frames": self.frames, "seconds": self.seconds,
            "acquisitions": [{"missing": missing.tolist()} for missing in self.left_out],
        }  # fmt: skip

    def _run(self) -> None:
        try:
            if not self._line.ready():
                return
            if self._garbage and self._encoder.transport == "tcp":
                self._line.send([self._rng.bytes(self._garbage)])
            began = time.monotonic()
            for i in range(self._repeat):
                if i and self._stop.wait(self._gap):
                    return
                left_out = np.flatnonzero(self._rng.random(self.frames) < self._loss)
                self.left_out.append(left_out)
                for message in self._messages(set(left_out.tolist())):
                    if message and not self._line.send(message):
                        return
            self.seconds = time.monotonic() - began
        except OSError as exc:
            self._error = exc

    def _messages(self, left_out: set[int]) -> Iterator[Message]:
        yield from self._encoder.begin(self._start)
        began = time.monotonic()
        for i in range(self.frames):
            if self._rate is not None:
                late = began + i / self._rate - time.monotonic()
                if late > 0 and self._stop.wait(late):
                    return
            if i not in left_out:
                yield self._encoder.frame(i, self._data[i % len(self._data)])
        yield from self._encoder.end()


def make_connected(
    protocol: str, frames: npt.NDArray[Any], options: EmulatorOptions, own: Mapping[str, Any]
) -> ConnectedEmulator:
    """Return the emulator of a protocol with one connection.

    Parameters
    ----------
    protocol
        ``"merlin"``, ``"dectris"``, ``"dectris1"`` or ``"karabo"``.
    frames
        ``(n, height, width)``, or ``(n, modules, height, width)`` for Karabo.
    options
        Those that make sense: `rate`, `loops`, `repeat`, `gap`, `seed`, `loss`, `garbage` (TCP).
    own
        `host`, `port`, `nav_shape`; `exposure`, `compression`, `pulses` where the protocol has them.

    Raises
    ------
    DataError
        If another option is set: such connections lose and reorder nothing.
    """
    loss = options.impairments.loss
    plain = EmulatorOptions(
        rate=options.rate, loops=options.loops, repeat=options.repeat, gap=options.gap, seed=options.seed,
        gentle=options.gentle, garbage=options.garbage if protocol == "merlin" else 0,
        impairments=Impairments(loss=0.0 if protocol == "karabo" else loss),
    )  # fmt: skip
    if plain != options:
        wrong = [
            f.name
            for part, allowed in ((options, plain), (options.impairments, plain.impairments))
            for f in fields(part)
            if f.name != "impairments" and getattr(part, f.name) != getattr(allowed, f.name)
        ]
        raise DataError(
            f"{protocol} is a connection that loses and reorders nothing: {', '.join(wrong)} cannot be "
            "emulated. Frames that the detector leaves out: loss= (not for karabo)"
        )
    if protocol != "karabo" and frames.dtype.kind not in "bu":
        frames = fitted(frames, 65535, (1, 1), protocol)
    own = dict(own)
    common = {name: own.pop(name) for name in ("host", "port", "nav_shape") if name in own}
    if common.get("nav_shape") is None:
        common.pop("nav_shape", None)
    choices: dict[str, Callable[..., Encoder]] = {
        "merlin": MerlinEncoder,
        "dectris": DectrisEncoder,
        "dectris1": Dectris1Encoder,
        "karabo": KaraboEncoder,
    }
    if own.get("compression", "none") not in ("none", "lz4", "bslz4"):
        raise DataError(f"compression={own['compression']!r} is not one of none, lz4, bslz4")
    if own.get("pulses", 1) < 1:
        raise DataError(f"pulses={own['pulses']} is below 1")
    return ConnectedEmulator(
        protocol,
        choices[protocol](**own),
        frames,
        rate=options.rate,
        loops=options.loops,
        repeat=options.repeat,
        gap=options.gap,
        loss=loss,
        garbage=options.garbage,
        seed=options.seed,
        query="pattern=pull" if protocol == "karabo" else "",
        **common,
    )


class _Tcp:
    def __init__(self, host: str, port: int, stop: threading.Event) -> None:
        self._listener = socket.create_server((host, port))
        self._listener.settimeout(_TICK)
        self.port: int = self._listener.getsockname()[1]
        self._stop = stop
        self._connection: socket.socket | None = None

    def ready(self) -> bool:
        while not self._stop.is_set():
            try:
                self._connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self._connection.settimeout(_TICK)
            return True
        return False

    def send(self, message: Message) -> bool:
        assert self._connection is not None
        for part in message:
            view = memoryview(part)
            while view:
                if self._stop.is_set():
                    return False
                try:
                    view = view[self._connection.send(view[:_CHUNK]) :]
                except TimeoutError:
                    continue
        return True

    def close(self) -> None:
        for sock in (self._connection, self._listener):
            if sock is not None:
                sock.close()


class _Zmq:
    def __init__(self, host: str, port: int, transport: str, stop: threading.Event) -> None:
        try:
            import zmq  # noqa: PLC0415  # optional
        except ImportError as exc:
            raise StreamError("this emulator needs pyzmq: pip install 'framefold[live]'") from exc
        self._stop, self._asks = stop, transport == "rep"
        self._context = zmq.Context()
        kinds = {"push": zmq.PUSH, "pub": zmq.PUB, "rep": zmq.REP}
        self._socket = self._context.socket(kinds[transport])
        self._out, self._in = zmq.POLLOUT, zmq.POLLIN
        self._socket.bind(f"tcp://{host}:{port or '*'}")
        self.port = int(self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])

    def ready(self) -> bool:
        return not self._stop.is_set()

    def send(self, message: Message) -> bool:
        # a PUSH socket waits for somebody who takes it, a REP socket for a question
        while not self._stop.is_set():
            if self._asks and self._socket.poll(_TICK_MS, self._in):
                self._socket.recv()
                self._socket.send_multipart(message)
                return True
            if not self._asks and self._socket.poll(_TICK_MS, self._out):
                self._socket.send_multipart(message)
                return True
        return False

    def close(self) -> None:
        # what is sent but not yet taken would be lost otherwise; a receiver that is gone never takes it
        self._socket.close(1000)
        self._context.term()
