"""Whole frames from sectors of several hosts: each block goes to one process, by sockets between workers."""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError
from framefold.executor.live_feed import check_accounts
from framefold.executor.shuffle_blocks import Owners, Part, Pending
from framefold.executor.shuffle_wire import (
    BYE,
    CONNECT_SECONDS,
    CREDIT,
    END,
    REVOKE,
    STRIPE,
    Address,
    Head,
    Listener,
    Peer,
    Wire,
    read_head,
    read_into,
)
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
IN_FLIGHT = 2  # blocks per pair of processes; more would only hide a slow owner until the rings are full
POLL_SECONDS = 0.05
KEPT = 4096  # numbers of blocks that are remembered in runs without an end


class ShuffleStream:
    """A `Stream` over all sectors, of which this process receives some: gives its share of blocks, whole.

    Parameters
    ----------
    local
        The sectors received here.
    rank, groups
        Number of this process, and for each process the positions of its sectors in `start`.
    start
        All sectors.
    wire
        How the processes reach one another.
    deadline
        Seconds to wait for stripes of a block that others have begun; also for room at its owner.
    owners
        Ranks that put blocks together; None: all.
    lost
        Ranks that were lost before.
    revoke
        A block of which one process cannot deliver its part is given up by all; else what comes is given out.

    Attributes
    ----------
    dropped
        For each sector (by number) pieces that arrived there, but not where their block was put together.
    """

    def __init__(
        self, local: Stream, rank: int, groups: Sequence[tuple[int, ...]], start: AcquisitionStart,
        wire: Wire, deadline: float, *, owners: Sequence[int] | None = None, lost: Iterable[int] = (),
        revoke: bool = True,
    ) -> None:  # fmt: skip
        self._local = local
        self._rank = rank
        self._groups = groups
        self._start = start
        self._wire = wire
        self._deadline = deadline
        self._revokes = revoke
        self.owners = Owners(range(len(groups)) if owners is None else owners, range(len(groups)), lost)
        self._peers: dict[int, Peer] = {}
        self._incoming: dict[int, socket.socket] = {}
        self._changed = threading.Condition()  # with the lock of everything below
        self._run = 0
        self._pending: dict[tuple[int, int], Pending] = {}
        self._given: dict[int, Pending] = {}
        # memory of stripes that are folded, by rank and frames: new memory costs more than reading into it
        self._spare: dict[tuple[int, int], list[Part]] = {}
        self._delivered: set[tuple[int, int]] = set()
        self._revoked: set[tuple[int, int]] = set()
        self._unsettled: dict[int, dict[int, Mapping[int, int]]] = {}  # by rank: sent, and not folded so far
        self._events: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._ended: set[tuple[int, int]] = set()
        self._gone: set[int] = set()
        self._end: AcquisitionEnd | None = None
        self._error: BaseException | None = None
        self._seen = [0] * len(groups[rank])
        self._last: int | None = None
        self._closed = False
        self._pumping: threading.Thread | None = None
        self.dropped: dict[int, int] = {}
        self._listener = Listener(wire, len(groups), self._receive)
        self.address = self._listener.address

    # --- connections -------------------------------------------------------------------------

    def connect(self, addresses: Mapping[int, Address]) -> None:
        """Connect to other processes, by rank, and wait until they are connected to this one.

        Raises
        ------
        StreamError
            If one does not answer.
        """
        others = {r: a for r, a in addresses.items() if r != self._rank}
        for rank, address in others.items():
            self._peers[rank] = Peer(self._wire, address, self._rank, IN_FLIGHT)
        with self._changed:
            if not self._changed.wait_for(lambda: others.keys() <= self._incoming.keys(), CONNECT_SECONDS):
                raise StreamError(f"not all workers connected to the shuffle within {CONNECT_SECONDS:g} s")

    def reconnect(self, rank: int, address: Address) -> None:
        """Connect to a process that takes the place of a lost one; it sends its part, and takes no blocks."""
        with self._changed:
            old = self._peers.pop(rank, None)
            self.owners.lost.add(rank)
        if old is not None:
            old.close()
        peer = Peer(self._wire, address, self._rank, IN_FLIGHT)
        with self._changed:
            self._peers[rank] = peer

    def _receive(self, sock: socket.socket, rank: int) -> None:
        """Take the messages of one process."""
        with self._changed:
            self._incoming[rank] = sock
            self._gone.discard(rank)
            self._ended.discard((self._run, rank))
            self._changed.notify_all()
        left = False
        try:
            while not left:
                left = self._message(sock, rank, read_head(sock))
        except OSError as exc:
            if not self._closed:
                log.warning("the shuffle lost the worker of rank %d: %s", rank, exc)
        with self._changed:
            if self._incoming.get(rank) is sock:  # not if it came back meanwhile
                self._lose(rank)
        self._events.put(None)

    def _lose(self, rank: int) -> None:
        """Do without a process; what was sent to it and not folded so far is lost."""
        self._gone.add(rank)
        self.owners.lost.add(rank)
        peer = self._peers.get(rank)
        if peer is not None:
            peer.lost()
        for pieces in self._unsettled.pop(rank, {}).values():
            self._drop(pieces)

    def _message(self, sock: socket.socket, rank: int, head: Head) -> bool:
        """Deal with one message; True: the other has closed."""
        key = (head.run, head.block)
        if head.kind == STRIPE:
            part = self._read_stripe(sock, rank, head)
            now = time.monotonic()
            times = now - head.age_first, now - head.age_last
            self._add(key, rank, part, head.first, head.frames, *times)
        elif head.kind == CREDIT:
            with self._changed:
                self._unsettled.get(rank, {}).pop(head.block, None)
            peer = self._peers.get(rank)
            if peer is not None:
                peer.behind = False
                peer.credits.release()
        elif head.kind == REVOKE:
            self._give_up(key, head.first, head.frames)
        elif head.kind == END:
            with self._changed:
                self._ended.add((head.run, rank))
        self._events.put(None)
        return head.kind == BYE

    def _read_stripe(self, sock: socket.socket, rank: int, head: Head) -> Part:
        n, specs = head.frames, [self._start.sectors[i] for i in self._groups[rank]]
        dtype = self._start.dtype
        shapes = [(len(s.pieces), n, *s.pieces.shape) for s in specs]
        flags = [(n, len(s.pieces)) for s in specs]
        size = sum(int(np.prod(s, dtype=object)) for s in shapes) * dtype.itemsize
        size += sum(a * b for a, b in flags)
        if head.nbytes != size:
            raise OSError(f"a stripe of {head.nbytes} bytes does not fit the geometry")
        with self._changed:
            spare = self._spare.get((rank, n))
            part = spare.pop() if spare else None
        if part is None:
            data, valid = [np.empty(s, dtype) for s in shapes], [np.empty(s, dtype=bool) for s in flags]
            part = Part(tuple(data), tuple(valid), source=rank)
        for array in (*part.data, *part.valid):
            read_into(sock, array)
        return part

    # --- blocks ------------------------------------------------------------------------------

    def _pieces(self, rank: int, valid: Sequence[Array]) -> dict[int, int]:
        """Return the valid pieces of a part by the number of their sector."""
        sectors = (self._start.sectors[i].index for i in self._groups[rank])
        return {s: int(np.count_nonzero(v)) for s, v in zip(sectors, valid, strict=True)}

    def _drop(self, pieces: Mapping[int, int]) -> None:
        for sector, n in pieces.items():
            if n:
                self.dropped[sector] = self.dropped.get(sector, 0) + n

    def _add(
        self, key: tuple[int, int], rank: int, part: Part, first: int, n: int, t0: float, t1: float
    ) -> None:
        with self._changed:
            p = self._pending.get(key)
            if p is not None and (p.first_frame, p.frames) != (first, n):
                self._error = self._error or StreamError(
                    f"block {key[1]} is frames {p.first_frame}..{p.first_frame + p.frames - 1} for one "
                    f"worker and {first}..{first + n - 1} for the one of rank {rank}: their streams disagree"
                )
            late = key in self._delivered or key[0] < self._run or self._error is not None
            if not late:
                p = p or self._pending.setdefault(key, Pending(first, n, t0, t1, time.monotonic()))
                p.parts[rank] = part
                p.t_first, p.t_last = min(p.t_first, t0), max(p.t_last, t1)
            elif key[0] >= self._run:
                self._drop(self._pieces(rank, part.valid))
        if late:
            self._done(part, key)
        self._events.put(None)

    def _give_up(self, key: tuple[int, int], first: int, n: int) -> None:
        """Do without a block, of which somebody could not deliver its part."""
        with self._changed:
            if key[0] < self._run or key in self._delivered:
                return
            self._revoked.add(key)
            if self.owners.of(key[1]) == self._rank:
                now = time.monotonic()
                self._pending.setdefault(key, Pending(first, n, now, now, now)).revoked = True

    def _pump(self) -> None:
        """Take the blocks of this process: keep those it owns, send the others to their owners."""
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
                with self._changed:
                    owner = self.owners.of(item.index)
                if owner == self._rank:
                    part = Part(item.data, item.valid, block=item)
                    key = (self._run, item.index)
                    self._add(key, owner, part, item.first_frame, item.frames, item.t_first, item.t_last)
                else:
                    self._send(owner, item)
                    self._local.release(item)
                if self._last is not None and item.first_frame + item.frames >= self._last:
                    self._local.stop("n_frames")
        except BaseException as exc:  # noqa: BLE001  # raised by next_block
            self._error = self._error or exc
        self._tell(Head(END, self._run))
        with self._changed:
            self._ended.add((self._run, self._rank))
        self._events.put(None)

    def _tell(self, head: Head) -> None:
        """Send a message to all others."""
        for peer in list(self._peers.values()):
            peer.send(head)

    def _send(self, owner: int, block: Block) -> None:
        key = (self._run, block.index)
        pieces = self._pieces(self._rank, block.valid)
        with self._changed:
            if key in self._revoked:
                self._drop(pieces)
                return
            peer = self._peers.get(owner)
        # whoever was late once is not waited for again before it has caught up: that would hold up all others
        patience = 0.0 if peer is None or peer.behind else self._deadline
        if peer is None or not self._may_send(peer, key, patience):
            with self._changed:
                self._drop(pieces)
            if peer is not None and peer.alive and key not in self._revoked:
                peer.behind = True
                if self._revokes:
                    self._tell(Head(REVOKE, *key, block.first_frame, block.frames))
            return
        with self._changed:
            self._unsettled.setdefault(owner, {})[block.index] = pieces
        arrays = [np.ascontiguousarray(a) for a in (*block.data, *block.valid)]
        now = time.monotonic()
        head = Head(
            STRIPE, *key, block.first_frame, block.frames, now - block.t_first, now - block.t_last,
            sum(a.nbytes for a in arrays),
        )  # fmt: skip
        if not peer.send(head, arrays):
            with self._changed:
                self._drop(self._unsettled.get(owner, {}).pop(block.index, {}))

    def _may_send(self, peer: Peer, key: tuple[int, int], patience: float) -> bool:
        """Wait for room at the other end, unless it is gone, or the block is given up meanwhile."""
        until = time.monotonic() + patience
        while peer.alive and key not in self._revoked:
            left = max(0.0, until - time.monotonic())
            if peer.credits.acquire(timeout=min(left, POLL_SECONDS)):
                return peer.alive
            if not left:
                return False
        return False

    def _done(self, part: Part, key: tuple[int, int]) -> None:
        if part.block is not None:
            self._local.release(part.block)
        if part.source is None:
            return
        if part.valid:
            with self._changed:
                spare = self._spare.setdefault((part.source, len(part.valid[0])), [])
                if len(spare) <= IN_FLIGHT:
                    spare.append(part)
        peer = self._peers.get(part.source)
        if peer is not None:
            peer.send(Head(CREDIT, *key))

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
        with self._changed:
            self._run += 1  # stripes of it may be here already: others began earlier
            self._end, self._seen, self.dropped = None, [0] * len(self._seen), {}
            for key in [k for k in self._pending if k[0] < self._run]:
                self._pending.pop(key)
            self._delivered = {k for k in self._delivered if k[0] >= self._run}
            self._revoked = {k for k in self._revoked if k[0] >= self._run}
            self._unsettled.clear()
        self._pumping = threading.Thread(target=self._pump, name="framefold-shuffle", daemon=True)
        self._pumping.start()
        return self._start

    def rejoin(self, run: int) -> None:
        """Take part in acquisition number `run`, which the others have begun; call it before `wait_start`."""
        self._run = run - 1

    @property
    def run(self) -> int:
        """Number of the acquisition."""
        return self._run

    def next_block(self, timeout: float) -> Block | AcquisitionEnd | None:
        """Return the next block whose parts are together, or whose deadline has passed."""
        until = time.monotonic() + timeout
        while True:
            if self._error is not None:
                raise self._error
            found = self._next()
            if found is not None:
                return found
            left = until - time.monotonic()
            if left <= 0:
                return None
            with contextlib.suppress(queue.Empty):
                self._events.get(timeout=min(left, POLL_SECONDS))

    def _next(self) -> Block | AcquisitionEnd | None:
        with self._changed:
            ended = self._gone | {rank for run, rank in self._ended if run == self._run}
            missing = set(range(len(self._groups))) - ended
            now = time.monotonic()
            key = min((key for key in self._pending if key[0] == self._run), default=None)
            if key is not None:  # in order: a later one waits for those before
                p = self._pending[key]
                # a stripe of somebody who has ended does not come any more
                waits = any(r not in p.parts for r in missing)
                if not waits or p.revoked or now - p.since > self._deadline + POLL_SECONDS:
                    del self._pending[key]
                    self._given[key[1]] = p
                    self._delivered.add(key)
                    if len(self._delivered) > KEPT:  # of a run without an end
                        newest = key[1] - KEPT // 2
                        self._delivered = {i for i in self._delivered if i[1] > newest}
                        self._revoked = {i for i in self._revoked if i[1] > newest}
                    return self._whole(key[1], p)
            return self._end if not missing else None

    def _whole(self, k: int, p: Pending) -> Block:
        data: list[Array] = []
        valid: list[Array] = []
        for i, spec in enumerate(self._start.sectors):
            rank = next(r for r, own in enumerate(self._groups) if i in own)
            part = p.parts.get(rank)
            if part is not None and not p.revoked:
                at = self._groups[rank].index(i)
                data.append(part.data[at])
                valid.append(part.valid[at])
            else:
                data.append(np.zeros((len(spec.pieces), p.frames, *spec.pieces.shape), self._start.dtype))
                valid.append(np.zeros((p.frames, len(spec.pieces)), dtype=bool))
        if p.revoked:
            for rank, part in p.parts.items():
                self._drop(self._pieces(rank, part.valid))
        return Block(k, p.first_frame, p.frames, tuple(data), tuple(valid), p.t_first, p.t_last)

    def release(self, block: Block) -> None:
        """Give the own ring its slot back, and the others their credit."""
        with self._changed:
            p = self._given.pop(block.index)
        for part in p.parts.values():
            self._done(part, (self._run, block.index))

    def stop(self, reason: EndReason = "stopped") -> None:
        """End the acquisition here."""
        self._local.stop(reason)

    def stats(self) -> tuple[SectorStats, ...]:
        """Return the accounts of the own sectors."""
        return self._local.stats()

    def close(self) -> None:
        """Close the connections, not the local stream."""
        self._closed = True
        if not self._error:
            self._tell(Head(BYE, self._run))
        with self._changed:
            incoming = list(self._incoming.values())
        for peer in self._peers.values():
            peer.close()
        for sock in incoming:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._pumping is not None and self._pumping is not threading.current_thread():
            self._pumping.join(CONNECT_SECONDS)
