"""Whole frames from sectors of several hosts: block k goes to process k mod n, by sockets between workers."""

from __future__ import annotations

import contextlib
import hmac
import logging
import queue
import secrets
import socket
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError
from framefold.executor.live_feed import check_accounts
from framefold.udfcore.live import (
    AcquisitionEnd,
    AcquisitionStart,
    Block,
    EndReason,
    Layout,
    SectorStats,
    Stream,
)

log = logging.getLogger("framefold")
Array = npt.NDArray[Any]

# kind, acquisition, block, first frame, frames, ages of first and last packet, payload
_HEADER = struct.Struct("<BqqqqddQ")
_STRIPE, _END = 1, 2
_ACK = b"\x06"
TOKEN_BYTES = 32
IN_FLIGHT = 2  # blocks per pair of processes; more would only hide a slow owner until the rings are full
CONNECT_SECONDS = 30.0
HELLO_SECONDS = 3.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Address:
    """Where a process takes stripes, and the secret that a sender must show."""

    host: str
    port: int
    token: bytes


@dataclass
class _Part:
    """What one process contributes to a block."""

    data: tuple[Array, ...]
    valid: tuple[Array, ...]
    block: Block | None = None  # of the own ring
    credit: socket.socket | None = None  # who may send another stripe when this one is done


@dataclass
class _Pending:
    """A block whose parts are coming together."""

    first_frame: int
    frames: int
    t_first: float
    t_last: float
    since: float
    parts: dict[int, _Part] = field(default_factory=dict)


@dataclass(eq=False)
class _Peer:
    """Somebody to send to."""

    sock: socket.socket
    credits: threading.Semaphore
    alive: bool = True


