"""Blocks of a window: opened by packets, closed sector by sector, handed out in order."""

from __future__ import annotations

from framefold.io.live.kernels_state import (
    BY_FRAMES,
    BY_RESTART,
    CORRUPT,
    DEADLINE,
    ENDED,
    EXPECTED,
    FRAMES,
    LAST_FRAME,
    LOST,
    NEVER,
    NEXT,
    NOTICES,
    PHASE,
    R_BLOCK,
    R_CLOSED,
    R_FIRST_TIME,
    R_LAST_TIME,
    R_REVOKED,
    R_SLOT,
    REASON,
    RECORDS,
    RUNNING,
    S_NEXT,
    SECTORS,
    SLOTS,
    T_DATA,
    T_LAST_FRAME,
    T_LEFT,
    TOP,
    VALID,
    State,
    inner,
    kernel,
    span_of,
    window_frames,
)


@inner
def open_to(w: State, block: int) -> None:
    """Make records up to `block`; those that are in the way are closed."""
    while w.run[TOP] < block:
        k = w.run[TOP] + 1
        if k >= w.run[NEXT] + w.cfg[RECORDS]:
            for s in range(w.cfg[SECTORS]):
                close(w, w.run[NEXT], s)
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
def close(w: State, block: int, sector: int) -> None:
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
def close_before(w: State, sector: int, frame: int) -> None:
    """Close what a packet of `frame` shows to be over: blocks that end a window before it."""
    reach = window_frames(w)
    while w.run[PHASE] == RUNNING:
        k = w.sectors[sector, S_NEXT]
        first, n, _ = span_of(w, k)
        if n <= 0 or first + n + reach > frame:
            return
        open_to(w, k)
        if w.run[PHASE] == RUNNING:
            close(w, k, sector)


@inner
def take_slot(w: State) -> int:
    """Return a free slot of the ring, taken now, or -1."""
    for i in range(w.cfg[SLOTS]):
        if w.slots[i] == 0:
            w.slots[i] = 1
            return i
    return -1


@kernel
def settle(w: State, sector: int, block: int) -> None:
    """Close a block if the packet that was put in its place has made it complete."""
    _, n, _ = span_of(w, block)
    if w.counts[block % w.cfg[RECORDS], sector] == n * w.pieces[sector]:
        close(w, block, sector)


@kernel
def undo(w: State, sector: int, block: int, frame: int, piece: int) -> None:
    """Take the promise back: an accepted packet had no place and counts as corrupt."""
    r = block % w.cfg[RECORDS]
    w.bits[r, sector, frame, piece] = 0
    w.counts[r, sector] -= 1
    w.counters[sector, VALID] -= 1
    w.counters[sector, CORRUPT] += 1


@kernel
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
                close(w, k, s)
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
        open_to(w, k)
        for s in range(w.cfg[SECTORS]):
            if w.run[PHASE] == RUNNING:
                close(w, k, s)


@kernel
def finish(w: State) -> None:
    """Close everything that was begun; the last block ends with the last frame that was begun."""
    if w.run[PHASE] == RUNNING:
        begun = w.run[LAST_FRAME] + 1
        reason = w.run[REASON]
        w.cfg[FRAMES] = begun
        _close_before_all(w, begun)
        w.run[REASON] = reason
    w.run[PHASE] = ENDED
