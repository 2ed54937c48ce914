"""Datagrams of one detector to two workers: they agree about the first frame, though sectors begin apart."""

import os
import signal

import numpy as np
import pytest

import framefold as ff
from framefold.testing.emulator import DetectorEmulator
from framefold.udfcore.live import FirstFrame, last_of
from framefold.udfs import SumUDF

DATA = np.random.default_rng(5).integers(0, 4096, (80, 16, 64)).astype("uint16")
WAIT = 300


class PerFrame(ff.UDF):
    """Folded where sectors arrive."""

    def get_result_buffers(self):
        return {"total": self.buffer("nav", dtype="int64", reduce="sum")}

    def process_tile(self, tile):
        self.results.total += tile.sum(axis=(1, 2), dtype="int64")


class Whole(ff.UDF):
    def get_result_buffers(self):
        return {"top": self.buffer("nav", dtype="int64"), "total": self.buffer("nav", dtype="int64")}

    def process_frame(self, frame):
        self.results.top[:] = frame.max()
        self.results.total[:] = frame.sum()


@pytest.fixture
def ctx(cluster):
    return ff.Context(executor=cluster)


def placed(ctx, sectors):
    connected = ctx.executor._connected()
    names = sorted(connected.name(a) for a in connected.workers())
    return {s: names[s * len(names) // sectors] for s in range(sectors)}


@pytest.mark.parametrize("start_id", [0, 2**32 - 12], ids=["plain", "wraps"])
def test_workers_agree_about_the_first_frame(ctx, start_id):
    with DetectorEmulator(
        "k2is", DATA, sectors=4, rate=400, skew=0.01, start_id=start_id, mode="series"
    ) as detector:
        live = ctx.load(
            detector.url, nav_shape=(5, 10), placement=placed(ctx, 4), deadline=WAIT, idle_timeout=WAIT,
            receiver="thread", start_timeout=WAIT, ring_bytes=1 << 22,
        )  # fmt: skip
        parts, whole, total = ctx.run_udf(live, [PerFrame(), Whole(), SumUDF()], on_ready=detector.start)
    first = (parts.report["first_id"] - start_id) % 2**32
    assert first == 12  # sector 3 begins 30 ms after sector 0, in the middle of a frame or not
    want = DATA[first : first + 50].astype("int64")
    assert parts.damage.all()
    assert whole.damage.all()
    np.testing.assert_array_equal(parts["total"].data.reshape(-1), want.sum(axis=(1, 2)))
    np.testing.assert_array_equal(whole["total"].data.reshape(-1), want.sum(axis=(1, 2)))
    np.testing.assert_array_equal(whole["top"].data.reshape(-1), want.max(axis=(1, 2)))
    np.testing.assert_array_equal(total["intensity"].data, want.sum(axis=0))


@pytest.mark.parametrize(
    ("ids", "bits", "last"),
    [([3, 5, 4], 32, 5), ([2**32 - 1, 2, 2**32 - 4], 32, 2), ([2, 2**32 - 1], 32, 2), ([7], 63, 7)],
)
def test_the_last_of_several_candidates(ids, bits, last):
    assert last_of([FirstFrame(i, bits) for i in ids]) == FirstFrame(last, bits)


class DiesOnce(ff.UDF):
    """Ends the process that sees frame 40 of sector 3 for the first time."""

    engine = ff.EngineOptions(effects=True)

    def __init__(self, marker):
        super().__init__(marker=marker)

    def get_result_buffers(self):
        return {"total": self.buffer("nav", dtype="int64", reduce="sum")}

    def process_tile(self, tile):
        late = self.meta.frame_ids[-1] >= 40 and self.meta.sig_slice.origin[1] >= 48
        if late and not os.path.exists(self.params.marker):
            with open(self.params.marker, "w"):
                pass
            os.kill(os.getpid(), signal.SIGKILL)
        self.results.total += tile.sum(axis=(1, 2), dtype="int64")


@pytest.mark.slow  # starts workers of its own, and one of them again
def test_datagrams_are_received_again_when_a_worker_is_lost(tmp_path):
    loops, enough = 500, 200  # 100 s at most; ends when something came that was received again
    with (
        ff.Context(workers=2) as ctx,
        DetectorEmulator(
            "k2is", DATA, sectors=4, rate=400, loops=loops, mode="series", gentle=False
        ) as detector,
    ):
        live = ctx.load(
            detector.url, nav_shape=(loops, 80), placement=placed(ctx, 4), idle_timeout=WAIT,
            receiver="thread", start_timeout=WAIT, ring_bytes=1 << 22, deadline=5,
        )  # fmt: skip
        for part in ctx.run_udf_iter(live, DiesOnce(f"{tmp_path}/died"), on_ready=detector.start):
            if np.count_nonzero(part.damage.reshape(-1)[60:]) > enough:
                ctx.stop()
    res = part.buffers[0]
    good = res.damage.reshape(-1)
    ids = np.flatnonzero(good)
    assert (ids > 60).sum() > enough
    assert res.report["first_id"] == 0
    want = DATA.sum(axis=(1, 2), dtype="int64")
    np.testing.assert_array_equal(res["total"].data.reshape(-1)[ids], want[ids % 80])
    assert "received again" in res.report["end_text"]
    for s in res.report["sectors"]:
        assert s["expected"] == s["valid"] + s["lost"]
    lost = [s["lost"] for s in res.report["sectors"]]
    assert min(lost[2:]) > max(lost[:2])
