"""Sectors of one detector on two worker processes: folded where they arrive, or put together by the shuffle."""

import logging
import os
import signal
import time

import numpy as np
import pytest

import framefold as ff
from framefold.errors import ExecutorError, StreamError
from framefold.io.live.memory import MemoryLiveSource, MemoryStream
from framefold.udfcore.live import FirstFrame
from framefold.udfs import StdDevUDF, SumUDF

SIG = (8, 6)
DATA = np.random.default_rng(3).integers(0, 1000, (35, *SIG)).astype("uint16")


class Sums(ff.UDF):
    """Every kind of buffer that parts of a frame can be added to."""

    def get_preferred_input_dtype(self):
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self):
        return {
            "total": self.buffer("sig", dtype="int64", reduce="sum"),
            "mean": self.buffer("sig", dtype="float64", reduce="mean"),
            "per_frame": self.buffer("nav", dtype="int64", reduce="sum"),
            "top": self.buffer("nav", dtype="int64", reduce="max"),
        }

    def process_tile(self, tile):
        r = self.results
        r.total += tile.sum(axis=0, dtype="int64")
        r.mean += tile.sum(axis=0)
        r.per_frame += tile.sum(axis=(1, 2), dtype="int64")
        np.maximum(r.top, tile.max(axis=(1, 2)), out=r.top)


class Whole(ff.UDF):
    def get_result_buffers(self):
        return {"top": self.buffer("nav", dtype="float32"), "pid": self.buffer("nav", dtype="int64")}

    def process_frame(self, frame):
        self.results.top[:] = frame.max()
        self.results.pid[:] = os.getpid()


class Counting(ff.UDF):
    def get_result_buffers(self):
        return {
            "n": self.buffer("single", dtype="int64", reduce="sum"),
            "total": self.buffer("sig", dtype="float64", reduce="sum"),
        }

    def process_tile(self, tile):
        if self.meta.sig_slice.origin == (0, 0):
            self.results.n += len(tile)
        self.results.total += tile.sum(axis=0)


@pytest.fixture
def ctx(cluster):
    return ff.Context(executor=cluster)


@pytest.fixture
def names(cluster):
    connected = cluster._connected()
    until = time.monotonic() + 60
    while len(connected.workers()) < 2:  # other tests end workers, which are started anew
        assert time.monotonic() < until, "the cluster lost a worker for good"
        time.sleep(0.05)
    return sorted(connected.name(a) for a in connected.workers())


def live(names, **kwargs):
    options = {k: kwargs.pop(k) for k in ("missing", "history", "n_frames", "deadline") if k in kwargs}
    placement = {0: names[0], 1: names[1], 2: names[0]}
    source = MemoryLiveSource(**{"array": DATA, "sectors": 3, "pieces": 2, "block_frames": 4, **kwargs})
    return source.with_options(**{"placement": placement, "deadline": 300.0, **options})


def check(got, want, names=None):
    for name in names or want:
        np.testing.assert_allclose(got[name].data, want[name].data, rtol=1e-12)
        np.testing.assert_array_equal(got[name].valid_mask, want[name].valid_mask)
    np.testing.assert_array_equal(got.coverage, want.coverage)
    np.testing.assert_array_equal(got.damage, want.damage)
    assert got.report["status"] == want.report["status"]
    assert [s["sector"] for s in got.report["sectors"]] == [0, 1, 2]
    for a, b in zip(got.report["sectors"], want.report["sectors"], strict=True):
        assert (a["valid"], a["lost"], a["expected"]) == (b["valid"], b["lost"], b["expected"])


