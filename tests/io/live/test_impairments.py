"""With any mix of faults the accounts add up, and what is called valid equals what was sent."""

import socket
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framefold.errors import StreamError
from framefold.io.live import open_url
from framefold.io.live.replay.fates import Impairments, fates, uniform
from framefold.testing import DetectorEmulator
from framefold.udfcore.live import AcquisitionEnd, Block

WAIT = 30
FRAMES = 24
pytestmark = pytest.mark.usefixtures("nothing_left")


QUIET = {
    "loss": 0.0, "burst_loss": (0.0, 1), "dup": 0.0, "reorder": 0, "corrupt": 0.0, "truncate": 0.0,
    "garbage": 0, "start_id": 0, "seed": 0,
}  # fmt: skip


def dataset(shape=(FRAMES, 16, 64), seed=0, most=4096):
    return np.random.default_rng(seed).integers(0, most, shape).astype(np.uint16)


def collect(stream, truth, layout="pieces", start_id=None):
    """Take one acquisition; every piece that is valid equals the truth. Returns validity per sector, the end.

    With `start_id`, frames are compared by their id: the dataset is sent over and over.
    """
    n = len(truth)
    valid = [np.zeros((n, len(s.pieces)), bool) for s in stream.sectors]
    image = np.zeros(truth.shape, truth.dtype)
    while True:
        item = stream.next_block(WAIT)
        if isinstance(item, AcquisitionEnd):
            break
        assert isinstance(item, Block)
        for i, spec in enumerate(stream.sectors):
            valid[i][item.first_frame : item.first_frame + item.frames] = item.valid[i]
            for f, p in np.argwhere(item.valid[i]):
                place = spec.piece_slices(p)
                got = item.data[i][p, f] if layout == "pieces" else item.data[0][(f, *place)]
                image[(item.first_frame + f, *place)] = got
        stream.release(item)
    shift = 0 if start_id is None else item.first_id - start_id
    expected = np.zeros_like(truth)
    for flags, spec in zip(valid, stream.sectors, strict=True):
        for f, p in np.argwhere(flags):
            place = spec.piece_slices(p)
            expected[(f, *place)] = truth[((f + shift) % n, *place)]
    np.testing.assert_array_equal(image, expected)
    return valid, item


def all_taken(stream, emulator):
    """Wait until the receiver has taken everything that was sent."""
    until = time.monotonic() + WAIT
    while (stream.datagrams() < emulator.emulator.logs[0].sent).any() and time.monotonic() < until:
        time.sleep(0.001)


def run(emulator, truth, *, layout="pieces", compiled=True, receiver="thread", start_id=None, **options):
    """Receive an acquisition to its end, then whatever else was sent; returns what every check needs."""
    # blocks of eight frames, however slow this machine is at the moment: the window depends on them
    fixed = {"fps": 267.0} if "block_time" not in options else {}
    given = {
        "n_frames": len(truth),
        "deadline": WAIT,
        "idle_timeout": WAIT,
        "ring_bytes": 1 << 22,
        **fixed,
        **options,
    }
    source = open_url(emulator.url, receiver=receiver, **given)
    stream = source.open()
    stream._compiled = compiled
    try:
        stream.prepare(layout)
        stream.wait_start(None)
        emulator.start(stream)
        valid, end = collect(stream, truth, layout, start_id)
        assert emulator.wait(WAIT)
        all_taken(stream, emulator)
        stats = stream.stats()
        assert stream._ring.intact()
        return valid, end, stats, stream.datagrams()
    finally:
        stream.close()


def assert_accounts(valid, stats):
    for flags, s in zip(valid, stats, strict=True):
        assert s.received == s.valid + s.duplicate + s.late + s.overrun + s.corrupt + s.foreign
        assert s.expected == flags.size == s.valid + s.lost
        assert s.valid == flags.sum()
        assert s.kernel_drops == 0


