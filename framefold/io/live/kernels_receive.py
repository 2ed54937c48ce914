"""The loop that receives datagrams: recvmmsg, header, fate, pixels in place; no Python object per packet.

``recvmmsg`` and ``poll`` are called as external functions of the compiled code, which, other than a pointer
from ctypes, can be cached on disk.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from framefold.io.live.kernels_blocks import (
    expire,
    finish,
    settle,
    undo,
)
from framefold.io.live.kernels_election import (
    begin,
    catch_up,
    consider,
    elected,
    lift_barrier,
)
from framefold.io.live.kernels_fate import (
    accept,
)
from framefold.io.live.kernels_packet import LONG, OK, PAYLOAD, parse, place
from framefold.io.live.kernels_state import (
    ARMED,
    BY_RESTART,
    BYTES,
    CORRUPT,
    DATAGRAMS,
    ENDED,
    FIRST,
    FOREIGN,
    HAS_REF,
    LATE,
    NOTICES,
    PHASE,
    PROOF,
    REASON,
    RECEIVED,
    REPLAY,
    RESTARTED,
    RUNNING,
    S_CANDIDATES_LATE,
    S_LEFT,
    S_STREAK,
    SECTORS,
    T_LEFT,
    VALID,
    WAITING,
    State,
    inner,
    kernel,
)

# control words
STOP, ARM, QUIT, KNOWN_FIRST, HOLD, CANDIDATE, RESUME = range(7)
# columns of Stage.info
_SECTOR, _SUSPECT = 0, 1
_HEAD, _COUNT = 0, 1
_MSG_DONTWAIT = 0x40
_MONOTONIC = 1
_POLL_MS = 5
# typed: literals would be compiled apart, and everything that they are passed to
_FRESH, _KEPT = np.int64(0), np.int64(1)


class Places(NamedTuple):
    """Where the pixels of each piece belong."""

    table: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]  # (S, P) bytes
    # [multiply offsets by the room of the block, bytes from frame to frame, rows, bytes from row to row,
    #  bytes of a slot]
    layout: npt.NDArray[np.int64]
    flips: npt.NDArray[np.int64]  # (S,) rows are stored upside down
    memory: npt.NDArray[np.uint8]
    slots: npt.NDArray[np.int64]  # (N,) first byte of each


class Stage(NamedTuple):
    """Packets that wait for the acquisition to begin, in order of arrival."""

    packets: npt.NDArray[np.uint8]  # (C, size)
    info: npt.NDArray[np.int64]  # (C, 2) sector, suspect
    queue: npt.NDArray[np.int64]  # head, count
    candidates: npt.NDArray[np.uint8]  # (S, PROOF, size) may prove a restart
    odd: npt.NDArray[np.int64]  # (S, 2) length and status of the last datagram that was refused


class Net(NamedTuple):
    """Sockets, and what the kernel writes into."""

    sockets: npt.NDArray[np.int32]  # (S,)
    polls: npt.NDArray[np.int32]  # (S, 2) struct pollfd
    headers: npt.NDArray[np.uint64]  # (B, 8) struct mmsghdr
    names: npt.NDArray[np.uint8]  # (B, 16) struct sockaddr_in
    batch: npt.NDArray[np.uint8]  # (B, size + 1): longer datagrams are known by the last byte
    lengths: npt.NDArray[np.int64]  # (B,)
    clock: npt.NDArray[np.int64]  # struct timespec
    peer: npt.NDArray[np.int64]  # the only IPv4 address to listen to, as in sockaddr_in; -1: all


_recvmmsg: Any = types.ExternalFunction(
    "recvmmsg", types.int32(types.int32, types.intp, types.uint32, types.int32, types.intp)
)
_poll: Any = types.ExternalFunction("poll", types.int32(types.intp, types.uint64, types.int32))
_clock_gettime: Any = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.intp))


@inner
def _push(w: State, stage: Stage, sector: int, packet: Any, suspect: int) -> int:
    """Keep a packet; the oldest makes room. Returns its index."""
    size = stage.packets.shape[0]
    if stage.queue[_COUNT] == size:
        old = stage.info[stage.queue[_HEAD], _SECTOR]
        w.counters[old, RECEIVED] += 1
        w.counters[old, FOREIGN] += 1
        stage.queue[_HEAD] = (stage.queue[_HEAD] + 1) % size
        stage.queue[_COUNT] -= 1
    at = (stage.queue[_HEAD] + stage.queue[_COUNT]) % size
    for i in range(stage.packets.shape[1]):
        stage.packets[at, i] = packet[i]
    stage.info[at, _SECTOR], stage.info[at, _SUSPECT] = sector, suspect
    stage.queue[_COUNT] += 1
    return at


@inner
def _consider(w: State, m: Places, stage: Stage, at: int, now: int) -> None:
    """Let a packet that is kept take part in the election."""
    sector = stage.info[at, _SECTOR]
    packet = stage.packets[at]
    _, raw, _, flag = parse(packet, packet.shape[0], m.table, w.pieces[sector])
    answer = consider(w, sector, raw, flag, now)
    stage.info[at, _SUSPECT] = answer != 0
    if answer < 2:
        return
    lift_barrier(w, sector)
    # from this one backwards
    size = stage.packets.shape[0]
    for i in range((at - stage.queue[_HEAD]) % size, -1, -1):
        j = (stage.queue[_HEAD] + i) % size
        s = stage.info[j, _SECTOR]
        if w.sectors[s, S_STREAK] > 0:
            w.sectors[s, S_STREAK] -= 1
            stage.info[j, _SUSPECT] = 0


@kernel
def reconsider(w: State, m: Places, stage: Stage, now: int) -> None:
    """Let all packets that are kept take part in the election of the next acquisition."""
    for i in range(stage.queue[_COUNT]):
        _consider(w, m, stage, (stage.queue[_HEAD] + i) % stage.packets.shape[0], now)


@inner
def _take(
    w: State, m: Places, stage: Stage, packet: Any, sector: int, raw: int, piece: int, now: int, replayed: int
) -> None:
    if w.sectors[sector, S_LEFT]:
        _push(w, stage, sector, packet, 0)
        return
    fate, slot, block, frame, room = accept(w, sector, raw, piece, now, replayed)
    if fate == VALID:
        start = m.offsets[sector, piece] * (room if m.layout[0] else 1) + frame * m.layout[1]
        rows, stride = m.layout[2], m.layout[3]
        if m.flips[sector]:
            start, stride = start + (rows - 1) * stride, -stride
        begins = m.slots[slot]
        if place(packet, m.table, start, stride, rows, m.memory[begins : begins + m.layout[4]]):
            w.counters[sector, BYTES] += m.table[PAYLOAD]
            settle(w, sector, block)
        else:
            undo(w, sector, block, frame, piece)
    elif fate == RESTARTED:
        _leave(w, stage, packet, sector, now)
    elif w.sectors[sector, S_STREAK] > 0:
        row = w.sectors[sector, S_STREAK] - 1
        for i in range(stage.candidates.shape[2]):
            stage.candidates[sector, row, i] = packet[i]


@inner
def _leave(w: State, stage: Stage, packet: Any, sector: int, now: int) -> None:
    """Keep what a sector sends for the next acquisition: its ids have restarted.

    Other sectors may still have something to say about this one, at least what waits in their sockets.
    """
    w.sectors[sector, S_STREAK] -= 1  # this packet is not among the candidates
    _give_back(w, stage, sector)
    _push(w, stage, sector, packet, 0)
    w.sectors[sector, S_LEFT] = 1
    if w.run[T_LEFT] == 0:
        w.run[T_LEFT] = now
    for s in range(w.cfg[SECTORS]):
        if not w.sectors[s, S_LEFT]:
            return
    finish(w)
    w.run[REASON] = BY_RESTART


@inner
def _give_back(w: State, stage: Stage, sector: int) -> None:
    """Keep the candidates of a sector; they are not counted as late or foreign any more."""
    n = min(w.sectors[sector, S_STREAK], PROOF - 1)
    late = min(n, w.sectors[sector, S_CANDIDATES_LATE])
    w.counters[sector, RECEIVED] -= n
    w.counters[sector, LATE] -= late
    w.counters[sector, FOREIGN] -= n - late
    for i in range(n):
        _push(w, stage, sector, stage.candidates[sector, i], 0)
    w.sectors[sector, S_STREAK] = 0


@kernel
def give_back(w: State, stage: Stage) -> None:
    """Keep the candidates of all sectors for the next acquisition, when this one has ended."""
    for s in range(w.cfg[SECTORS]):
        if not w.sectors[s, S_LEFT]:
            _give_back(w, stage, s)


@inner
def _free_slot(w: State) -> Any:
    return np.any(w.slots == 0)


@inner
def drain(w: State, m: Places, stage: Stage, now: int) -> None:
    """Take the packets that were kept, as long as there is room."""
    while w.run[REPLAY] > 0 and w.run[PHASE] == RUNNING and _free_slot(w):
        _take_oldest(w, m, stage, now)


@inner
def _take_oldest(w: State, m: Places, stage: Stage, now: int) -> None:
    at = stage.queue[_HEAD]
    sector = stage.info[at, _SECTOR]
    stage.queue[_HEAD] = (at + 1) % stage.packets.shape[0]
    stage.queue[_COUNT] -= 1
    w.run[REPLAY] -= 1
    if stage.info[at, _SUSPECT]:
        w.counters[sector, RECEIVED] += 1
        w.counters[sector, FOREIGN] += 1
        return
    packet = stage.packets[at]
    _, raw, piece, _ = parse(packet, packet.shape[0], m.table, w.pieces[sector])
    _take(w, m, stage, packet, sector, raw, piece, now, _KEPT)


@inner
def try_begin(w: State, stage: Stage, control: Any, now: int) -> None:
    """Begin if somebody waits for it, and the first frame is known."""
    if w.run[PHASE] != WAITING or not w.run[ARMED]:
        return
    if control[KNOWN_FIRST] >= 0:
        if control[RESUME] and not w.run[HAS_REF]:
            return
        w.run[FIRST] = control[KNOWN_FIRST]
    elif not elected(w):
        return
    elif control[HOLD]:  # sectors in other processes have a say
        control[CANDIDATE] = w.run[FIRST]
        return
    begin(w, now)
    if control[RESUME]:
        control[RESUME] = 0
        catch_up(w)
    w.run[REPLAY] = stage.queue[_COUNT]


@kernel
def ingest(
    w: State, m: Places, stage: Stage, control: Any, batch: Any, lengths: Any, count: int, sector: int,
    now: int,
) -> None:  # fmt: skip
    """Decide about the datagrams of a batch, and put their pixels in place.

    Parameters
    ----------
    w, m, stage, control
        State of the receiver.
    batch
        uint8 ``(B, size + 1)``.
    lengths
        Bytes of each; -1: from an address that is not listened to.
    count
        Datagrams in the batch.
    sector
        Whose they are.
    now
        Monotonic clock, ns.
    """
    for i in range(count):
        w.counters[sector, DATAGRAMS] += 1
        packet = batch[i]
        status, raw, piece, _ = parse(packet, lengths[i], m.table, w.pieces[sector])
        if status != OK:
            w.counters[sector, RECEIVED] += 1
            w.counters[sector, FOREIGN if status == LONG or lengths[i] < 0 else CORRUPT] += 1
            stage.odd[sector, 0], stage.odd[sector, 1] = lengths[i], status
        elif w.run[PHASE] == RUNNING and w.run[REPLAY] == 0:
            _take(w, m, stage, packet, sector, raw, piece, now, _FRESH)
        elif w.run[PHASE] == RUNNING:
            # behind those that were kept
            if stage.queue[_COUNT] == stage.packets.shape[0]:
                _take_oldest(w, m, stage, now)
            _push(w, stage, sector, packet, 0)
            w.run[REPLAY] += 1
            drain(w, m, stage, now)
        else:
            at = _push(w, stage, sector, packet, 0)
            if w.run[PHASE] == WAITING:
                _consider(w, m, stage, at, now)
                try_begin(w, stage, control, now)
                drain(w, m, stage, now)
        if w.run[PHASE] == ENDED:
            give_back(w, stage)


@kernel
def discard_stage(w: State, stage: Stage) -> None:
    """Count the packets that were kept as foreign: the acquisition ended before it began."""
    for i in range(stage.queue[_COUNT]):
        s = stage.info[(stage.queue[_HEAD] + i) % stage.packets.shape[0], _SECTOR]
        w.counters[s, RECEIVED] += 1
        w.counters[s, FOREIGN] += 1
    stage.queue[_COUNT] = 0


@kernel
def step(w: State, m: Places, stage: Stage, control: Any, now: int) -> None:
    """Do what is due without a packet: begin, take what was kept, close what is over."""
    try_begin(w, stage, control, now)
    drain(w, m, stage, now)
    if w.run[REPLAY] == 0:
        expire(w, now)


@inner
def _clock(net: Net) -> int:
    _clock_gettime(_MONOTONIC, net.clock.ctypes.data)
    return net.clock[0] * 1_000_000_000 + net.clock[1]


@inner
def _receive_from(net: Net, s: int) -> int:
    count = _recvmmsg(net.sockets[s], net.headers.ctypes.data, net.headers.shape[0], _MSG_DONTWAIT, 0)
    for i in range(count):
        net.lengths[i] = np.int64(net.headers[i, 7] & np.uint64(0xFFFFFFFF))
        if net.peer[0] >= 0:
            address = np.int64(0)
            for j in range(4):
                address = address << 8 | np.int64(net.names[i, 4 + j])
            if address != net.peer[0]:
                net.lengths[i] = -1
    return count


@kernel
def receive(w: State, m: Places, stage: Stage, net: Net, control: Any, seconds: float) -> None:
    """Receive until a block closes, the acquisition ends, a word of control is set, or time is over."""
    until = _clock(net) + np.int64(seconds * 1e9)
    while True:
        some, full = False, False
        for s in range(net.sockets.shape[0]):
            count = _receive_from(net, s)
            if count > 0:
                some = True
                full = full or count == net.headers.shape[0]
                ingest(w, m, stage, control, net.batch, net.lengths, count, s, _clock(net))
        now = _clock(net)
        # the deadline is judged when nothing waits in the sockets: a receiver that slept must not lose by it
        if not full:
            step(w, m, stage, control, now)
        if w.run[NOTICES] > 0 or w.run[PHASE] == ENDED or control[QUIT] or now > until:
            return
        if (control[STOP] and w.run[ARMED]) or (control[ARM] and not w.run[ARMED]):
            return
        if not some:
            _poll(net.polls.ctypes.data, net.polls.shape[0], _POLL_MS)