@pytest.mark.parametrize("missing", ["skip", "fill"])
@pytest.mark.parametrize("roi", [False, True], ids=["all", "roi"])
def test_parts_are_joined_where_buffers_allow_it(ctx, names, missing, roi, caplog):
    valid = np.random.default_rng(1).random((35, 6)) > 0.1
    valid[4] = False
    keep = (np.arange(35) % 3 != 1).reshape(5, 7) if roi else None
    dark = ff.Corrections(dark=np.full(SIG, 2.0))
    ds = ctx.load(live(names, valid=valid, missing=missing), nav_shape=(5, 7))
    one = ff.Context(executor="inline")
    with caplog.at_level(logging.INFO, "framefold"):
        found = ctx.run_udf(ds, [Sums(), SumUDF(), StdDevUDF()], roi=keep)
        corrected = ctx.run_udf(ds, SumUDF(), roi=keep, corrections=dark)
    for got, want in zip(found, one.run_udf(ds, [Sums(), SumUDF(), StdDevUDF()], roi=keep), strict=True):
        check(got, want)
    check(corrected, one.run_udf(ds, SumUDF(), roi=keep, corrections=dark))
    assert "put together" not in caplog.text


@pytest.mark.parametrize("missing", ["skip", "drop-frame"])
def test_others_get_whole_frames_by_the_shuffle(ctx, names, missing, caplog):
    valid = np.random.default_rng(2).random((35, 6)) > 0.1
    ds = ctx.load(live(names, valid=valid, missing=missing), nav_shape=(5, 7))
    udfs = [Whole(), Counting(), SumUDF(), StdDevUDF()]
    with caplog.at_level(logging.INFO, "framefold"):
        found = ctx.run_udf(ds, udfs)
    want = ff.Context(executor="inline").run_udf(ds, udfs)
    check(found[0], want[0], ["top"])
    for a, b in zip(found[1:], want[1:], strict=True):
        check(a, b)
    complete = valid.all(axis=1).reshape(5, 7)
    assert len(set(found[0]["pid"].data[complete].tolist())) == 2  # both workers own blocks
    assert caplog.text.count("put together to whole frames: Whole: it needs whole frames") == 1


def test_both_ways_in_one_run(ctx, names, caplog):
    valid = np.random.default_rng(4).random((35, 6)) > 0.2
    keep = (np.arange(35) % 3 != 1).reshape(5, 7)
    ds = ctx.load(live(names, valid=valid, repeats=2), nav_shape=(5, 7))
    one = ff.Context(executor="inline")
    for roi in (None, keep):
        with caplog.at_level(logging.INFO, "framefold"):
            sums, whole, std = ctx.run_udf(ds, [Sums(), Whole(), StdDevUDF()], roi=roi)
        want = one.run_udf(ds, [Sums(), Whole(), StdDevUDF()], roi=roi)
        check(sums, want[0])
        check(whole, want[1], ["top"])
        check(std, want[2])
        assert "put together to whole frames: Whole: it needs whole frames\n" in caplog.text
        assert sums.report["frames"] == (valid.all(axis=1) & (True if roi is None else roi.reshape(-1))).sum()
    # and once more, through sockets that stay open
    for res in ctx.acquisitions(ds, [Whole(), Sums()], n=2):
        check(res[1], one.run_udf(ds, Sums()))


def test_both_ways_without_an_end(ctx, names):
    ds = ctx.load(live(names, repeats=None, stop_after=90, history=40))
    whole, sums = ctx.run_udf(ds, [Whole(), Sums()])
    kept = np.arange(50, 90)
    for res, name, want in (
        (whole, "top", DATA.max(axis=(1, 2))),
        (sums, "per_frame", DATA.sum(axis=(1, 2))),
    ):
        np.testing.assert_array_equal(res[name].frame_ids, kept)
        np.testing.assert_array_equal(res[name].data, want[kept % 35])