mixes = st.fixed_dictionaries(
    {
        "loss": st.sampled_from([0.0, 0.01, 0.3]),
        "burst_loss": st.sampled_from([(0.0, 1), (0.01, 9)]),
        "dup": st.sampled_from([0.0, 0.1]),
        "reorder": st.sampled_from([0, 3, 40]),
        "corrupt": st.sampled_from([0.0, 0.05]),
        "truncate": st.sampled_from([0.0, 0.05]),
        "garbage": st.sampled_from([0, 20]),
        "start_id": st.sampled_from([0, 77, 2**32 - 10]),
        "seed": st.integers(0, 2**31),
    }
)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mixes, st.sampled_from(["pieces", "frames"]))
def test_valid_is_what_was_sent(mix, layout):
    truth = dataset()
    # frames behind the acquisition close what is incomplete: no clock is involved
    with DetectorEmulator(
        "k2is", truth, sectors=2, piece=(8, 16), pre_roll=3, post_roll=64, **mix
    ) as detector:
        valid, end, stats, taken = run(detector, truth, layout=layout, start_id=mix["start_id"] % 2**32)
        log = detector.emulator.logs[0]
        np.testing.assert_array_equal(taken, log.sent)  # nothing was dropped on the way
        assert_accounts(valid, stats)
        assert (end.reason, end.last_frame) == ("n_frames", FRAMES - 1)
        shift = end.first_id - mix["start_id"] % 2**32
        # the first frame is elected by the first flag that is seen: with faults, that may be a later one
        quiet = {**mix, "garbage": 0, "dup": 0.0, "start_id": 0, "seed": 0} == QUIET
        assert 0 <= shift % 2**32 <= (0 if quiet else 8)
        if shift == 0:
            for got, sent in zip(valid, detector.valid(), strict=True):
                # reordering within a window of two blocks makes nothing late
                np.testing.assert_array_equal(got, sent)


@pytest.mark.parametrize(
    "compiled, receiver", [(True, "process"), (False, "thread")], ids=["process", "python"]
)
def test_other_ways_to_receive(compiled, receiver):
    truth = dataset()
    how = {"loss": 0.1, "dup": 0.1, "corrupt": 0.05, "seed": 3}
    with DetectorEmulator(
        "k2is", truth, sectors=2, piece=(8, 16), post_roll=64, mode="series", **how
    ) as detector:
        if compiled:
            valid, _, stats, taken = run(detector, truth, receiver=receiver)
        else:
            with pytest.warns(UserWarning, match="no recvmmsg"):
                valid, _, stats, taken = run(detector, truth, receiver=receiver, compiled=False)
        np.testing.assert_array_equal(taken, detector.emulator.logs[0].sent)
        assert_accounts(valid, stats)
        for got, sent in zip(valid, detector.valid(), strict=True):
            np.testing.assert_array_equal(got, sent)


@pytest.mark.parametrize("layout", ["pieces", "frames"])
@pytest.mark.parametrize(
    "protocol, options",
    [
        ("jungfrau", {"modules": (2, 1), "interfaces": 2}),
        ("jungfrau", {"modules": (1, 2)}),
        ("eiger-udp", {"modules": (1, 2), "packet_bytes": 64}),
        ("k2is", {"sectors": 4, "piece": (16, 4)}),
    ],
    ids=["jungfrau-2x1-two-links", "jungfrau-1x2", "eiger-1x2", "k2is-4"],
)
def test_geometries(protocol, options, layout):
    truth = dataset((6, 32, 64), most=4096)
    with DetectorEmulator(protocol, truth, **options) as detector:
        valid, end, stats, _ = run(detector, truth, layout=layout)
        assert all(v.all() for v in valid)
        assert end.reason == "n_frames"
        assert_accounts(valid, stats)


def test_late_packets_are_late():
    """A packet that comes after its block has closed in the sector is counted, and never used."""
    truth = dataset((200, 16, 64))
    options = {"late": (0.05, 60.0), "rate": 1000.0, "post_roll": 80, "mode": "series", "seed": 5}
    with DetectorEmulator("k2is", truth, sectors=2, piece=(8, 16), **options) as detector:
        valid, _, stats, _ = run(detector, truth, block_time=0.001)
        assert_accounts(valid, stats)
        sent = detector.valid()
        for got, all_sent, s in zip(valid, sent, stats, strict=True):
            assert not (got & ~all_sent).any()
            assert s.late > 0
            assert s.lost >= (all_sent & ~got).sum()


def test_a_dead_sector_with_a_known_start_is_lost_not_waited_for():
    truth = dataset()
    with DetectorEmulator(
        "k2is", truth, sectors=2, piece=(8, 16), dead_sectors=(1,), post_roll=64
    ) as detector:
        valid, end, stats, _ = run(detector, truth, first_frame=0, deadline=0.05)
        assert end.reason == "n_frames"
        assert valid[0].all()
        assert not valid[1].any()
        assert (stats[1].lost, stats[1].received) == (stats[1].expected, 0)
        assert stats[1].expected == FRAMES * 4


