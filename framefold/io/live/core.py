"""Receives the datagrams of all sectors of a process: what runs in the receiver's process or thread."""

from __future__ import annotations

import select
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from framefold.errors import StreamError
from framefold.io.live import kernels_blocks as blocks
from framefold.io.live import kernels_election as election
from framefold.io.live import kernels_receive as r
from framefold.io.live import kernels_state as k
from framefold.io.live.ring import Ring
from framefold.io.live.sockets import Endpoint, bind, buffer_advice, granted_buffer, kernel_drops
from framefold.io.live.window import COUNTERS, Limits, new_state, plan_from, shared_arrays, take_notices
from framefold.udfcore.live import EndReason

# what is sent: eight numbers
BLOCK, END = 1, 2
MESSAGE_WORDS = 8
IDLE = 3
# those of the window are 1 and 2; the word `STOP` holds one of them, or their number for the first
REASONS: tuple[EndReason, ...] = ("error", "n_frames", "restart", "idle", "stopped", "end-message")

_STEP = 0.05
_PAUSE = 250_000_000  # ns: five steps
_BATCH_BYTES = 512 << 10  # of datagrams, to stay in the second-level cache


@dataclass(frozen=True)
class CoreSpec:
    """Everything a receiver needs to know, as plain numbers: it travels as JSON.

    Attributes
    ----------
    endpoints
        Host, port and interface of each sector.
    table
        Packet format, see `PacketFormat.table`.
    size
        Bytes of a datagram.
    offsets
        Of each piece of each sector, bytes; see `kernels_receive.Places`.
    layout
        See `kernels_receive.Places`.
    flips
        Per sector, whether its rows are stored upside down.
    pieces, slots, block, room, frames, id_bits, deadline, flag_lag
        Of the window, see `window.Limits`.
    idle_timeout
        Seconds without a packet that end an acquisition.
    first_frame
        Id of the first frame; None: elected.
    block_time
        Seconds of frames in a block: it follows the rate that is measured; 0: it stays as it is.
    buffer_bytes
        Wanted for each socket.
    rate
        Bytes per second expected in each socket.
    peer
        The only IPv4 address to listen to; empty: all.
    kept
        Datagrams to keep aside until the first frame is known.
    compiled
        Receive by ``recvmmsg`` in compiled code where the system has it, else socket by socket in Python.
    """

    endpoints: list[list[Any]]
    table: list[int]
    size: int
    offsets: list[list[int]]
    layout: list[int]
    flips: list[int]
    pieces: list[int]
    slots: int
    block: int
    room: int
    frames: int | None
    id_bits: int
    deadline: float
    flag_lag: int
    idle_timeout: float
    first_frame: int | None
    block_time: float
    buffer_bytes: int
    rate: float
    peer: str = ""
    kept: int = 256
    compiled: bool = True

    @property
    def limits(self) -> Limits:
        """Sizes of the window."""
        return Limits(
            tuple(self.pieces), self.slots, self.block, self.room, self.frames, self.id_bits, self.deadline,
            self.flag_lag,
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def ring(self, fd: int | None = None) -> Ring:
        """Make the shared memory, or attach to it."""
        s = len(self.pieces)
        arrays = {
            "control": ((8,), np.int64), **shared_arrays(self.limits), "final": ((s, COUNTERS), np.int64),
            "drops": ((s, 3), np.int64), "odd": ((s, 2), np.int64),
        }  # fmt: skip
        return Ring(arrays, self.slots, self.layout[4], fd)


def has_recvmmsg() -> bool:
    """Return whether this system has ``recvmmsg`` as the compiled loop calls it."""
    return sys.platform == "linux" and sys.maxsize > 2**32 and sys.byteorder == "little"


@dataclass
class Core:
    """Sockets and state of a receiver.

    Parameters
    ----------
    spec
        What to receive.
    ring
        Where to.
    send
        Called with eight numbers for every closed block and every end.
    """

    spec: CoreSpec
    ring: Ring
    send: Callable[[tuple[int, ...]], None]
    sockets: list[socket.socket] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def open(self) -> None:
        """Bind the sockets and make everything ready, compiled code included.

        Raises
        ------
        StreamError
            If a socket cannot be bound; then none stays open.
        """
        spec = self.spec
        try:
            for host, port, interface in spec.endpoints:
                sock = bind(Endpoint(host, port, interface), spec.buffer_bytes)
                self.sockets.append(sock)
                advice = buffer_advice(spec.buffer_bytes, granted_buffer(sock), spec.rate)
                if advice and advice not in self.warnings:
                    self.warnings.append(advice)
        except StreamError:
            self.close()
            raise
        arrays = self.ring.arrays
        self._state = new_state(spec.limits, arrays)
        self._places = r.Places(
            np.array(spec.table, np.int64), np.array(spec.offsets, np.int64), np.array(spec.layout, np.int64),
            np.array(spec.flips, np.int64), self.ring.memory, self.ring.starts,
        )  # fmt: skip
        s, size = len(spec.pieces), spec.size
        self._stage = r.Stage(
            np.zeros((spec.kept, size), np.uint8), np.zeros((spec.kept, 2), np.int64), np.zeros(2, np.int64),
            np.zeros((s, k.PROOF, size), np.uint8), arrays["odd"],
        )  # fmt: skip
        self._control = arrays["control"]
        self._control[r.KNOWN_FIRST] = -1 if spec.first_frame is None else spec.first_frame
        self._net = self._buffers()
        self._compiled = spec.compiled and has_recvmmsg()
        if not self._compiled:
            self.warnings.append(
                "datagrams are received one by one in Python: this system has no recvmmsg. Rates above some "
                "10^4 datagrams/s are not to be expected"
            )
        self._rate = _Rate()
        self._cycled = 0
        self._once(0.0)
        self._warm()

    def _warm(self) -> None:
        """Compile, or load from the cache, what is first called when an acquisition ends."""
        state, stage = self._state, self._stage
        blocks.finish(state)
        r.give_back(state, stage)
        r.discard_stage(state, stage)
        state.run[k.REASON] = k.BY_RESTART  # no stragglers to wait for
        election.prepare_next(state, 0, -1 if self.spec.frames is None else self.spec.frames)
        r.reconsider(state, self._places, stage, 0)

    def _buffers(self) -> r.Net:
        size = self.spec.size
        n = int(np.clip(_BATCH_BYTES // size, 4, 32))
        batch = np.zeros((n, size + 1), np.uint8)
        names, headers = np.zeros((n, 16), np.uint8), np.zeros((n, 8), np.uint64)
        vectors = np.zeros((n, 2), np.uint64)
        for i in range(n):
            vectors[i] = batch[i].ctypes.data, size + 1
            headers[i, :4] = 0, 0, vectors[i].ctypes.data, 1
            if self.spec.peer:
                headers[i, :2] = names[i].ctypes.data, 16
        self._vectors = vectors  # the headers point there
        fds = [sock.fileno() for sock in self.sockets]
        polls = np.array([[fd, select.POLLIN if hasattr(select, "POLLIN") else 1] for fd in fds], np.int32)
        peer = int.from_bytes(socket.inet_aton(self.spec.peer), "big") if self.spec.peer else -1
        return r.Net(
            np.array(fds, np.int32), polls, headers, names, batch, np.zeros(n, np.int64),
            np.zeros(2, np.int64), np.array([peer], np.int64),
        )  # fmt: skip

    @property
    def ports(self) -> list[int]:
        """The ports that are bound."""
        return [sock.getsockname()[1] for sock in self.sockets]

    def run(self) -> None:
        """Receive until the word `QUIT` is set."""
        while not self._control[r.QUIT]:
            self.cycle()

    def cycle(self) -> None:
        """Receive for a moment, and send what has closed or ended."""
        state, control, run = self._state, self._control, self._state.run
        if control[r.ARM] and run[k.PHASE] == k.WAITING:
            run[k.ARMED], control[r.ARM] = 1, 0
        self._once(_STEP)
        now = time.monotonic_ns()
        if self._cycled and now - self._cycled > _PAUSE:
            # this process was stopped: that is no silence of the detector
            run[k.T_ANY] = min(now, run[k.T_ANY] + now - self._cycled)
        self._cycled = now
        self._read_drops()
        reason = -1
        if control[r.STOP] != 0 and run[k.ARMED]:
            reason, control[r.STOP] = int(control[r.STOP]) % len(REASONS), 0
        elif run[k.PHASE] == k.RUNNING and self._is_idle(now):
            reason = IDLE
        if reason >= 0 and run[k.PHASE] == k.RUNNING:
            blocks.finish(state)
            run[k.REASON] = reason
        elif reason >= 0 and run[k.PHASE] == k.WAITING:
            r.discard_stage(state, self._stage)
            run[k.PHASE], run[k.REASON], run[k.LAST_FRAME] = k.ENDED, reason, -1
        self._send_blocks(now)
        if run[k.PHASE] == k.ENDED:
            r.give_back(state, self._stage)
            self._end(now)

    def _is_idle(self, now: int) -> bool:
        run = self._state.run
        heard = bool(self._state.counters[:, k.RECEIVED].any())
        return heard and now - run[k.T_ANY] > self.spec.idle_timeout * 1e9 and not self._state.run[k.REPLAY]

    def _once(self, seconds: float) -> None:
        if self._compiled:
            r.receive(self._state, self._places, self._stage, self._net, self._control, seconds)
        else:
            self._receive_in_python(seconds)

    def _receive_in_python(self, seconds: float) -> None:
        state, net = self._state, self._net
        ready, _, _ = select.select(self.sockets, [], [], min(seconds, 0.01))
        full = False
        for i, sock in enumerate(self.sockets):
            if sock not in ready:
                continue
            count = self._fill(sock)
            full = full or count == len(net.batch)
            now = time.monotonic_ns()
            r.ingest(state, self._places, self._stage, self._control, net.batch, net.lengths, count, i, now)
        if not full:
            r.step(state, self._places, self._stage, self._control, time.monotonic_ns())

    def _fill(self, sock: socket.socket) -> int:
        net, count = self._net, 0
        while count < len(net.batch):
            try:
                got, address = sock.recvfrom_into(net.batch[count])
            except BlockingIOError:
                break
            net.lengths[count] = -1 if self.spec.peer and address[0] != self.spec.peer else got
            count += 1
        return count

    def _send_blocks(self, now: int) -> None:
        for block, first, frames, slot, t_first, t_last, room in take_notices(self._state):
            self.send((BLOCK, block, first, frames, slot, t_first, t_last, room))
            self._rate.add(frames, now)
        if self.spec.block_time and self._state.run[k.PHASE] == k.RUNNING:
            self._follow_rate()

    def _follow_rate(self) -> None:
        """Choose the size of future blocks by the rate that is measured, and by how full the ring is."""
        state = self._state
        if state.plan[1, 0] != k.NEVER:
            return
        current, slots = int(state.plan[0, 2]), len(state.slots)
        busy = int(np.count_nonzero(state.slots))
        if 2 * busy > slots:
            # folding cannot keep up: larger blocks cost less per frame
            wanted = 2 * current
        elif self._rate.fps is None:
            return
        else:
            wanted = round(self.spec.block_time * self._rate.fps)
        wanted = int(np.clip(wanted, 1, self.spec.room))
        if wanted < current and 4 * busy > slots:
            return
        # small differences are not worth a change
        if wanted > 1.5 * current or current > 1.5 * wanted:
            plan_from(state, int(state.run[k.TOP]) + 1, wanted)
            self._rate = _Rate()

    def _read_drops(self) -> None:
        drops = self.ring.arrays["drops"]
        for i, sock in enumerate(self.sockets):
            drops[i, 0] = kernel_drops(sock)

    def _end(self, now: int) -> None:
        state, arrays = self._state, self.ring.arrays
        reason, last = int(state.run[k.REASON]), int(state.run[k.LAST_FRAME])
        drops = arrays["drops"]
        arrays["final"][...] = state.counters
        drops[:, 2], drops[:, 1] = drops[:, 0] - drops[:, 1], drops[:, 0]
        first = int(state.run[k.FIRST]) % 2 ** min(self.spec.id_bits, 63)
        self.send((END, reason, last, first, 0, 0, 0, 0))
        frames = -1 if self.spec.frames is None else self.spec.frames
        election.prepare_next(state, now, frames)
        state.plan[0, 2] = state.plan[1, 2] = self.spec.block
        self._rate = _Rate()
        r.reconsider(state, self._places, self._stage, now)

    def close(self) -> None:
        """Close the sockets."""
        for sock in self.sockets:
            sock.close()
        self.sockets = []


class _Rate:
    """Frames per second over the last quarter of a second or more."""

    def __init__(self) -> None:
        self._since: int | None = None
        self._frames = 0
        self.fps: float | None = None

    def add(self, frames: int, now: int) -> None:
        """Count `frames` that were handed out at `now` ns."""
        if self._since is None:
            self._since = now
            return
        self._frames += frames
        seconds = (now - self._since) / 1e9
        if seconds > 0.25:
            self.fps = self._frames / seconds
            self._since, self._frames = now, 0