def test_partitions_in_order_are_merged_by_one_worker(ctx, names):
    ds = ctx.load(live(names), nav_shape=(5, 7))
    seen = []
    for part in ctx.run_udf_iter(ds, [Whole(), SumUDF()], deterministic=True, publish_interval=0.001):
        seen.append(np.flatnonzero(part.damage.reshape(-1)))
    for rows in seen:
        np.testing.assert_array_equal(rows, np.arange(len(rows)))
    whole, total = part.buffers
    assert len(set(whole["pid"].data.reshape(-1).tolist())) == 1
    np.testing.assert_array_equal(total["intensity"].data, DATA.sum(axis=0))


def test_acquisitions_by_the_shuffle(ctx, names):
    ds = ctx.load(live(names, repeats=2), nav_shape=(5, 7))
    for res in ctx.acquisitions(ds, Whole(), n=2):
        np.testing.assert_array_equal(res["top"].data.reshape(-1), DATA.max(axis=(1, 2)))


def test_without_an_end(ctx, names):
    ds = ctx.load(live(names, repeats=None, stop_after=90, history=100))
    res = ctx.run_udf(ds, Sums())
    kept = np.arange(90)
    np.testing.assert_array_equal(res["per_frame"].frame_ids, kept)
    np.testing.assert_array_equal(res["per_frame"].data, DATA[kept % 35].sum(axis=(1, 2)))
    assert res.damage.all()
    np.testing.assert_array_equal(res["total"].data, DATA[np.arange(90) % 35].sum(axis=0))


def test_placement_must_name_every_sector(ctx, names):
    source = live(names).with_options(placement={0: names[0], 1: names[1], 7: names[1]})
    with pytest.raises(StreamError, match=r"placement= must name every sector once: \[2\] left out, \[7\]"):
        ctx.run_udf(ctx.load(source), SumUDF())


class Deadly(ff.UDF):
    """Ends the process that folds sector 1 in the middle of the scan."""

    engine = ff.EngineOptions(effects=True)

    def get_result_buffers(self):
        return {"n": self.buffer("sig", dtype="int64", reduce="sum")}

    def process_tile(self, tile):
        if self.meta.sig_slice.origin[1] == 2 and self.meta.frame_ids[0] >= 16:
            os.kill(os.getpid(), signal.SIGKILL)
        self.results.n += len(tile)


class GatedSource(MemoryLiveSource):
    """Sends no more than `GATE` blocks before a stream joins that takes the place of a lost one."""

    gate = ""

    def open(self, sectors=None):
        stream = GatedStream(self, sectors)
        stream.gate = self.url.partition("//")[2]
        return stream

    def bound_as(self, start):
        return self


GATE = 5  # blocks


class GatedStream(MemoryStream):
    joins = False

    def hold(self):
        return False

    def candidate(self):
        return None

    def agree(self, first):
        raise AssertionError("nobody asked for it")

    def first(self):
        return FirstFrame(0, 63)

    def resume(self, first):
        assert first == FirstFrame(0, 63)
        self.joins = True

    def wait_start(self, timeout):
        start = super().wait_start(timeout)
        if self.joins:
            self._index, self._at = GATE, 4 * GATE
            with open(self.gate, "w"):
                pass
        return start

    def next_block(self, timeout):
        if self._index >= GATE and not os.path.exists(self.gate):
            time.sleep(min(timeout, 0.01))
            return None
        return super().next_block(timeout)


class DiesOnce(ff.UDF):
    """Ends the process that sees frame 16 of sector 1 for the first time."""

    engine = ff.EngineOptions(effects=True)

    def __init__(self, marker, whole):
        super().__init__(marker=marker, whole=whole)

    def get_method(self):
        return self.UDF_METHOD.FRAME if self.params.whole else self.UDF_METHOD.TILE

    def get_result_buffers(self):
        return {"sum": self.buffer("nav", dtype="int64", reduce="sum")}

    def _maybe_die(self, frame):
        if frame >= 16 and not os.path.exists(self.params.marker):
            with open(self.params.marker, "w"):
                pass
            os.kill(os.getpid(), signal.SIGKILL)

    def process_tile(self, tile):
        if self.meta.sig_slice.origin[1] == 2:
            self._maybe_die(self.meta.frame_ids[0])
        self.results.sum += tile.sum(axis=(1, 2), dtype="int64")

    def process_frame(self, frame):
        self._maybe_die(self.meta.frame_ids[0])
        self.results.sum += frame.sum(dtype="int64")