def test_skewed_sectors_begin_with_the_last():
    truth = dataset((60, 16, 64))
    with DetectorEmulator(
        "k2is", truth, sectors=2, piece=(8, 16), skew=0.01, rate=1000.0, mode="series", post_roll=40
    ) as detector:
        source = open_url(detector.url, n_frames=50, deadline=WAIT, ring_bytes=1 << 22, receiver="thread")
        stream = source.open()
        try:
            stream.prepare()
            stream.wait_start(None)
            detector.start(stream)
            valid, end = collect(stream, truth[10:])
            # sector 1 begins with frame 10
            assert end.first_id == 10
            assert all(v.all() for v in valid)
            assert_accounts(valid, stream.stats())
            assert stream.stats()[0].foreign >= 40
        finally:
            stream.close()


def test_idle_ends_and_the_last_block_ends_with_the_last_frame():
    """The header, here n_frames, promises more than comes."""
    truth = dataset((21, 16, 64))
    with DetectorEmulator("k2is", truth, sectors=2, piece=(8, 16), mode="series") as detector:
        valid, end, stats, _ = run(detector, np.concatenate([truth, truth]), idle_timeout=0.3)
        assert (end.reason, end.last_frame) == ("idle", 20)
        assert [s.expected for s in stats] == [84, 84]
        assert [s.lost for s in stats] == [0, 0]
        assert all(v[:21].all() and not v[21:].any() for v in valid)


def test_stop_delivers_what_arrived():
    truth = dataset()
    with DetectorEmulator("k2is", truth, sectors=2, piece=(8, 16), mode="series") as detector:
        stream = open_url(
            detector.url, n_frames=1000, deadline=WAIT, ring_bytes=1 << 22, receiver="thread"
        ).open()
        try:
            stream.prepare()
            stream.wait_start(None)
            detector.start(stream)
            assert detector.wait(WAIT)
            all_taken(stream, detector)
            stream.stop()
            _, end = collect(stream, truth)
            assert (end.reason, end.last_frame) == ("stopped", FRAMES - 1)
            assert [s.valid for s in stream.stats()] == [FRAMES * 4] * 2
        finally:
            stream.close()


@pytest.mark.parametrize("first", [0, 500])
def test_acquisitions_follow_one_another(first):
    """The detector is armed again and its ids restart, or go on: nothing is mixed up, nothing lost."""
    truth = dataset()
    with DetectorEmulator(
        "k2is", truth, sectors=2, piece=(8, 16), start_id=first, repeat=3, mode="series", dup=0.05
    ) as detector:
        stream = open_url(
            detector.url, n_frames=FRAMES, deadline=WAIT, ring_bytes=1 << 22, receiver="thread"
        ).open()
        try:
            stream.prepare()
            stream.wait_start(None)
            detector.start(stream)
            for i in range(3):
                if i:
                    stream.wait_start(None)
                valid, end = collect(stream, truth)
                assert (end.reason, end.first_id) == ("n_frames", first)
                assert all(v.all() for v in valid)
                assert_accounts(valid, stream.stats())
        finally:
            stream.close()


def test_a_restart_ends_the_acquisition():
    """The id begins again from 0 in the middle: the rest belongs to the next acquisition."""
    truth = dataset((120, 16, 64))
    with DetectorEmulator("k2is", truth, sectors=2, piece=(8, 16), wrap_at=80, mode="series") as detector:
        stream = open_url(
            detector.url, n_frames=100, deadline=WAIT, idle_timeout=0.5, ring_bytes=1 << 22, receiver="thread"
        ).open()
        try:
            stream.prepare()
            stream.wait_start(None)
            detector.start(stream)
            valid, end = collect(stream, np.concatenate([truth[:80], truth[:20]]))
            assert (end.reason, end.last_frame) == ("restart", 79)
            assert all(v[:80].all() and not v[80:].any() for v in valid)
            assert_accounts([v[:80] for v in valid], stream.stats())
            stream.wait_start(None)
            rest = np.concatenate([truth[80:], np.zeros((60, 16, 64), np.uint16)])
            valid, end = collect(stream, rest)
            assert (end.reason, end.last_frame, end.first_id) == ("idle", 39, 0)
            assert all(v[:40].all() for v in valid)
            assert_accounts([v[:40] for v in valid], stream.stats())
        finally:
            stream.close()


