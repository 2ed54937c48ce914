"""Before and between acquisitions: which frame is the first, and what belongs to which."""

from __future__ import annotations

import numpy as np

from framefold.io.live.kernels_state import (
    ARMED,
    BARRIER,
    BARRIER_UNTIL,
    BY_RESTART,
    DATAGRAMS,
    DEADLINE,
    FIRST,
    FLAG_LAG,
    FRAMES,
    HAS_REF,
    ID_BITS,
    LAST_FRAME,
    NEVER,
    NEXT,
    NO_REASON,
    PHASE,
    PROOF,
    REASON,
    REF,
    RUNNING,
    S_BAR_FLAG,
    S_CANDIDATE,
    S_FLAG_ID,
    S_FLAGGED,
    S_LAST,
    S_LEFT,
    S_NEXT,
    S_PLAIN,
    S_PLAIN_ID,
    S_SEEN,
    S_STREAK,
    SECTORS,
    T_ANY,
    T_DATA,
    T_LAST_FRAME,
    T_LEFT,
    TOP,
    WAITING,
    State,
    block_of,
    kernel,
    unwrap,
    window_frames,
)


@kernel
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


@kernel
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


@kernel
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


@kernel
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


@kernel
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


@kernel
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
