"""Live sources over UDP, and the stream of blocks that their datagrams become."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, StreamError
from framefold.io.live import kernels_receive as r
from framefold.io.live import kernels_state as k
from framefold.io.live.accounting import Evidence, require_balance, sector_stats
from framefold.io.live.core import BLOCK, REASONS, CoreSpec
from framefold.io.live.receiver import ProcessReceiver, ThreadReceiver
from framefold.io.live.registry import frames_wanted
from framefold.io.live.ring import Ring
from framefold.io.live.sockets import Endpoint
from framefold.io.live.udp_detector import UdpDetector as UdpDetector
from framefold.io.live.udp_ring import Wanted, core_spec
from framefold.io.live.url import LiveRequest
from framefold.udfcore.live import (
    AcquisitionEnd,
    AcquisitionStart,
    Block,
    EndReason,
    FirstFrame,
    Layout,
    LiveOptions,
    SectorSpec,
    SectorStats,
)  # fmt: skip


@dataclass(frozen=True)
class UdpSource:
    """A live source over UDP.

    Attributes
    ----------
    url, options, nav_shape, sync_offset
        See `LiveSource`.
    detector
        What is received.
    n_frames
        Of an acquisition; None: it has no end of its own.
    peer
        The only IPv4 address to listen to; empty: all.
    """

    url: str
    options: LiveOptions
    nav_shape: tuple[int, ...] | None
    sync_offset: int
    detector: UdpDetector
    n_frames: int | None
    peer: str = ""

    @classmethod
    def of(cls, request: LiveRequest, detector: UdpDetector, peer: str | None = None) -> UdpSource:
        """Return the source of a URL."""
        return cls(
            request.url, request.options, request.nav_shape, request.sync_offset, detector,
            frames_wanted(request), peer or "",
        )  # fmt: skip

    def bound_as(self, start: AcquisitionStart) -> UdpSource:
        """Return the source with the ports that were bound, where the URL left them open."""
        ports = {s.index: int(s.endpoint.rpartition(":")[2].split()[0]) for s in start.sectors}
        ends = tuple(replace(e, port=ports.get(i, e.port)) for i, e in enumerate(self.detector.endpoints))
        return replace(self, detector=replace(self.detector, endpoints=ends))

    def known(self) -> AcquisitionStart:
        """Return the geometry of all sectors."""
        return self._start(self.detector.sectors)

    def _start(self, sectors: tuple[SectorSpec, ...]) -> AcquisitionStart:
        d = self.detector
        first = self.options.first_frame
        return AcquisitionStart(
            self.n_frames, d.sig_shape, d.format.decoded_dtype, None, sectors, first, d.meta
        )

    def open(self, sectors: tuple[int, ...] | None = None) -> UdpStream:
        """Return the stream of these sectors (None: all) in this process."""
        chosen = range(len(self.detector.sectors)) if sectors is None else sectors
        for s in chosen:
            if not 0 <= s < len(self.detector.sectors):
                raise DataError(f"there is no sector {s}: {self.url} has {len(self.detector.sectors)}")
        return UdpStream(self, tuple(chosen))


class UdpStream:
    """Sectors of a detector that this process receives.

    Parameters
    ----------
    source
        What to receive.
    sectors
        Numbers of the sectors.
    compiled
        Receive in compiled code where the system has ``recvmmsg``.
    """

    def __init__(self, source: UdpSource, sectors: tuple[int, ...], *, compiled: bool = True) -> None:
        self.source, self._numbers, self._compiled = source, sectors, compiled
        self.sectors = tuple(source.detector.sectors[i] for i in sectors)
        self._ring: Ring | None = None
        self._receiver: ThreadReceiver | ProcessReceiver | None = None
        self._taken: dict[int, int] = {}
        self._lock = threading.Lock()
        self._frames, self._bitmap = 0, [0] * len(sectors)
        self._since = 0.0
        self._active = self._ended = self._asked = False
        self._resumed: int | None = None
        self._endpoints = tuple(source.detector.endpoints[i] for i in sectors)
        self._last_stats = tuple(SectorStats(s.index, s.endpoint) for s in self.sectors)

    # --- the protocol ------------------------------------------------------------------------

    def prepare(self, layout: Layout = "pieces") -> AcquisitionStart:
        """Bind the sockets and touch the memory; see `Stream.prepare`."""
        if self._receiver is not None:
            raise StreamError("the stream is prepared already: close it first")
        self._layout: Layout = layout
        spec = self._spec(layout)
        self._ring = spec.ring()
        kind = ProcessReceiver if self.source.options.receiver == "process" else ThreadReceiver
        try:
            self._receiver = kind(spec, self._ring)
        except BaseException:
            self.close()
            raise
        chosen = (self.source.detector.endpoints[i] for i in self._numbers)
        self._endpoints = tuple(replace(e, port=p) for e, p in zip(chosen, self._receiver.ports, strict=True))
        self.sectors = tuple(
            replace(s, endpoint=str(e)) for s, e in zip(self.sectors, self._endpoints, strict=True)
        )
        return self.source._start(self.sectors)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where the sectors are received, with the ports that were bound."""
        return self._endpoints

    def wait_start(self, timeout: float | None) -> AcquisitionStart:
        """Take the next acquisition; the geometry is fixed, so this returns at once."""
        ring = self._opened()
        self._frames, self._bitmap = 0, [0] * len(self._numbers)
        self._since, self._asked = time.monotonic(), False
        self._timeout = self.source.options.start_timeout if timeout is None else timeout
        self._active, self._ended = True, False
        control = ring.arrays["control"]
        control[r.STOP] = 0
        control[r.CANDIDATE] = k.NEVER
        if self._resumed is not None:
            control[r.KNOWN_FIRST], control[r.RESUME], self._resumed = self._resumed, 1, None
        elif control[r.HOLD]:
            control[r.KNOWN_FIRST] = -1
        control[r.ARM] = 1
        return self.source._start(self.sectors)

    def hold(self) -> bool:
        """Do not begin before `agree`; see `SharedStart.hold`."""
        if self.source.options.first_frame is not None:
            return False
        self._opened().arrays["control"][r.HOLD] = 1
        return True

    def candidate(self) -> FirstFrame | None:
        """Return the first frame as the own sectors see it; see `SharedStart.candidate`."""
        found = int(self._opened().arrays["control"][r.CANDIDATE])
        bits = min(self.source.detector.format.id_bits, 63)
        return None if found == k.NEVER else FirstFrame(found % 2**bits, bits)

    def agree(self, first: FirstFrame) -> None:
        """Begin with this frame; see `SharedStart.agree`."""
        self._opened().arrays["control"][r.KNOWN_FIRST] = first.id

    def first(self) -> FirstFrame | None:
        """Return the first frame of the acquisition that runs; see `SharedStart.first`."""
        run = self._opened().arrays["run"]
        bits = min(self.source.detector.format.id_bits, 63)
        return FirstFrame(int(run[k.FIRST]) % 2**bits, bits) if run[k.PHASE] == k.RUNNING else None

    def resume(self, first: FirstFrame) -> None:
        """Take the next acquisition from wherever it is; see `SharedStart.resume`."""
        self._resumed = first.id

    def next_block(self, timeout: float) -> Block | AcquisitionEnd | None:
        """Return the next closed block, the end, or None; see `Stream.next_block`."""
        self._opened()
        assert self._receiver is not None
        if not self._active:
            return None
        message = self._receiver.next(timeout)
        if message is None:
            self._require_sectors()
            return None
        if message[0] == BLOCK:
            return self._block(*message[1:])
        self._active, self._ended = False, True
        require_balance(zip(self.stats(), self._evidence(), strict=True))
        reason, last, first = REASONS[message[1]], *message[2:4]
        if last < 0:
            return AcquisitionEnd(reason, last, "nothing was received that belongs to it")
        return AcquisitionEnd(reason, last, "", first)

    def release(self, block: Block) -> None:
        """Give the memory of a block back; see `Stream.release`."""
        with self._lock:
            slot = self._taken.pop(block.index, -1)
            if slot >= 0 and self._ring is not None and self._ring.arrays:
                self._ring.arrays["slots"][slot] = 0

    def stop(self, reason: EndReason = "stopped") -> None:
        """End the acquisition; see `Stream.stop`."""
        if self._ring is not None and self._ring.arrays and self._active:
            self._ring.arrays["control"][r.STOP] = REASONS.index(reason) or len(REASONS)

    def stats(self) -> tuple[SectorStats, ...]:
        """Return the accounts; see `Stream.stats`."""
        if self._ring is None:
            return self._last_stats
        arrays = self._ring.arrays
        counters = arrays["final"] if self._ended else arrays["counters"]
        drops = arrays["drops"]
        lost = drops[:, 2] if self._ended else drops[:, 0] - drops[:, 1]
        fill = float(np.count_nonzero(arrays["slots"])) / len(arrays["slots"])
        names = [str(e) for e in self._endpoints]
        numbers = [s.index for s in self.sectors]
        return sector_stats(counters, names, numbers, lost.tolist(), [fill] * len(numbers))

    def datagrams(self) -> npt.NDArray[np.int64]:
        """Return how many datagrams were taken from each socket since it was bound."""
        return self._opened().arrays["counters"][:, k.DATAGRAMS].copy()

    def close(self) -> None:
        """Free sockets, memory and process; see `Stream.close`."""
        if self._receiver is not None:
            self._receiver.close()
            self._receiver = None
        if self._ring is not None:
            self._last_stats = self.stats()
            with self._lock:
                self._ring.close()
            self._ring = None
        self._active = False

    # --- inside ------------------------------------------------------------------------------

    def _opened(self) -> Ring:
        if self._ring is None:
            raise StreamError(f"{self.source.url} is not open: call prepare() first")
        return self._ring

    def _spec(self, layout: Layout) -> CoreSpec:
        src = self.source
        wanted = Wanted(src.detector, src.options, src.n_frames, src.peer, self._numbers)
        return core_spec(wanted, layout, compiled=self._compiled)

    def _block(
        self, index: int, first: int, n: int, slot: int, t_first: int, t_last: int, room: int
    ) -> Block:
        ring, d = self._opened(), self.source.detector
        raw = ring.slot(slot).view(d.format.decoded_dtype)
        data: tuple[npt.NDArray[Any], ...]
        if self._layout == "frames":
            size = math.prod(d.sig_shape)
            data = (raw[: n * size].reshape(n, *d.sig_shape),)
        else:
            parts, at = [], 0
            for s in self.sectors:
                size = len(s.pieces) * room * math.prod(s.pieces.shape)
                parts.append(raw[at : at + size].reshape(len(s.pieces), room, *s.pieces.shape)[:, :n])
                at += size
            data = tuple(parts)
        bits = ring.arrays["slot_bits"]
        valid = tuple(
            bits[slot, i, :n, : len(s.pieces)].view(bool) if slot >= 0 else np.zeros((n, len(s.pieces)), bool)
            for i, s in enumerate(self.sectors)
        )
        self._frames += n
        for i, v in enumerate(valid):
            self._bitmap[i] += int(np.count_nonzero(v))
        with self._lock:
            self._taken[index] = slot
        return Block(index, first, n, data, valid, t_first / 1e9, t_last / 1e9)

    def _evidence(self) -> list[Evidence]:
        unusable = self._opened().arrays["final"][:, k.UNUSABLE]
        return [
            Evidence(b, self._frames, len(s.pieces), int(u))
            for b, s, u in zip(self._bitmap, self.sectors, unusable, strict=True)
        ]

    def _require_sectors(self) -> None:
        """After `start_timeout`, fail if a sector has sent nothing of use."""
        if self._asked or self._timeout is None or time.monotonic() - self._since < self._timeout:
            return
        self._asked = True
        arrays = self._opened().arrays
        running = arrays["run"][k.PHASE] == k.RUNNING
        seen = arrays["sectors"][:, k.S_FLAGGED] != 0
        if running:
            seen = arrays["counters"][:, k.RECEIVED] > arrays["counters"][:, k.CORRUPT]
        silent = [i for i in range(len(self.sectors)) if not seen[i]]
        if not silent:
            return
        self.stop()
        lines = [
            f"  sector {self.sectors[i].index} at {self._endpoints[i]}: {self._heard(i)}" for i in silent
        ]
        raise StreamError(
            f"{self.source.url}: after {self._timeout:.3g} s these sectors have not begun\n"
            + "\n".join(lines)
        )

    def _heard(self, i: int) -> str:
        arrays = self._opened().arrays
        got = int(arrays["counters"][i, k.DATAGRAMS])
        if not got:
            return "nothing was received: check cabling, address, firewall and interface"
        length, status = (int(v) for v in arrays["odd"][i])
        size = self.source.detector.format.size
        if status in (1, 2):
            return f"{got} datagrams, the last one that was refused has {length} bytes, expected are {size}"
        if status == 3:
            return f"{got} datagrams, the last one that was refused has another header than was described"
        return f"{got} datagrams, none of them with the flag of an acquisition"
