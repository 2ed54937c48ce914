"""An emulated detector that is connected to: sends what an encoder makes of a dataset."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.io.live.replay.encoder import Encoder, Message
from framefold.io.live.replay.fates import fates
from framefold.io.live.replay.lines import open_line
from framefold.io.live.replay.options import EmulatorOptions
from framefold.io.live.replay.sending import Sending
from framefold.udfcore.live import AcquisitionStart

_BROKEN = 8  # bytes at the beginning of a damaged message


@dataclass(frozen=True, slots=True)
class _Item:
    """A message, the frames ``begin..end-1`` that are whole with it, and whether it is cut in the middle."""

    message: Message
    begin: int = 0
    end: int = 0
    cut: bool = False


class ConnectedEmulator:
    """A detector that listens, and sends a dataset to who connects.

    Faults (see `Impairments`) befall messages: those of frames, or of trains where the protocol gathers
    frames. A damaged message is so at its beginning, where every receiver must notice.

    Parameters
    ----------
    protocol
        Scheme of its URL.
    encoder
        Makes the messages.
    frames
        ``(n, *sig)``.
    options
        What it does; those that only datagrams can suffer are not looked at.
    nav_shape
        Scan shape that headers state; None: none.
    host
        Address to listen at.
    port
        0: any that is free.
    query
        Of the URL.
    """

    def __init__(
        self,
        protocol: str,
        encoder: Encoder,
        frames: npt.NDArray[Any],
        options: EmulatorOptions | None = None,
        *,
        nav_shape: tuple[int, ...] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        query: str = "",
    ) -> None:
        self.protocol, self._encoder, self._data = protocol, encoder, frames
        self._options = options or EmulatorOptions()
        self._rng = np.random.default_rng(self._options.seed)
        self._sending = Sending()
        self._start = AcquisitionStart(
            self.frames, frames.shape[1:], frames.dtype, nav_shape, (), 0, {"source": "emulator"}
        )
        encoder.begin(self._start)  # whether the protocol carries such frames is said at once
        self._line = open_line(encoder.transport, host, port, self._sending.stopped)
        self._query = query
        self._whole: list[npt.NDArray[np.bool_]] = []

    @property
    def url(self) -> str:
        """What a receiver opens."""
        mark = "" if not self._query else ("&" if "?" in self._line.address else "?")
        return f"{self.protocol}://{self._line.address}{mark}{self._query}"

    @property
    def seconds(self) -> float:
        """How long sending took."""
        return self._sending.seconds

    @property
    def frames(self) -> int:
        """Frames of an acquisition."""
        return len(self._data) * self._options.loops

    def start(self, to: Any = None) -> None:
        """Begin to send as soon as somebody connects; `to` is not needed."""
        self._sending.begin(self._run)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything is sent; return whether it is.

        Raises
        ------
        StreamError
            If sending failed.
        """
        return self._sending.wait(timeout)

    def stop(self) -> None:
        """Stop sending, and close the sockets."""
        self._sending.end()
        self._line.close()

    def report(self) -> dict[str, Any]:
        """Return what was done, as plain values: the frames that never left whole, per acquisition."""
        return {
            "protocol": self.protocol, "url": self.url, "frames": self.frames, "seconds": self.seconds,
            "acquisitions": [{"missing": np.flatnonzero(~whole).tolist()} for whole in self._whole],
        }  # fmt: skip

    def _run(self) -> None:
        if not self._line.ready():
            return
        if self._options.garbage:
            self._line.send([self._rng.bytes(self._options.garbage)])
        self._sending.restart_clock()
        for i in range(self._options.repeat):
            if i and self._sending.stopped.wait(self._options.gap):
                return
            if not self._line.ready() or not self._acquire(i):
                return

    def _acquire(self, number: int) -> bool:
        """Send an acquisition; return False once the emulator is stopped."""
        whole = np.zeros(self.frames, np.bool_)
        self._whole.append(whole)
        for item in self._items(number):
            if item.message and not self._line.send(item.message):
                return False
            whole[item.begin : item.end] = True
            if item.cut and self._encoder.transport == "tcp":
                self._line.cut()
                return True
        return True

    def _items(self, number: int) -> Iterator[_Item]:
        """Yield what is sent in an acquisition, as it is sent."""
        yield from (_Item(message) for message in self._encoder.begin(self._start))
        how = self._options.impairments
        if how.none:
            yield from self._messages()
            return
        index = np.arange(self.frames) + number * self.frames
        fate = fates(index, how, self._options.seed, self._options.nominal_rate / 1000)
        held: list[tuple[int, int, _Item]] = []
        for i, item in enumerate(self._messages()):
            if item.begin == item.end:  # the end: behind all that is held back
                yield from (heapq.heappop(held)[2] for _ in range(len(held)))
                yield item
                continue
            if not fate.lost[i]:
                item = _spoilt(item, bool(fate.corrupt[i]), bool(fate.cut[i]))
                heapq.heappush(held, (i + int(fate.delay[i]), 2 * i, item))
                if fate.again[i] >= 0:
                    heapq.heappush(held, (i + int(fate.again[i]), 2 * i + 1, item))
            while held and held[0][0] <= i:
                yield heapq.heappop(held)[2]
        yield from (heapq.heappop(held)[2] for _ in range(len(held)))

    def _messages(self) -> Iterator[_Item]:
        """Yield the messages behind those of the beginning, each when it is due."""
        began, done = time.monotonic(), 0
        for i in range(self.frames):
            if self._options.rate is not None:
                late = began + i / self._options.rate - time.monotonic()
                if late > 0 and self._sending.stopped.wait(late):
                    return
            message = self._encoder.frame(i, self._data[i % len(self._data)])
            if message:
                yield _Item(message, done, i + 1)
                done = i + 1
        for message in self._encoder.end():
            yield _Item(message, done, self.frames)
            done = self.frames


def _spoilt(item: _Item, broken: bool, cut: bool) -> _Item:
    """Return the item with its message damaged, or cut in the middle of its largest part."""
    message = list(item.message)
    if cut:
        i = max(range(len(message)), key=lambda k: len(message[k]))
        end = len(message[i]) // 2
        # the parts of a stream of bytes follow one another: nothing comes behind the cut
        return _Item([*message[:i], message[i][:end]], cut=True)
    if broken:
        message[0] = b"\xff" * _BROKEN + message[0][_BROKEN:]
        return _Item(message)
    return item