@pytest.mark.parametrize("whole", [False, True], ids=["joined", "shuffled"])
def test_sectors_of_a_lost_worker_are_received_again(tmp_path, caplog, whole):
    source = GatedSource(
        DATA, sectors=3, pieces=2, block_frames=4, nav_shape=(5, 7), slots=9, url=f"gated://{tmp_path}/gate"
    ).with_options(placement={0: "0", 1: "1", 2: "0"}, deadline=300.0, start_timeout=300.0)
    with ff.Context(workers=2) as ctx:  # workers of its own: it ends one
        res = ctx.run_udf(ctx.load(source), DiesOnce(f"{tmp_path}/died", whole), publish_interval=0.01)
    good = res.damage.reshape(-1)
    assert good[4 * GATE :].all()  # everything since it is received again
    assert not good[16:20].all()
    want = DATA.sum(axis=(1, 2))
    np.testing.assert_array_equal(res["sum"].data.reshape(-1)[good], want[good])
    assert res.report["end_reason"] == "n_frames"
    assert "its sectors were received again, from a later frame on" in res.report["end_text"]
    assert "its sectors are received again, live data cannot be repeated" in caplog.text
    status = res.report["status"]
    assert status["complete"] == good.sum()
    assert sum(status.values()) == 35
    assert status["unseen"] == 0  # what went with whoever put it together is lost
    for s in res.report["sectors"]:
        assert s["expected"] == 70
        assert s["expected"] == s["valid"] + s["lost"]
        fates = ("valid", "duplicate", "late", "overrun", "corrupt", "foreign", "with_worker")
        assert s["received"] == sum(s[name] for name in fates)
        assert s["valid"] == 2 * good.sum() if whole else s["valid"] >= 2 * good.sum()


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["continue", "error"])
def test_what_happens_when_a_worker_is_lost_is_up_to_the_user(tmp_path, policy, caplog):
    with open(f"{tmp_path}/gate", "w"):
        pass
    source = GatedSource(
        DATA, sectors=3, pieces=2, block_frames=4, nav_shape=(5, 7), url=f"gated://{tmp_path}/gate"
    ).with_options(placement={0: "0", 1: "1", 2: "0"}, deadline=300.0, on_worker_loss=policy)
    with ff.Context(workers=2) as ctx:
        ds, udf = ctx.load(source), DiesOnce(f"{tmp_path}/died", False)
        if policy == "error":
            with pytest.raises(ExecutorError, match=r"is gone.*; on_worker_loss='error' ends the run"):
                ctx.run_udf(ds, udf)
            return
        res = ctx.run_udf(ds, udf)
    assert "the other sectors go on" in caplog.text
    one, two, three = res.report["sectors"]
    assert (one["valid"], three["valid"]) == (70, 70)
    assert two["expected"] == 70 == two["valid"] + two["lost"]
    assert not res.damage.reshape(-1)[16:].any()


def test_the_other_sectors_go_on_when_a_worker_dies(caplog):
    with ff.Context(workers=2) as ctx:  # workers of its own: it ends one
        ds = ctx.load(live(["0", "1"]), nav_shape=(5, 7))
        res = ctx.run_udf(ds, Deadly(), publish_interval=0.01)
    n = res["n"].data
    np.testing.assert_array_equal(n, res.coverage)
    assert (n[:, [0, 1, 4, 5]] == 35).all()
    assert (n[:, 2:4] <= 16).all()
    assert res.damage.sum() <= n[:, 2:4].min()
    assert "is gone" in res.report["end_text"]
    assert "live data cannot be repeated, the other sectors go on" in caplog.text
