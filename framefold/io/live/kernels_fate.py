"""Decides the fate of every packet of an acquisition that runs; `window` has the rules in words."""

from __future__ import annotations

from typing import Any

from framefold.io.live.kernels_blocks import (
    close_before,
    open_to,
    take_slot,
)
from framefold.io.live.kernels_state import (
    DUPLICATE,
    FAR_BLOCKS,
    FIRST,
    FOREIGN,
    FRAMES,
    ID_BITS,
    LAST_FRAME,
    LATE,
    NEXT,
    OVERRUN,
    PHASE,
    PROOF,
    R_FIRST_TIME,
    R_LAST_TIME,
    R_REVOKED,
    R_SLOT,
    RECEIVED,
    RECORDS,
    RESTARTED,
    RUNNING,
    S_CANDIDATE,
    S_CANDIDATES_LATE,
    S_LAST,
    S_STREAK,
    T_ANY,
    T_DATA,
    T_LAST_FRAME,
    UNUSABLE,
    VALID,
    State,
    block_of,
    kernel,
    span_of,
    unwrap,
    window_frames,
)


@kernel
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
    close_before(w, sector, f)
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
    open_to(w, k)
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
        slot = take_slot(w)
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