class ShuffleStream:
    """A `Stream` over all sectors, of which this process receives some: gives every n-th block, whole.

    Parameters
    ----------
    local
        The sectors received here.
    rank, groups
        Number of this process, and for each process the positions of its sectors in `start`.
    start
        All sectors.
    host
        Where to listen; loopback, or the address under which workers see one another.
    deadline
        Seconds to wait for stripes of a block that others have begun; also for room at its owner.
    """

    def __init__(
        self, local: Stream, rank: int, groups: Sequence[tuple[int, ...]], start: AcquisitionStart,
        host: str, deadline: float,
    ) -> None:  # fmt: skip
        self._local = local
        self._rank = rank
        self._groups = groups
        self._start = start
        self._deadline = deadline
        self._token = secrets.token_bytes(TOKEN_BYTES)
        self._listener = socket.create_server((host, 0))
        self.address = Address(host, self._listener.getsockname()[1], self._token)
        self._peers: dict[int, _Peer] = {}
        self._incoming: list[socket.socket] = []
        self._lock = threading.Lock()
        self._run = 0
        self._pending: dict[tuple[int, int], _Pending] = {}
        self._given: dict[int, _Pending] = {}
        self._delivered: set[tuple[int, int]] = set()
        self._events: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._ended: set[tuple[int, int]] = set()
        self._gone: set[int] = set()
        self._end: AcquisitionEnd | None = None
        self._error: BaseException | None = None
        self._seen = [0] * len(groups[rank])
        self._last: int | None = None
        self._closed = False
        self._threads: list[threading.Thread] = []
        self.late = 0

    # --- connections -------------------------------------------------------------------------

    def connect(self, addresses: Sequence[Address]) -> None:
        """Connect to all other processes and wait until they are connected to this one.

        Raises
        ------
        StreamError
            If one does not answer.
        """
        thread = self._spawn(self._accept, len(addresses) - 1)
        for rank, address in enumerate(addresses):
            if rank == self._rank:
                continue
            try:
                sock = socket.create_connection((address.host, address.port), CONNECT_SECONDS)
            except OSError as exc:
                raise StreamError(
                    f"the shuffle cannot reach the worker at {address.host}:{address.port}: {exc}"
                ) from exc
            sock.settimeout(None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(address.token + struct.pack("<q", self._rank))
            self._peers[rank] = _Peer(sock, threading.Semaphore(IN_FLIGHT))
            self._spawn(self._take_credits, self._peers[rank])
        thread.join(CONNECT_SECONDS)
        if thread.is_alive():
            raise StreamError(f"not all workers connected to the shuffle within {CONNECT_SECONDS:g} s")

    def _spawn(self, target: Any, *args: Any) -> threading.Thread:
        thread = threading.Thread(target=target, args=args, name="framefold-shuffle", daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self, n: int) -> None:
        while len(self._incoming) < n and not self._closed:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(HELLO_SECONDS)
            with contextlib.suppress(OSError):
                hello = _read(sock, TOKEN_BYTES + 8)
                rank = struct.unpack("<q", hello[TOKEN_BYTES:])[0]
                if hmac.compare_digest(hello[:TOKEN_BYTES], self._token) and 0 <= rank < len(self._groups):
                    sock.settimeout(None)
                    self._incoming.append(sock)
                    self._spawn(self._receive, sock, rank)
                    continue
            sock.close()  # a stranger

    def _take_credits(self, peer: _Peer) -> None:
        with contextlib.suppress(OSError):
            while peer.sock.recv(1):
                peer.credits.release()
        peer.alive = False
        peer.credits.release()

    def _receive(self, sock: socket.socket, rank: int) -> None:
        """Take the stripes of one process."""
        try:
            while True:
                kind, run, k, first, n, age0, age1, nbytes = _HEADER.unpack(_read(sock, _HEADER.size))
                if kind == _END:
                    with self._lock:
                        self._ended.add((run, rank))
                    self._events.put(None)
                    continue
                part = self._read_stripe(sock, rank, n, nbytes)
                part.credit = sock
                now = time.monotonic()
                self._add((run, k), rank, part, first, n, now - age0, now - age1)
        except OSError as exc:
            if not self._closed:
                log.warning("the shuffle lost the worker of rank %d: %s", rank, exc)
        with self._lock:
            self._gone.add(rank)
        self._events.put(None)

    def _read_stripe(self, sock: socket.socket, rank: int, n: int, nbytes: int) -> _Part:
        specs = [self._start.sectors[i] for i in self._groups[rank]]
        dtype = self._start.dtype
        data = [np.empty((len(s.pieces), n, *s.pieces.shape), dtype) for s in specs]
        valid = [np.empty((n, len(s.pieces)), dtype=bool) for s in specs]
        if nbytes != sum(a.nbytes for a in (*data, *valid)):
            raise OSError(f"a stripe of {nbytes} bytes does not fit the geometry")
        for array in (*data, *valid):
            _read_into(sock, array)
        return _Part(tuple(data), tuple(valid))

    # --- blocks ------------------------------------------------------------------------------

    def _add(
        self, key: tuple[int, int], rank: int, part: _Part, first: int, n: int, t0: float, t1: float
    ) -> None:
        with self._lock:
            late = key in self._delivered or key[0] < self._run
            if not late:
                p = self._pending.setdefault(key, _Pending(first, n, t0, t1, time.monotonic()))
                p.parts[rank] = part
                p.t_first, p.t_last = min(p.t_first, t0), max(p.t_last, t1)
        if late:
            self.late += sum(int(np.count_nonzero(v)) for v in part.valid)
            self._done(part)
        self._events.put(None)

    def _pump(self) -> None:
        """Take the blocks of this process: keep every n-th, send the others to their owners."""
        try:
            while not self._closed:
                item = self._local.next_block(POLL_SECONDS)
                if isinstance(item, AcquisitionEnd):
                    check_accounts(self._local.stats(), self._seen)
                    self._end = item
                    break
                if item is None:
                    continue
                for i, flags in enumerate(item.valid):
                    self._seen[i] += int(np.count_nonzero(flags))
                owner = item.index % len(self._groups)
                if owner == self._rank:
                    part = _Part(item.data, item.valid, block=item)
                    self._add(
                        (self._run, item.index),
                        owner,
                        part,
                        item.first_frame,
                        item.frames,
                        item.t_first,
                        item.t_last,
                    )
                else:
                    self._send(self._peers[owner], item)
                    self._local.release(item)
                if self._last is not None and item.first_frame + item.frames >= self._last:
                    self._local.stop("n_frames")
        except BaseException as exc:  # noqa: BLE001  # raised by next_block
            self._error = exc
        for peer in self._peers.values():
            with contextlib.suppress(OSError):
                peer.sock.sendall(_HEADER.pack(_END, self._run, 0, 0, 0, 0.0, 0.0, 0))
        with self._lock:
            self._ended.add((self._run, self._rank))
        self._events.put(None)

    def _send(self, peer: _Peer, block: Block) -> None:
        arrays = [np.ascontiguousarray(a) for a in (*block.data, *block.valid)]
        if not peer.alive or not peer.credits.acquire(timeout=self._deadline):
            self.late += sum(int(np.count_nonzero(v)) for v in block.valid)
            return
        now = time.monotonic()
        head = _HEADER.pack(
            _STRIPE, self._run, block.index, block.first_frame, block.frames, now - block.t_first,
            now - block.t_last, sum(a.nbytes for a in arrays),
        )  # fmt: skip
        try:
            peer.sock.sendall(head)
            for array in arrays:
                peer.sock.sendall(array.reshape(-1).view(np.uint8).data)
        except OSError:
            peer.alive = False
            self.late += sum(int(np.count_nonzero(v)) for v in block.valid)

    def _done(self, part: _Part) -> None:
        if part.block is not None:
            self._local.release(part.block)
        if part.credit is not None:
            with contextlib.suppress(OSError):
                part.credit.sendall(_ACK)

    # --- Stream ------------------------------------------------------------------------------

    def end_with(self, frame: int | None) -> None:
        """End the acquisition when the block with this frame has come; None: when the detector says so."""
        self._last = frame

    def prepare(self, layout: Layout = "pieces") -> AcquisitionStart | None:
        """Nothing to do: the local stream is prepared."""
        return self._start

    def wait_start(self, timeout: float | None) -> AcquisitionStart:
        """Begin."""
        self._local.wait_start(timeout)
        with self._lock:
            self._run += 1  # stripes of it may be here already: others began earlier
            self._end, self._seen, self.late = None, [0] * len(self._seen), 0
            for key in [k for k in self._pending if k[0] < self._run]:
                self._pending.pop(key)
            self._delivered.clear()
        self._spawn(self._pump)
        return self._start

    def next_block(self, timeout: float) -> Block | AcquisitionEnd | None:
        """Return the next block whose parts are together, or whose deadline has passed."""
        until = time.monotonic() + timeout
        while True:
            if self._error is not None:
                raise self._error
            with self._lock:
                ended = self._gone | {rank for run, rank in self._ended if run == self._run}
                missing = set(range(len(self._groups))) - ended
                over = not missing
                now = time.monotonic()
                mine = sorted(key for key in self._pending if key[0] == self._run)
                for key in mine:
                    p, k = self._pending[key], key[1]
                    # a stripe of somebody who has ended does not come any more
                    waits = any(r in missing and r not in p.parts for r in range(len(self._groups)))
                    if not waits or over or now - p.since > self._deadline + POLL_SECONDS:
                        del self._pending[key]
                        self._given[k] = p
                        self._delivered.add(key)
                        if len(self._delivered) > 4096:  # of a run without an end
                            self._delivered = {i for i in self._delivered if i[1] > k - 2048}
                        return self._whole(k, p)
                if over and self._end is not None:
                    return self._end
            left = until - time.monotonic()
            if left <= 0:
                return None
            with contextlib.suppress(queue.Empty):
                self._events.get(timeout=min(left, POLL_SECONDS))

    def _whole(self, k: int, p: _Pending) -> Block:
        data: list[Array] = []
        valid: list[Array] = []
        for i, spec in enumerate(self._start.sectors):
            rank = next(r for r, own in enumerate(self._groups) if i in own)
            part = p.parts.get(rank)
            if part is not None:
                at = self._groups[rank].index(i)
                data.append(part.data[at])
                valid.append(part.valid[at])
            else:
                data.append(np.zeros((len(spec.pieces), p.frames, *spec.pieces.shape), self._start.dtype))
                valid.append(np.zeros((p.frames, len(spec.pieces)), dtype=bool))
        return Block(k, p.first_frame, p.frames, tuple(data), tuple(valid), p.t_first, p.t_last)

    def release(self, block: Block) -> None:
        """Give the own ring its slot back, and the others their credit."""
        with self._lock:
            p = self._given.pop(block.index)
        for part in p.parts.values():
            self._done(part)

    def stop(self, reason: EndReason = "stopped") -> None:
        """End the acquisition here."""
        self._local.stop(reason)

    def stats(self) -> tuple[SectorStats, ...]:
        """Return the accounts of the own sectors."""
        return self._local.stats()

    def close(self) -> None:
        """Close the connections, not the local stream."""
        self._closed = True
        for sock in (self._listener, *self._incoming, *(p.sock for p in self._peers.values())):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(CONNECT_SECONDS)


def _read(sock: socket.socket, n: int) -> bytes:
    out = np.empty(n, dtype=np.uint8)
    _read_into(sock, out)
    return out.tobytes()


def _read_into(sock: socket.socket, array: Array) -> None:
    view: memoryview = array.reshape(-1).view(np.uint8).data
    while view.nbytes:
        got = sock.recv_into(view)
        if not got:
            raise OSError("the connection was closed")
        view = view[got:]
