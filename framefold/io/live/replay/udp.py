"""An emulated detector over UDP: sends a dataset, as fast and as badly as it is told."""

from __future__ import annotations

import functools
import json
import math
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError
from framefold.io.live.replay import kernels_send as k
from framefold.io.live.replay.options import EmulatorOptions
from framefold.io.live.replay.schedule import COLUMNS, Log, emissions, new_log
from framefold.io.live.replay.sending import Sending
from framefold.io.live.replay.wire import Wire
from framefold.io.live.sockets import Endpoint, interface_address, is_multicast

_BATCH = 32
_GENTLE_BYTES = 48 << 10  # in a socket of the default size no more than this is ever waiting
_TICK = 0.002
_LATE = 0.01  # seconds


@dataclass
class UdpEmulator:
    """A detector that sends datagrams.

    Parameters
    ----------
    protocol
        Its name, for the report.
    wire
        The dataset as datagrams.
    options
        What it does.

    Attributes
    ----------
    logs
        One per acquisition: what was done with every packet.
    """

    protocol: str
    wire: Wire
    options: EmulatorOptions
    logs: list[Log] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._sending = Sending()
        self._stop = self._sending.stopped

    @property
    def url(self) -> str:
        """What a receiver opens: with port 0, so that `start` must be told the ports that were bound."""
        return self.wire.url

    @property
    def seconds(self) -> float:
        """How long sending took."""
        return self._sending.seconds

    @property
    def frames(self) -> int:
        """Frames of an acquisition."""
        return self.wire.frames * self.options.loops

    def start(self, to: Any) -> None:
        """Begin to send, in a thread of its own.

        Parameters
        ----------
        to
            Endpoints, one per sector, as ``udp://host:port`` or `Endpoint`; or what has them as
            ``endpoints``: ``on_ready=emulator.start``.
        """
        ends = [_parsed(e) for e in getattr(to, "endpoints", to)]
        if len(ends) != self.wire.n_sectors:
            raise StreamError(f"{len(ends)} endpoints are given, {self.wire.n_sectors} sectors are emulated")
        self._sending.begin(functools.partial(self._run, ends))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything is sent; return whether it is.

        Raises
        ------
        StreamError
            If sending failed.
        """
        return self._sending.wait(timeout)

    def stop(self) -> None:
        """Stop sending."""
        self._sending.end()

    def report(self) -> dict[str, Any]:
        """Return what was done, as plain values: counts per sector, and the pieces that never left whole."""
        out = []
        for log in self.logs:
            counts = {n: getattr(log, n).tolist() for n in asdict(log) if n != "intact"}
            missing = [
                [int(f), int(self.wire.sectors[p]), int(self.wire.pieces[p])]
                for f, p in np.argwhere(~log.intact)
            ]
            out.append({**counts, "missing": missing})
        return {
            "protocol": self.protocol, "url": self.url, "frames": self.frames,
            "options": asdict(self.options), "seconds": self.seconds, "acquisitions": out,
        }  # fmt: skip

    def save_report(self, path: str) -> None:
        """Write the report as JSON."""
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.report(), file)

    def valid(self, acquisition: int = 0) -> tuple[npt.NDArray[np.bool_], ...]:
        """Return per sector, ``(frames, pieces)``, which pieces were sent whole at least once."""
        log, wire = self.logs[acquisition], self.wire
        out = []
        for s in range(wire.n_sectors):
            own = np.flatnonzero(wire.sectors == s)
            flags = np.zeros((len(log.intact), len(own)), bool)
            flags[:, wire.pieces[own]] = log.intact[:, own]
            out.append(flags)
        return tuple(out)

    # --- the thread --------------------------------------------------------------------------

    def _run(self, ends: Sequence[Endpoint]) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            _to_groups(sock, ends)
            send = self._sender(sock, ends)
            send(np.empty((0, COLUMNS), np.int64))  # compiles
            self._sending.restart_clock()
            for i in range(self.options.repeat):
                if i and self._stop.wait(self.options.gap):
                    break
                self._acquire(send, ends)

    def _acquire(self, send: Any, ends: Sequence[Endpoint]) -> None:
        log = new_log(self.frames, self.wire)
        self.logs.append(log)
        rate = self.options.rate
        queue = _Queues([e.port for e in ends]) if self.options.gentle else None
        # datagrams between two looks at the clock or at the sockets
        step = 4096 if rate is None else max(1, round(rate * self.wire.packets * _TICK))
        if queue is not None:
            step = max(1, _GENTLE_BYTES // (2 * self.wire.size + 1024))
        began, sent = -math.inf, 0
        for rows in emissions(self.wire, self.frames, self.options, log):
            for at in range(0, len(rows), step):
                part = rows[at : at + step]
                if rate is not None:
                    # who is late goes on at the rate: detectors do not catch up in a burst
                    began = max(began, time.perf_counter() - sent / (rate * self.wire.packets) - _LATE)
                    due = began + sent / (rate * self.wire.packets)
                    if self._stop.wait(max(0.0, due - time.perf_counter())):
                        return
                if self._stop.is_set():
                    return
                if queue is not None:
                    queue.wait(self._stop)
                send(part)
                sent += len(part)

    def _sender(self, sock: socket.socket, ends: Sequence[Endpoint]) -> Any:
        wire = self.wire
        headers = np.ascontiguousarray(wire.headers[0])
        payloads = wire.payloads.reshape(-1, wire.payloads.shape[2])
        flag = (-1, 0) if wire.flag is None else wire.flag
        stamps = np.array(
            [wire.frame_id.offset, wire.frame_id.size, wire.frame_id.big_endian, *flag, *wire.guard], np.int64
        )
        names = np.zeros((len(ends), 16), np.uint8)
        for row, e in zip(names, ends, strict=True):
            row[:2] = np.frombuffer(np.uint16(socket.AF_INET).tobytes(), np.uint8)
            row[2:4] = np.frombuffer(e.port.to_bytes(2, "big"), np.uint8)
            row[4:8] = np.frombuffer(socket.inet_aton(e.host), np.uint8)
        out = k.Out(
            headers, payloads, names, stamps, np.zeros((_BATCH, headers.shape[1]), np.uint8),
            np.zeros((_BATCH, 4), np.uint64), np.zeros((_BATCH, 8), np.uint64),
            np.array([wire.packets], np.int64),
        )  # fmt: skip
        if sys.platform == "linux" and sys.maxsize > 2**32:
            fd = sock.fileno()

            def fast(rows: npt.NDArray[np.int64]) -> None:
                done = k.send(out, fd, rows)
                while done < len(rows) and not self._stop.wait(0.001):  # no buffers at this moment
                    done += k.send(out, fd, rows[done:])

            return fast

        def slow(rows: npt.NDArray[np.int64]) -> None:
            for row in rows:
                head, payload = k.stamp(out, 0, row)
                data = out.heads[0, :head].tobytes() + payloads[row[0], :payload].tobytes()
                e = ends[row[1]]
                sock.sendto(data, (e.host, e.port))

        return slow


def _parsed(end: Any) -> Endpoint:
    if isinstance(end, Endpoint):
        return end
    text, _, interface = str(end).removeprefix("udp://").partition(" on ")
    host, _, port = text.rpartition(":")
    return Endpoint(host, int(port), interface)


def _to_groups(sock: socket.socket, ends: Sequence[Endpoint]) -> None:
    """Send to multicast groups by the interface they name, and no further than one hop."""
    groups = [e for e in ends if is_multicast(e.host)]
    if groups:
        here = socket.inet_aton(interface_address(groups[0].interface))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)


class _Queues:
    """How much waits in the receiving sockets of this machine, as the kernel tells.

    Parameters
    ----------
    ports
        That are sent to.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = {f"{p:04X}" for p in ports}

    def waiting(self) -> int:
        """Return the bytes in the fullest socket."""
        most = 0
        with open("/proc/net/udp", encoding="ascii") as file:
            for line in file:
                words = line.split()
                if len(words) > 4 and words[1].rpartition(":")[2] in self._ports:
                    most = max(most, int(words[4].rpartition(":")[2], 16))
        return most

    def wait(self, stop: threading.Event) -> None:
        """Return when all sockets are nearly empty."""
        while self.waiting() > _GENTLE_BYTES and not stop.wait(0.0002):
            pass
