"""The window: in which block a packet belongs, when a block closes, and when an acquisition begins and ends.

Rules, for a window of two blocks:

- A block closes in a sector when it is complete; when a packet a window or more behind its end arrives; when
  the deadline has passed since the first packet of any later block, or, for the last ones, since the last
  packet once the last frame was seen; or when the acquisition ends. A closed block takes no more packets.
- A block without room in the ring is dropped as a whole, in all sectors, at its first packet.
- Ids are unwrapped against the largest seen. One that is a window behind or two windows ahead is believed
  only when eight packets in a row agree: then the detector restarted, or frames were lost.
- A sector whose ids restarted has left: what it sends is kept for the next acquisition, and this one ends
  when all sectors have left, or the deadline has passed since the first one did.
- The first frame is the largest, over the sectors, of the first id with the flag of the acquisition, one
  more where packets of that id came without the flag, less the lag of the flag. Until all sectors have it,
  packets are kept aside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.io.live import kernels_state as k

RUN_WORDS, SECTOR_WORDS, COUNTERS = 20, 12, 12
NOTICE_WORDS = 7


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes of a window.

    Attributes
    ----------
    pieces
        Of each sector.
    slots
        Blocks in the ring.
    block
        Frames in a block.
    room
        Frames that a slot can hold.
    frames
        Of an acquisition; None: without end.
    id_bits
        Frame ids wrap around after so many bits.
    deadline
        s.
    flag_lag
        Frames by which the flag comes too late.
    """

    pieces: tuple[int, ...]
    slots: int
    block: int
    room: int
    frames: int | None
    id_bits: int
    deadline: float
    flag_lag: int = 0

    @property
    def records(self) -> int:
        """Blocks that may be open at once."""
        return max(16, 2 * self.slots)


def shared_arrays(limits: Limits) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Return names, shapes and dtypes of the arrays that other processes look at."""
    s, p = len(limits.pieces), max(limits.pieces)
    return {
        "run": ((RUN_WORDS,), np.int64),
        "sectors": ((s, SECTOR_WORDS), np.int64),
        "counters": ((s, COUNTERS), np.int64),
        "slots": ((limits.slots,), np.int64),
        "slot_bits": ((limits.slots, s, limits.room, p), np.uint8),
    }


def new_state(limits: Limits, shared: dict[str, npt.NDArray[Any]] | None = None) -> k.State:
    """Return the arrays of a window that waits for an acquisition.

    Parameters
    ----------
    limits
        Sizes.
    shared
        The arrays of `shared_arrays`; None: new ones.
    """
    if shared is None:
        shared = {name: np.zeros(shape, kind) for name, (shape, kind) in shared_arrays(limits).items()}
    s, p, r = len(limits.pieces), max(limits.pieces), limits.records
    cfg = np.zeros(8, np.int64)
    frames = -1 if limits.frames is None else limits.frames
    cfg[:7] = [s, limits.slots, r, frames, limits.id_bits, round(limits.deadline * 1e9), limits.flag_lag]
    # a batch of 64 packets can prove eight jumps
    notices = np.zeros((k.PROOF * k.FAR_BLOCKS + 4 * r, NOTICE_WORDS), np.int64)
    state = k.State(
        cfg=cfg,
        run=shared["run"],
        plan=np.array([[0, 0, limits.block], [k.NEVER, k.NEVER, limits.block]], np.int64),
        records=np.zeros((r, 6), np.int64),
        counts=np.zeros((r, s), np.int64),
        closed=np.zeros((r, s), np.uint8),
        bits=np.zeros((r, s, limits.room, p), np.uint8),
        sectors=shared["sectors"],
        pieces=np.array(limits.pieces, np.int64),
        counters=shared["counters"],
        slots=shared["slots"],
        slot_bits=shared["slot_bits"],
        notices=notices,
    )
    state.sectors[:, k.S_BAR_FLAG] = k.NEVER
    return state


def plan_from(state: k.State, block: int, frames: int) -> None:
    """From `block` on, blocks have `frames` frames; `block` must not be open yet, nor a change pending."""
    first, _, _ = k.span_of.py_func(state, block)
    state.plan[1] = (block, first, frames)


def take_notices(state: k.State) -> list[tuple[int, ...]]:
    """Return the closed blocks since the last call: block, first frame, frames, slot, times in ns, room."""
    n = int(state.run[k.NOTICES])
    out = [tuple(int(v) for v in row) for row in state.notices[:n]]
    state.run[k.NOTICES] = 0
    return out