def test_a_full_ring_drops_whole_newest_blocks():
    """Nothing is released: four blocks are kept, all others are overrun in all sectors."""
    truth = dataset((80, 16, 64))
    frame = 16 * 64 * 2
    with DetectorEmulator("k2is", truth, sectors=2, piece=(8, 16), mode="series", post_roll=16) as detector:
        stream = open_url(
            detector.url,
            n_frames=80,
            deadline=WAIT,
            ring_bytes=8 * 4 * frame,
            fps=1000.0,
            block_time=0.004,
            receiver="thread",
        ).open()
        try:
            stream.prepare()
            slots = len(stream._ring.arrays["slots"])
            assert slots == 8
            stream.wait_start(None)
            detector.start(stream)
            kept = []
            while not isinstance(item := stream.next_block(WAIT), AcquisitionEnd):
                kept.append([v.copy() for v in item.valid])
            assert [bool(a.all() and b.all()) for a, b in kept] == [True] * 8 + [False] * 12
            assert not any(a.any() or b.any() for a, b in kept[8:])
            for s in stream.stats():
                assert (s.valid, s.overrun, s.lost) == (8 * 16, 12 * 16, 12 * 16)
        finally:
            stream.close()


@given(st.integers(0, 2**31), st.integers(1, 2000), st.integers(0, 1999))
def test_fates_depend_on_number_and_seed_alone(seed, n, at):
    how = Impairments(0.1, (0.01, 5), 0.1, 7, (0.1, 3.0), 0.1, 0.1)
    every = fates(np.arange(2000), how, seed)
    part = fates(np.arange(at, min(at + n, 2000)), how, seed)
    for name in ("lost", "corrupt", "cut", "delay", "again", "where"):
        np.testing.assert_array_equal(getattr(part, name), getattr(every, name)[at : at + n])


def test_rates_of_fates():
    """Frequencies within five standard deviations of n p."""
    n = 200_000
    got = fates(np.arange(n), Impairments(loss=0.01, dup=0.02, corrupt=0.03, truncate=0.04), 1)
    for count, p in ((got.lost, 0.01), (got.again >= 0, 0.02), (got.corrupt, 0.03), (got.cut, 0.04)):
        assert abs(count.sum() - n * p) < 5 * np.sqrt(n * p * (1 - p))
    # a burst of L begins with chance p: a packet survives if none of L began one
    burst = fates(np.arange(n), Impairments(burst_loss=(0.001, 20)), 1).lost
    assert abs(burst.mean() - (1 - 0.999**20)) < 5 * np.sqrt(20 * 0.001 / n * 20)
    assert uniform(np.arange(10), 1, 0).std() > 0.1


def test_a_socket_that_nobody_listens_to_is_no_error():
    with DetectorEmulator("k2is", dataset(), sectors=2, piece=(8, 16), gentle=False) as detector:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        detector.start([f"udp://127.0.0.1:{port}"] * 2)
        assert detector.wait(WAIT)


def test_a_group_is_joined_on_the_named_interface():
    truth = dataset()
    with DetectorEmulator("k2is", truth, sectors=2, piece=(8, 16), mode="series") as detector:
        url = detector.url.replace("127.0.0.1:0", "239.255.41.7:0") + "&iface=lo"
        stream = open_url(url, n_frames=FRAMES, deadline=WAIT, ring_bytes=1 << 22, receiver="thread").open()
        try:
            try:
                stream.prepare()
            except StreamError as exc:
                pytest.skip(f"no multicast on the loopback interface of this system: {exc}")
            stream.wait_start(None)
            assert {e.interface for e in stream.endpoints} == {"lo"}
            detector.start(stream)
            valid, end = collect(stream, truth)
            assert end.reason == "n_frames"
            assert all(v.all() for v in valid)
        finally:
            stream.close()
    with pytest.raises(StreamError, match="iface='nosuch0' is none. Interfaces: .*lo"):
        open_url(url.replace("iface=lo", "iface=nosuch0"), n_frames=1, receiver="thread").open().prepare()


def test_other_senders_are_foreign():
    """With source=, datagrams from other addresses are counted and not used."""
    truth = dataset()
    with DetectorEmulator("k2is", truth, sectors=2, piece=(8, 16), mode="series") as detector:
        options = {"n_frames": FRAMES, "deadline": WAIT, "idle_timeout": 0.3, "ring_bytes": 1 << 22}
        stream = open_url(detector.url, source="127.0.0.2", receiver="thread", **options).open()
        try:
            stream.prepare()
            stream.wait_start(None)
            detector.start(stream)
            assert detector.wait(WAIT)
            all_taken(stream, detector)
            stream.stop()
            valid, end = collect(stream, truth)
            assert not any(v.any() for v in valid)
            assert (end.reason, end.last_frame) == ("stopped", -1)
            assert [s.foreign for s in stream.stats()] == [FRAMES * 4] * 2
        finally:
            stream.close()
