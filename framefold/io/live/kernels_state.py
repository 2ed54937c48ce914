"""The state of a window in arrays, so that the loop that receives needs no Python; ids, blocks and frames."""

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
# Python calls these; ZeroDivisionError would cost a branch at each division
kernel = _njit(nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True)
# for functions that Python does not call: half the time to compile
inner = _njit(nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True, no_cpython_wrapper=True)


@kernel
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


@kernel
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
