"""Kernels that decide the fate of every packet: unwrap its frame id, find its block, close blocks in order.

All state is in arrays (`Window`), so that the loop that receives needs no Python; `window.Window` has the
rules in words.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt


class State(NamedTuple):
    """Arrays of a window. S sectors, N slots, R records of blocks, n frames a block, P pieces a sector."""

    cfg: npt.NDArray[np.int64]  # what does not change, see the names below
    run: npt.NDArray[np.int64]  # what does
    plan: npt.NDArray[np.int64]  # (2, 3): from block, from frame, frames a block; now and later
    records: npt.NDArray[np.int64]  # (R, 6)
    counts: npt.NDArray[np.int64]  # (R, S) valid pieces
    closed: npt.NDArray[np.uint8]  # (R, S)
    bits: npt.NDArray[np.uint8]  # (R, S, n, P): 0 nothing, 1 valid, 2 arrived, but too late or without room
    sectors: npt.NDArray[np.int64]  # (S, 11)
    pieces: npt.NDArray[np.int64]  # (S,) of each sector
    counters: npt.NDArray[np.int64]  # (S, 12), shared between processes
    slots: npt.NDArray[np.int64]  # (N,) 0 free, 1 taken; shared, set by the window, cleared by who releases
    slot_bits: npt.NDArray[np.uint8]  # (N, S, n, P), shared
    notices: npt.NDArray[np.int64]  # (M, 7) closed blocks that nobody has fetched yet


# cfg
SECTORS, SLOTS, RECORDS, FRAMES, ID_BITS, DEADLINE, FLAG_LAG = range(7)
# run
(PHASE, FIRST, NEXT, TOP, NOTICES, REASON, LAST_FRAME, REF, HAS_REF, T_ANY, BARRIER, BARRIER_UNTIL,
 ARMED, T_LAST_FRAME, T_DATA, T_LEFT, REPLAY) = range(17)  # fmt: skip
# records
R_BLOCK, R_SLOT, R_FIRST_TIME, R_LAST_TIME, R_CLOSED, R_REVOKED = range(6)
# sectors
(S_LAST, S_SEEN, S_NEXT, S_STREAK, S_CANDIDATE, S_FLAGGED, S_FLAG_ID, S_PLAIN, S_PLAIN_ID, S_CANDIDATES_LATE,
 S_BAR_FLAG, S_LEFT) = range(12)  # fmt: skip
# counters; `accounting` has their meaning
(RECEIVED, VALID, DUPLICATE, LATE, OVERRUN, CORRUPT, FOREIGN, EXPECTED, LOST, BYTES, UNUSABLE,
 DATAGRAMS) = range(12)  # fmt: skip
# phases
WAITING, RUNNING, ENDED = 0, 1, 2
# reasons
NO_REASON, BY_FRAMES, BY_RESTART = 0, 1, 2
# consecutive packets that prove a restart or a jump
PROOF = 8
# a jump beyond so many blocks is another acquisition
FAR_BLOCKS = 4096
NEVER = 2**63 - 1
# fates beside the counters
RESTARTED = 100

_njit: Any = numba.njit
# for functions that Python does not call: half the time to compile
inner = _njit(nogil=True, cache=True, no_cpython_wrapper=True)


@numba.njit(nogil=True, cache=True)
def unwrap(raw: int, last: int, bits: int) -> int:
    """Return how far the id `raw`, known modulo 2^bits, is from `last`."""
    if bits >= 63:
        return raw - last
    half = 1 << (bits - 1)
    mask = (1 << bits) - 1
    return ((raw - last + half) & mask) - half


@inner
def block_of(w: State, frame: int) -> int:
    """Return the block of a frame."""
    row = 1 if frame >= w.plan[1, 1] else 0
    return w.plan[row, 0] + (frame - w.plan[row, 1]) // w.plan[row, 2]


@numba.njit(nogil=True, cache=True)
def span_of(w: State, block: int) -> Any:
    """Return first frame and number of frames of a block, and the number it has room for.

    The last block may be shorter than its room.
    """
    row = 1 if block >= w.plan[1, 0] else 0
    room = w.plan[row, 2]
    first = w.plan[row, 1] + (block - w.plan[row, 0]) * room
    if w.cfg[FRAMES] >= 0:
        return first, min(room, w.cfg[FRAMES] - first), room
    return first, room, room


@inner
def window_frames(w: State) -> int:
    """Return the window in frames: two blocks."""
    return 2 * max(w.plan[0, 2], w.plan[1, 2])


@inner
def _open_to(w: State, block: int) -> None:
    """Make records up to `block`; those that are in the way are closed."""
    while w.run[TOP] < block:
        k = w.run[TOP] + 1
        if k >= w.run[NEXT] + w.cfg[RECORDS]:
            for s in range(w.cfg[SECTORS]):
                _close(w, w.run[NEXT], s)
            continue
        r = k % w.cfg[RECORDS]
        w.records[r, R_BLOCK] = k
        w.records[r, R_SLOT] = -1
        w.records[r, R_FIRST_TIME] = 0
        w.records[r, R_LAST_TIME] = 0
        w.records[r, R_CLOSED] = 0
        w.records[r, R_REVOKED] = 0
        for s in range(w.cfg[SECTORS]):
            w.counts[r, s] = 0
            w.closed[r, s] = 0
            for f in range(w.bits.shape[2]):
                for p in range(w.pieces[s]):
                    w.bits[r, s, f, p] = 0
        w.run[TOP] = k


@inner
def _close(w: State, block: int, sector: int) -> None:
    """Close a block in a sector; hand out whatever is closed everywhere, in order."""
    r = block % w.cfg[RECORDS]
    if w.closed[r, sector]:
        return
    w.closed[r, sector] = 1
    w.records[r, R_CLOSED] += 1
    _, n, _ = span_of(w, block)
    expected = n * w.pieces[sector]
    w.counters[sector, EXPECTED] += expected
    w.counters[sector, LOST] += expected - w.counts[r, sector]
    nxt = w.sectors[sector, S_NEXT]
    while nxt <= w.run[TOP] and w.closed[nxt % w.cfg[RECORDS], sector]:
        nxt += 1
    w.sectors[sector, S_NEXT] = nxt
    while w.run[NEXT] <= w.run[TOP] and w.records[w.run[NEXT] % w.cfg[RECORDS], R_CLOSED] == w.cfg[SECTORS]:
        _hand_out(w)


@inner
def _hand_out(w: State) -> None:
    k = w.run[NEXT]
    r = k % w.cfg[RECORDS]
    first, n, room = span_of(w, k)
    slot = w.records[r, R_SLOT]
    if slot >= 0:
        for s in range(w.cfg[SECTORS]):
            for f in range(n):
                for p in range(w.pieces[s]):
                    w.slot_bits[slot, s, f, p] = w.bits[r, s, f, p] == 1
    at = w.run[NOTICES]
    w.notices[at, 0] = k
    w.notices[at, 1] = first
    w.notices[at, 2] = n
    w.notices[at, 3] = slot
    w.notices[at, 4] = w.records[r, R_FIRST_TIME]
    w.notices[at, 5] = w.records[r, R_LAST_TIME]
    w.notices[at, 6] = room
    w.run[NOTICES] = at + 1
    w.run[NEXT] = k + 1
    if w.cfg[FRAMES] >= 0 and first + n >= w.cfg[FRAMES]:
        w.run[PHASE] = ENDED
        w.run[REASON] = BY_FRAMES
        w.run[LAST_FRAME] = w.cfg[FRAMES] - 1
    elif w.run[NEXT] >= w.plan[1, 0]:
        for i in range(3):
            w.plan[0, i] = w.plan[1, i]
        w.plan[1, 0] = w.plan[1, 1] = NEVER


@inner
def _close_before(w: State, sector: int, frame: int) -> None:
    """Close what a packet of `frame` shows to be over: blocks that end a window before it."""
    reach = window_frames(w)
    while w.run[PHASE] == RUNNING:
        k = w.sectors[sector, S_NEXT]
        first, n, _ = span_of(w, k)
        if n <= 0 or first + n + reach > frame:
            return
        _open_to(w, k)
        if w.run[PHASE] == RUNNING:
            _close(w, k, sector)


@inner
def _take_slot(w: State) -> int:
    for i in range(w.cfg[SLOTS]):
        if w.slots[i] == 0:
            w.slots[i] = 1
            return i
    return -1


@numba.njit(nogil=True, cache=True)
def accept(w: State, sector: int, raw: int, piece: int, now: int, replayed: int) -> Any:
    """Decide the fate of a packet of a running acquisition.

    Returns fate (a counter), slot, block, frame within the block, room of the block in frames. Fate
    `VALID` is a promise to fill the place, and then to call `settle`. `RESTARTED`: this packet and the
    candidates before it belong to the next acquisition; this one is not counted.
    """
    sec, run = w.sectors[sector], w.run
    d = unwrap(raw, sec[S_LAST], w.cfg[ID_BITS])
    ext = sec[S_LAST] + d
    reach = window_frames(w)
    f = ext - run[FIRST]
    w.counters[sector, RECEIVED] += 1
    if replayed and f < 0:
        # before the flag: says nothing about a restart
        w.counters[sector, FOREIGN] += 1
        return FOREIGN, -1, 0, 0, 0
    if d < -reach or d > 2 * reach:
        # far away: one broken id, or the detector is elsewhere now. Eight in a row tell
        near = sec[S_STREAK] > 0 and abs(ext - sec[S_CANDIDATE]) <= reach
        sec[S_STREAK] = sec[S_STREAK] + 1 if near else 1
        sec[S_CANDIDATE] = ext
        far = d < 0 or d > FAR_BLOCKS * w.plan[0, 2]
        if sec[S_STREAK] >= PROOF and far:
            w.counters[sector, RECEIVED] -= 1
            return RESTARTED, -1, 0, 0, 0
        if sec[S_STREAK] < PROOF:
            fate = LATE if d < 0 and f >= 0 else FOREIGN
            sec[S_CANDIDATES_LATE] = (0 if sec[S_STREAK] == 1 else sec[S_CANDIDATES_LATE]) + (fate == LATE)
            w.counters[sector, fate] += 1
            return fate, -1, 0, 0, 0
    sec[S_STREAK] = 0
    if d > 0:
        sec[S_LAST] = ext
    run[T_ANY] = now
    total = w.cfg[FRAMES]
    if f < 0:
        w.counters[sector, FOREIGN] += 1
        return FOREIGN, -1, 0, 0, 0
    _close_before(w, sector, f)
    if run[PHASE] != RUNNING or (total >= 0 and f >= total):
        w.counters[sector, FOREIGN] += 1
        if run[T_LAST_FRAME] == 0:
            run[T_LAST_FRAME] = now
        return FOREIGN, -1, 0, 0, 0
    run[LAST_FRAME] = max(run[LAST_FRAME], f)
    run[T_DATA] = now
    if f == total - 1:
        run[T_LAST_FRAME] = now
    k = block_of(w, f)
    if k < run[NEXT]:
        w.counters[sector, LATE] += 1
        return LATE, -1, 0, 0, 0
    _open_to(w, k)
    r = k % w.cfg[RECORDS]
    first, _, room = span_of(w, k)
    i = f - first
    if w.closed[r, sector]:
        w.counters[sector, LATE] += 1
        if w.bits[r, sector, i, piece] == 0:
            w.bits[r, sector, i, piece] = 2
            w.counters[sector, UNUSABLE] += 1
        return LATE, -1, 0, 0, 0
    if w.records[r, R_FIRST_TIME] == 0:
        w.records[r, R_FIRST_TIME] = now
        slot = _take_slot(w)
        w.records[r, R_SLOT] = slot
        w.records[r, R_REVOKED] = slot < 0
    w.records[r, R_LAST_TIME] = now
    if w.records[r, R_REVOKED]:
        w.counters[sector, OVERRUN] += 1
        if w.bits[r, sector, i, piece] == 0:
            w.bits[r, sector, i, piece] = 2
            w.counters[sector, UNUSABLE] += 1
        return OVERRUN, -1, 0, 0, 0
    if w.bits[r, sector, i, piece] != 0:
        w.counters[sector, DUPLICATE] += 1
        return DUPLICATE, -1, 0, 0, 0
    w.bits[r, sector, i, piece] = 1
    w.counts[r, sector] += 1
    w.counters[sector, VALID] += 1
    return VALID, w.records[r, R_SLOT], k, i, room


@numba.njit(nogil=True, cache=True)
def settle(w: State, sector: int, block: int) -> None:
    """Close a block if the packet that was put in its place has made it complete."""
    _, n, _ = span_of(w, block)
    if w.counts[block % w.cfg[RECORDS], sector] == n * w.pieces[sector]:
        _close(w, block, sector)


@numba.njit(nogil=True, cache=True)
def undo(w: State, sector: int, block: int, frame: int, piece: int) -> None:
    """Take the promise back: an accepted packet had no place and counts as corrupt."""
    r = block % w.cfg[RECORDS]
    w.bits[r, sector, frame, piece] = 0
    w.counts[r, sector] -= 1
    w.counters[sector, VALID] -= 1
    w.counters[sector, CORRUPT] += 1


@numba.njit(nogil=True, cache=True)
def expire(w: State, now: int) -> None:
    """Close blocks whose deadline has passed: since the first packet of a later block, or since the end."""
    limit = w.cfg[DEADLINE]
    run = w.run
    if run[PHASE] != RUNNING:
        return
    if run[T_LEFT] > 0 and now - run[T_LEFT] > limit:
        finish(w)
        run[REASON] = BY_RESTART
        return
    later = NEVER
    if run[T_LAST_FRAME] > 0:
        later = max(run[T_DATA], run[T_LAST_FRAME])
    oldest = run[NEXT]
    due = oldest - 1
    # from the newest block backwards: any later block sets the clock
    for k in range(run[TOP], oldest - 1, -1):
        if later != NEVER and now - later > limit:
            due = k
            break
        started = w.records[k % w.cfg[RECORDS], R_FIRST_TIME]
        if started > 0:
            later = min(later, started)
    k = oldest
    while k <= due and run[PHASE] == RUNNING:
        for s in range(w.cfg[SECTORS]):
            if run[PHASE] == RUNNING:
                _close(w, k, s)
        k += 1
    if run[T_LAST_FRAME] > 0 and now - max(run[T_DATA], run[T_LAST_FRAME]) > limit:
        # the end was seen, and blocks before it never began: they are lost
        _close_before_all(w, w.cfg[FRAMES])


@inner
def _close_before_all(w: State, frames: int) -> None:
    while w.run[PHASE] == RUNNING:
        k = w.run[NEXT]
        first, n, _ = span_of(w, k)
        if n <= 0 or first >= frames:
            return
        _open_to(w, k)
        for s in range(w.cfg[SECTORS]):
            if w.run[PHASE] == RUNNING:
                _close(w, k, s)


@numba.njit(nogil=True, cache=True)
def finish(w: State) -> None:
    """Close everything that was begun; the last block ends with the last frame that was begun."""
    if w.run[PHASE] == RUNNING:
        begun = w.run[LAST_FRAME] + 1
        reason = w.run[REASON]
        w.cfg[FRAMES] = begun
        _close_before_all(w, begun)
        w.run[REASON] = reason
    w.run[PHASE] = ENDED


@numba.njit(nogil=True, cache=True)
def consider(w: State, sector: int, raw: int, flag: bool, now: int) -> int:
    """Look at a packet before the acquisition: has it begun in this sector? It is kept by the caller.

    Returns 0 (keep), 1 (keep as suspect: may be a straggler of the acquisition before), or 2 (keep as
    suspect, and it proves that these are none: call `lift_barrier`).
    """
    sec, run = w.sectors[sector], w.run
    if not run[HAS_REF]:
        run[REF], run[HAS_REF] = raw, 1
    base = sec[S_LAST] if sec[S_SEEN] else run[REF]
    ext = base + unwrap(raw, base, w.cfg[ID_BITS])
    if run[BARRIER_UNTIL] > now and unwrap(raw, run[BARRIER], w.cfg[ID_BITS]) <= 0:
        near = sec[S_STREAK] > 0 and abs(ext - sec[S_CANDIDATE]) <= 1
        sec[S_STREAK] = sec[S_STREAK] + 1 if near else 1
        if not near:
            sec[S_BAR_FLAG] = NEVER
        sec[S_CANDIDATE] = ext
        if flag:
            sec[S_BAR_FLAG] = min(sec[S_BAR_FLAG], ext)
        return 1 if sec[S_STREAK] < PROOF else 2
    if not sec[S_SEEN] or ext > sec[S_LAST]:
        sec[S_LAST], sec[S_SEEN] = ext, 1
    if flag:
        if not sec[S_FLAGGED] or ext < sec[S_FLAG_ID]:
            sec[S_FLAG_ID] = ext
        sec[S_FLAGGED] = 1
    elif not sec[S_PLAIN] or ext > sec[S_PLAIN_ID]:
        sec[S_PLAIN], sec[S_PLAIN_ID] = 1, ext
    return 0


@numba.njit(nogil=True, cache=True)
def lift_barrier(w: State, sector: int) -> None:
    """Believe the suspects of `sector`, and those of other sectors near them: they are a new acquisition.

    ``S_STREAK`` afterwards says how many of the last suspects of each sector are none.
    """
    ext, reach = w.sectors[sector, S_CANDIDATE], window_frames(w)
    w.run[BARRIER_UNTIL] = 0
    for s in range(w.cfg[SECTORS]):
        sec = w.sectors[s]
        if sec[S_STREAK] > 0 and abs(sec[S_CANDIDATE] - ext) <= reach:
            sec[S_LAST], sec[S_SEEN] = sec[S_CANDIDATE], 1
            sec[S_FLAGGED] = sec[S_BAR_FLAG] != NEVER
            sec[S_FLAG_ID] = sec[S_BAR_FLAG]
        else:
            sec[S_STREAK] = 0


@numba.njit(nogil=True, cache=True)
def elected(w: State) -> bool:
    """Return whether every sector has seen the flag; then `FIRST` is the first frame.

    A sector's candidate is the first id with the flag, one more if packets of it came without the flag.
    """
    first = -NEVER
    for s in range(w.cfg[SECTORS]):
        sec = w.sectors[s]
        if not sec[S_FLAGGED]:
            return False
        missed = sec[S_PLAIN] and sec[S_PLAIN_ID] == sec[S_FLAG_ID]
        first = max(first, sec[S_FLAG_ID] + (1 if missed else 0))
    w.run[FIRST] = first - w.cfg[FLAG_LAG]
    return True


@numba.njit(nogil=True, cache=True)
def begin(w: State, now: int) -> None:
    """Start to run with ``run[FIRST]`` as the first frame."""
    w.run[PHASE] = RUNNING
    w.run[NEXT], w.run[TOP], w.run[LAST_FRAME] = 0, -1, -1
    w.run[T_ANY], w.run[T_LAST_FRAME], w.run[T_DATA] = now, 0, 0
    w.run[REASON], w.run[T_LEFT] = NO_REASON, 0
    for s in range(w.cfg[SECTORS]):
        w.sectors[s, S_LAST] = w.run[FIRST]
        w.sectors[s, S_NEXT] = 0
        w.sectors[s, S_STREAK] = w.sectors[s, S_LEFT] = 0


@numba.njit(nogil=True, cache=True)
def catch_up(w: State) -> None:
    """Leave out the blocks before the first packet that was seen: others have received those.

    To be called behind `begin`.
    """
    first = w.run[FIRST]
    behind = w.run[REF] - first
    if w.cfg[ID_BITS] < 63:
        behind &= (1 << w.cfg[ID_BITS]) - 1
    total = w.cfg[FRAMES]
    k = block_of(w, behind if total < 0 else min(behind, max(total - 1, 0)))
    w.run[NEXT], w.run[TOP] = k, k - 1
    for s in range(w.cfg[SECTORS]):
        w.sectors[s, S_LAST] = first + behind
        w.sectors[s, S_NEXT] = k


@numba.njit(nogil=True, cache=True)
def prepare_next(w: State, now: int, frames: int) -> None:
    """Wait for the next acquisition; stragglers of the last one do not start it."""
    last = np.int64(-1)
    for s in range(w.cfg[SECTORS]):
        last = max(last, w.sectors[s, S_LAST])
        for i in range(w.sectors.shape[1]):
            w.sectors[s, i] = 0
        w.sectors[s, S_BAR_FLAG] = NEVER
        for i in range(DATAGRAMS):
            w.counters[s, i] = 0
    restarted = w.run[REASON] == BY_RESTART
    w.run[BARRIER], w.run[BARRIER_UNTIL] = last, 0 if restarted else now + w.cfg[DEADLINE]
    w.run[PHASE], w.run[HAS_REF], w.run[ARMED] = WAITING, 0, 0
    w.cfg[FRAMES] = frames
    w.plan[0, 0] = w.plan[0, 1] = 0
    w.plan[1, 0] = w.plan[1, 1] = NEVER
