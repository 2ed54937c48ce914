"""Frames into blocks, in any order: every piece has one fate, blocks are contiguous, what is valid is right."""

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framefold.io.live.assembly import MAX_JUMP, Assembly, Cancelled
from framefold.io.live.slots import Slots
from framefold.udfcore.live import AcquisitionStart, PieceGrid, SectorSpec

SECTORS = tuple(
    SectorSpec(i, (slice(i, i + 1), slice(0, 3)), PieceGrid((1, 3), ((0, 0),)), f"sector {i}")
    for i in range(2)
)
START = AcquisitionStart(None, (2, 3), np.dtype("int64"), None, SECTORS, 0)


class Notes:
    """Takes pieces on receipt and keeps them."""

    active = True

    def __init__(self):
        self.rows = {}

    def hold(self):
        return nullcontext()

    def fold(self, block, sector, first_frame, rows):
        for k, row in enumerate(rows):
            assert (sector, first_frame + k) not in self.rows, "folded twice"
            self.rows[sector, first_frame + k] = row.copy()


def assembly(n_frames, layout, got, *, cancelled=lambda: False, keep=False, receipt=None):
    slots = Slots(START.frame_bytes, 4 * 5 * START.frame_bytes, 2)

    def emit(block, slot):
        got.append((block.first_frame, [d.copy() for d in block.data], [v.copy() for v in block.valid]))
        if not keep and slot is not None:
            slots.give_back(slot)

    return Assembly(
        START,
        n_frames,
        layout=layout,
        block_time=0.01,
        deadline=1e9,
        slots=slots,
        emit=emit,
        cancelled=cancelled,
        receipt=lambda: receipt,
    )


def put(asm, sector, frame, n):
    """Write up to `n` frames, each with its own value; return how many pieces were handed over."""
    rows = asm.rows(sector, frame)
    if rows is None:
        return 1
    n = min(n, len(rows))
    for k in range(n):
        rows[k] = 1000 * (sector + 1) + frame + k
    asm.filled(sector, frame, n)
    return n


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(-2, 60), st.integers(1, 7)), max_size=80),
    st.sampled_from([None, 50]),
    st.sampled_from(["pieces", "frames", "receipt"]),
)
def test_any_order(puts, n_frames, layout):
    got, notes = [], Notes() if layout == "receipt" else None
    asm = assembly(n_frames, "pieces" if notes else layout, got, receipt=notes)
    handed = [0, 0]
    for sector, frame, n in puts:
        handed[sector] += put(asm, sector, frame, n)
    asm.finish()
    at = 0
    valid_pieces = [0, 0]
    for first, data, valid in got:
        assert first == at
        at += len(valid[0])
        for sector in range(2):
            flags = valid[sector][:, 0]
            wanted = 1000 * (sector + 1) + first + np.flatnonzero(flags)
            if notes is not None:
                assert not data
                found = np.array([notes.rows.pop((sector, first + i))[0] for i in np.flatnonzero(flags)])
            else:
                found = (data[0][:, sector] if layout == "frames" else data[sector][0, :, 0])[flags]
            np.testing.assert_array_equal(found.reshape(-1, 3), np.repeat(wanted[:, None], 3, axis=1))
            valid_pieces[sector] += int(flags.sum())
    assert at >= asm.last_frame + 1
    for s, n, v in zip(asm.stats, handed, valid_pieces, strict=True):
        assert s.received == n == s.valid + s.duplicate + s.late + s.foreign
        assert s.valid == v
        assert s.expected == at == s.valid + s.lost
    assert asm.slots.fill == 0
    assert not (notes and notes.rows)


def test_memory_that_somebody_may_still_write_to_is_not_filled_again():
    got = []
    asm = assembly(None, "pieces", got)
    stuck = asm.rows(0, 0)  # what arrives for it is slow
    for frame in range(60):
        put(asm, 1, frame, 1)
        rows = asm.rows(1, frame + 1)
        assert not np.shares_memory(rows, stuck)
    stuck[...] = -1
    asm.filled(0, 0, len(stuck))
    asm.finish()
    assert all((data[1][0][valid[1][:, 0]] >= 2000).all() for _, data, valid in got)
    assert asm.stats[0].late == len(stuck)
    assert asm.slots.fill == 0


def test_a_sector_waits_for_the_others_where_it_would_close_their_block():
    asm = assembly(None, "pieces", [])
    at = 0
    while (rows := asm.ahead(1, at, 0.0)) is not None:
        asm.filled(1, at, len(rows))
        at += len(rows)
    assert asm.ahead(0, 0, 0.0) is not None
    assert asm.stats[0].lost == 0


def test_a_wait_for_memory_can_be_called_off():
    got = []  # never given back
    asm = assembly(None, "pieces", got, cancelled=lambda: len(got) >= 3, keep=True)
    with pytest.raises(Cancelled):
        for frame in range(100):
            put(asm, 0, frame, 1)
            put(asm, 1, frame, 1)


def test_an_impossible_jump_without_an_end_is_foreign():
    asm = assembly(None, "pieces", [])
    put(asm, 0, 5, 1)
    assert asm.rows(0, 6 + MAX_JUMP) is None
    assert asm.stats[0].foreign == 1
