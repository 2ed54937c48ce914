"""The window against a model of dictionaries: any order, duplicates, wraps, jumps, restarts, a full ring."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from framefold.io.live import kernels_blocks as blocks
from framefold.io.live import kernels_election as election
from framefold.io.live import kernels_state as k
from framefold.io.live.kernels_fate import accept
from framefold.io.live.window import Limits, new_state, plan_from, take_notices

PIECES = (2, 3)
BITS = 9
SECOND = 10**9
NAMES = ("received", "valid", "duplicate", "late", "overrun", "corrupt", "foreign", "expected", "lost")


class Model:
    """The rules of `window`, slowly: blocks by number, pieces as sets."""

    def __init__(self, block, slots, frames, deadline):
        self.n, self.frames, self.deadline = block, frames, deadline
        self.reach, self.records = 2 * block, max(16, 2 * slots)
        self.free, self.blocks, self.out = slots, {}, []
        self.next, self.top, self.begun = 0, -1, -1
        self.last = [0] * len(PIECES)
        self.streak = [(0, None)] * len(PIECES)
        self.counts = [dict.fromkeys(NAMES, 0) for _ in PIECES]
        self.t_data = self.t_end = 0
        self.ended = False

    def span(self, b):
        first = b * self.n
        return first, min(self.n, self.frames - first) if self.frames is not None else self.n

    def open_to(self, b):
        while self.top < b:
            if self.top + 1 >= self.next + self.records:
                self.close(self.next, range(len(PIECES)))
                continue
            self.top += 1
            self.blocks[self.top] = {"t": 0, "slot": None, "got": [set() for _ in PIECES], "closed": set()}

    def close(self, b, sectors):
        for s in sectors:
            block = self.blocks.get(b)
            if block is None or s in block["closed"]:
                continue
            block["closed"].add(s)
            expected = self.span(b)[1] * PIECES[s]
            self.counts[s]["expected"] += expected
            self.counts[s]["lost"] += expected - len(block["got"][s])
            while self.next <= self.top and len(self.blocks[self.next]["closed"]) == len(PIECES):
                done = self.blocks.pop(self.next)
                first, n = self.span(self.next)
                self.out.append((self.next, first, n, bool(done["slot"]), done["got"]))
                self.next += 1
                if self.frames is not None and first + n >= self.frames:
                    self.ended = True

    def lowest_open(self, s):
        b = self.next
        while b <= self.top and s in self.blocks[b]["closed"]:
            b += 1
        return b

    def packet(self, s, frame, piece, now):
        """Return the name of the fate, or ``"restart"``."""
        counts = self.counts[s]
        d = frame - self.last[s]
        if d < -self.reach or d > 2 * self.reach:
            length, before = self.streak[s]
            length = length + 1 if length and abs(frame - before) <= self.reach else 1
            self.streak[s] = (length, frame)
            if length >= 8 and d < 0:
                return "restart"
            if length < 8:
                return self.count(s, "late" if d < 0 <= frame else "foreign")
        counts["received"] += 1
        self.streak[s] = (0, None)
        self.last[s] = max(self.last[s], frame)
        if frame < 0:
            return self.fate(s, "foreign")
        while not self.ended:
            b = self.lowest_open(s)
            first, n = self.span(b)
            if n <= 0 or first + n + self.reach > frame:
                break
            self.open_to(b)
            if not self.ended:
                self.close(b, [s])
        if self.ended or (self.frames is not None and frame >= self.frames):
            self.t_end = self.t_end or now
            return self.fate(s, "foreign")
        self.begun, self.t_data = max(self.begun, frame), now
        if self.frames is not None and frame == self.frames - 1:
            self.t_end = now
        b = frame // self.n
        if b < self.next:
            return self.fate(s, "late")
        self.open_to(b)
        block = self.blocks[b]
        if s in block["closed"]:
            return self.fate(s, "late")
        if block["slot"] is None:
            block["t"], block["slot"] = now, self.free > 0
            self.free -= block["slot"]
        if not block["slot"]:
            return self.fate(s, "overrun")
        if (frame % self.n, piece) in block["got"][s]:
            return self.fate(s, "duplicate")
        block["got"][s].add((frame % self.n, piece))
        if len(block["got"][s]) == self.span(b)[1] * PIECES[s]:
            self.close(b, [s])
        return self.fate(s, "valid")

    def count(self, s, name):
        self.counts[s]["received"] += 1
        return self.fate(s, name)

    def fate(self, s, name):
        self.counts[s][name] += 1
        return name

    def expire(self, now):
        due = []
        for b in sorted(self.blocks):
            later = [self.blocks[c]["t"] for c in self.blocks if c > b and self.blocks[c]["t"]]
            if self.t_end:
                later.append(max(self.t_data, self.t_end))
            if later and now - min(later) > self.deadline:
                due.append(b)
        for b in due:
            # an older block is never open when a newer one is due
            for older in [o for o in sorted(self.blocks) if o <= b]:
                self.close(older, range(len(PIECES)))
        if self.t_end and now - max(self.t_data, self.t_end) > self.deadline:
            self.close_all(self.frames)

    def close_all(self, frames):
        while not self.ended and self.span(self.next)[1] > 0 and self.span(self.next)[0] < frames:
            self.open_to(self.next)
            self.close(self.next, range(len(PIECES)))

    def finish(self):
        if not self.ended:
            self.frames = self.begun + 1
            self.close_all(self.frames)
        self.ended = True


class Window(RuleBasedStateMachine):
    @initialize(
        block=st.integers(1, 5), slots=st.integers(4, 7), frames=st.sampled_from([None, 1, 17, 64]),
        first=st.sampled_from([0, 3, 2**BITS - 5]),
    )  # fmt: skip
    def begin(self, block, slots, frames, first):
        self.first, self.now, self.held, self.at = first, SECOND, [], 0
        self.model = Model(block, slots, frames, SECOND)
        self.state = new_state(Limits(PIECES, slots, block, block, frames, BITS, 1.0))
        self.state.run[k.FIRST] = first
        election.begin(self.state, self.now)
        self.seen = 0

    def one(self, sector, frame, piece):
        """Give a packet to both. Only ids that 9 bits tell apart are possible."""
        if abs(frame - self.model.last[sector]) > 2 ** (BITS - 1) - 1:
            return
        self.now += 1
        expected = self.model.packet(sector, frame, piece, self.now)
        raw = (self.first + frame) % 2**BITS
        fate, slot, block, inside, room = accept(self.state, sector, raw, piece, self.now, 0)
        if expected == "restart":
            assert fate == k.RESTARTED
            self.state.counters[sector, k.RECEIVED] += 0
            blocks.finish(self.state)
            self.model.finish()
            return
        assert NAMES[fate] == expected
        if fate == k.VALID:
            assert 0 <= slot < len(self.state.slots)
            assert (block, inside, room) == (frame // self.model.n, frame % self.model.n, self.model.n)
            blocks.settle(self.state, sector, block)

    @precondition(lambda self: not self.model.ended)
    @rule(sector=st.integers(0, 1), step=st.integers(-12, 14), piece=st.integers(0, 1))
    def packet(self, sector, step, piece):
        self.one(sector, self.model.last[sector] + step, piece)

    @precondition(lambda self: not self.model.ended)
    @rule(count=st.integers(1, 12), gaps=st.sets(st.integers(0, 60), max_size=6))
    def frames(self, count, gaps):
        """Both sectors send the next frames, but for some packets."""
        number = 0
        for f in range(self.at, self.at + count):
            for s, pieces in enumerate(PIECES):
                for p in range(pieces):
                    number += 1
                    if number not in gaps and not self.model.ended:
                        self.one(s, f, p)
        self.at += count

    @precondition(lambda self: not self.model.ended)
    @rule(sector=st.integers(0, 1), to=st.sampled_from([-200, -60, 60, 200]), count=st.integers(1, 10))
    def far(self, sector, to, count):
        """Broken ids, a jump, or a restart: it depends on how many agree."""
        frame = self.model.last[sector] + to
        for i in range(count):
            if not self.model.ended:
                self.one(sector, frame + i // 3, i % 2)

    @precondition(lambda self: not self.model.ended)
    @rule(seconds=st.sampled_from([0.3, 0.8, 2.5]))
    def time_passes(self, seconds):
        self.now += round(seconds * SECOND)
        self.model.expire(self.now)
        blocks.expire(self.state, self.now)

    @rule()
    def release(self):
        if self.held:
            self.state.slots[self.held.pop(0)] = 0
            self.model.free += 1

    @precondition(lambda self: not self.model.ended)
    @rule()
    def stop(self):
        self.model.finish()
        blocks.finish(self.state)

    @invariant()
    def same(self):
        if not hasattr(self, "model"):
            return
        for block, first, n, slot, _, _, room in take_notices(self.state):
            expected = self.model.out[self.seen]
            assert (block, first, n, slot >= 0, room) == (*expected[:4], self.model.n)
            for s, got in enumerate(expected[4]):
                flags = (
                    self.state.slot_bits[slot, s, :n, : PIECES[s]] if slot >= 0 else np.zeros((n, PIECES[s]))
                )
                assert {(int(f), int(p)) for f, p in np.argwhere(flags)} == {g for g in got if g[0] < n}
            if slot >= 0:
                self.held.append(slot)
            self.seen += 1
        assert self.seen == len(self.model.out)
        assert (self.state.run[k.PHASE] == k.ENDED) == self.model.ended
        for s, counts in enumerate(self.model.counts):
            assert {name: int(self.state.counters[s, i]) for i, name in enumerate(NAMES)} == counts
            c = counts
            assert c["received"] == sum(
                c[x] for x in ("valid", "duplicate", "late", "overrun", "corrupt", "foreign")
            )
            if self.model.ended:
                assert c["expected"] == c["valid"] + c["lost"]
                assert self.state.counters[s, k.UNUSABLE] <= c["lost"]


TestWindow = Window.TestCase
TestWindow.settings = settings(max_examples=40, stateful_step_count=30)


@pytest.mark.parametrize("bits", [4, 16, 32, 48, 64])
def test_ids_are_unwrapped(bits):
    """Any step shorter than half of the range is found again, wherever it starts."""
    rng = np.random.default_rng(bits)
    half = 2 ** (bits - 1)
    for last, step in zip(rng.integers(0, 2**62, 50).tolist(), rng.uniform(-1, 1, 50).tolist(), strict=True):
        d = int(step * (half - 1)) if bits < 63 else int(step * 2**40)
        raw = (last + d) % 2**bits
        raw -= 2**64 if raw >= 2**63 else 0
        assert k.unwrap(raw, last, bits) == d


def test_the_size_of_blocks_changes_where_it_was_announced():
    state = new_state(Limits((1,), 6, 2, 8, 30, 32, 1.0))
    election.begin(state, 1)
    spans = []
    for f in range(30):
        if f == 5:
            plan_from(state, 4, 8)  # block 2 is open, 3 is not announced differently
        fate, _, block, *_ = accept(state, 0, f, 0, f + 2, 0)
        assert fate == k.VALID
        blocks.settle(state, 0, block)
        for b, first, n, slot, *_ in take_notices(state):
            spans.append((b, first, n))
            state.slots[slot] = 0
    assert spans == [(0, 0, 2), (1, 2, 2), (2, 4, 2), (3, 6, 2), (4, 8, 8), (5, 16, 8), (6, 24, 6)]
    assert state.run[k.PHASE] == k.ENDED


def test_a_block_holds_as_much_as_its_plan_says():
    state = new_state(Limits((2,), 4, 3, 3, 7, 32, 1.0))
    election.begin(state, 1)
    for f in (6, 5, 4, 3, 2, 1, 0):
        for p in (1, 0):
            fate, _, block, inside, room = accept(state, 0, f, p, 9, 0)
            assert (fate, block, inside, room) == (k.VALID, f // 3, f % 3, 3)
            blocks.settle(state, 0, block)
    assert [(b, n) for b, _, n, *_ in take_notices(state)] == [(0, 3), (1, 3), (2, 1)]


@pytest.mark.parametrize("first", [10, 2**32 - 20], ids=["plain", "wraps"])
def test_who_joins_late_begins_with_the_block_of_what_is_sent_then(first):
    w = new_state(Limits((2, 2), slots=4, block=4, room=4, frames=100, id_bits=32, deadline=1.0))
    w.run[k.FIRST] = first
    w.run[k.REF], w.run[k.HAS_REF] = (first + 37) % 2**32, 1
    election.begin(w, 1)
    election.catch_up(w)
    fate, _, block, frame, _ = accept(w, 1, (first + 37) % 2**32, 0, 1, 0)
    assert (fate, block, frame) == (k.VALID, 9, 1)
    blocks.finish(w)
    assert [n[:3] for n in take_notices(w)] == [(9, 36, 2)]
    assert w.counters[:, k.EXPECTED].tolist() == [4, 4]  # frames 36 and 37 only
