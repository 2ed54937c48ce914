"""Runs without an end that start anew every N frames."""

import itertools
import threading

import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError, UDFError
from framefold.io.live.memory import MemoryLiveSource
from framefold.udfs import StdDevUDF, SumUDF

DATA = np.random.default_rng(3).integers(0, 1000, (35, 8, 6)).astype("uint16")
EVERY = 32


class Kinds(ff.UDF):
    """Every way in which buffers are joined, and one value per frame."""

    def get_preferred_input_dtype(self):
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self):
        return {
            "mean": self.buffer("sig", dtype="float64", reduce="mean"),
            "top": self.buffer("sig", dtype="int64", reduce="max"),
            "own": self.buffer("sig", dtype="int64"),
            "last": self.buffer("sig", dtype="int64", reduce="last"),
            "n": self.buffer("single", dtype="int64", reduce="sum"),
            "id": self.buffer("nav", dtype="int64"),
        }

    def merge(self, dest, src):
        dest.own += src.own
        dest.id[:] = src.id

    def process_frame(self, frame):
        r = self.results
        r.mean += frame
        np.maximum(r.top, frame, out=r.top)
        r.own += frame
        r.last[:] = frame
        r.n += 1
        r.id[:] = self.meta.frame_ids


class InOrder(Kinds):
    engine = ff.EngineOptions(order="stream")


@pytest.fixture(params=["inline", "threads", "dask"])
def ctx(request):
    if request.param == "dask":
        yield ff.Context(executor=request.getfixturevalue("cluster"))
        return
    with ff.Context(executor=request.param, **({"workers": 2} if request.param == "threads" else {})) as ctx:
        yield ctx


def live(sent, block_frames=5, **options):
    valid = options.pop("valid", None)
    source = MemoryLiveSource(
        DATA, sectors=3, pieces=2, block_frames=block_frames, repeats=None, stop_after=sent, valid=valid
    )
    return source.with_options(**{"history": 24, "restart_every": EVERY, **options})


def window(number):
    """The frames of a window, by numpy."""
    return DATA[np.arange(number * EVERY, (number + 1) * EVERY) % 35].astype("int64")


@pytest.mark.parametrize("udf", [Kinds, InOrder])
def test_the_last_finished_window_is_the_result(ctx, udf):
    """6 windows of 32 frames and 8 frames; blocks of 5 frames, of which some belong to two windows."""
    kinds, total, spread = ctx.run_udf(ctx.load(live(200)), [udf(), SumUDF(), StdDevUDF()])
    want = window(5)
    np.testing.assert_array_equal(kinds["mean"].data, want.mean(axis=0))
    np.testing.assert_array_equal(kinds["top"].data, want.max(axis=0))
    np.testing.assert_array_equal(kinds["own"].data, want.sum(axis=0))
    np.testing.assert_array_equal(kinds["last"].data, want[-1])
    assert kinds["n"].data == EVERY
    np.testing.assert_array_equal(total["intensity"].data, want.sum(axis=0))
    np.testing.assert_allclose(spread["std"].data, want.std(axis=0), rtol=1e-12)
    assert (total.coverage == EVERY).all()
    # one value per frame is kept as ever
    np.testing.assert_array_equal(kinds["id"].data, np.arange(176, 200))
    stated = {"every": 32, "number": 5, "first_frame": 160, "frames": 32, "complete": True}
    assert total.report["window"] == stated
    assert "results are of window 5: 32 frames from 160 on, complete" in str(total.report)
    assert total.report["status"]["complete"] == 200


def test_before_the_first_window_is_finished_it_is_the_result(ctx):
    res = ctx.run_udf(ctx.load(live(20)), SumUDF())
    np.testing.assert_array_equal(res["intensity"].data, DATA[:20].sum(axis=0))
    assert res.report["window"] == {
        "every": 32, "number": 0, "first_frame": 0, "frames": 20, "complete": False
    }  # fmt: skip
    assert "20 frames from 0 on, not complete yet" in str(res.report)


def test_every_finished_window_that_is_shown_is_whole(ctx):
    source = live(320, block_frames=4)
    seen = []
    for part in ctx.run_udf_iter(ctx.load(source), [SumUDF(), Kinds()], publish_interval=0.001):
        total, kinds = part.buffers
        told = total.report["window"]
        seen.append(told["number"])
        if told["complete"]:
            np.testing.assert_array_equal(total["intensity"].data, window(told["number"]).sum(axis=0))
            np.testing.assert_array_equal(kinds["top"].data, window(told["number"]).max(axis=0))
    assert seen == sorted(seen)
    assert seen[-1] == 9


def test_windows_shorter_than_a_block(ctx):
    res = ctx.run_udf(ctx.load(live(200, block_frames=50, restart_every=7)), SumUDF())
    np.testing.assert_array_equal(res["intensity"].data, DATA[np.arange(189, 196) % 35].sum(axis=0))
    assert res.report["window"]["number"] == 27


def test_missing_pieces_are_counted_per_window(ctx):
    valid = np.random.default_rng(1).random((35, 6)) > 0.2
    res = ctx.run_udf(ctx.load(live(100, valid=valid)), SumUDF())
    there = valid[np.arange(64, 96) % 35].reshape(
        EVERY, 3, 2
    )  # sectors side by side, pieces below one another
    pixels = np.repeat(np.repeat(there.transpose(0, 2, 1), 4, axis=1), 2, axis=2)
    np.testing.assert_array_equal(res["intensity"].data, (window(2) * pixels).sum(axis=0))
    np.testing.assert_array_equal(res.coverage, pixels.sum(axis=0))


def test_sectors_on_two_workers(cluster):
    connected = cluster._connected()
    names = sorted(connected.name(a) for a in connected.workers())
    placement = {0: names[0], 1: names[-1], 2: names[-1]}
    ctx = ff.Context(executor=cluster)
    res = ctx.run_udf(ctx.load(live(200, placement=placement)), [SumUDF(), Kinds()])
    np.testing.assert_array_equal(res[0]["intensity"].data, window(5).sum(axis=0))
    np.testing.assert_array_equal(res[1]["own"].data, window(5).sum(axis=0))
    assert res[0].report["window"]["number"] == 5


@pytest.mark.parametrize("late", [161, 3], ids=["of the result", "long gone"])
def test_a_slow_lane_neither_spoils_a_window_nor_lacks_in_one(late):
    """The block with frame `late` is folded after all others: 6 windows of 32 frames and 8 frames."""
    release, count = threading.Event(), itertools.count(1)

    class Slow(ff.UDF):
        engine = ff.EngineOptions(effects=True)

        def get_result_buffers(self):
            return {"sum": self.buffer("sig", dtype="float64", reduce="sum")}

        def process_frame(self, frame):
            self.results.sum += frame
            if late == self.meta.frame_ids[0]:
                assert release.wait(30)
            elif next(count) == 196 - late % 4:  # all frames of other blocks, and those before it in its own
                release.set()

    with ff.Context(executor="threads", workers=2) as ctx:
        res = ctx.run_udf(ctx.load(live(200, block_frames=4)), Slow())
    np.testing.assert_array_equal(res["sum"].data, window(5).sum(axis=0))
    assert res.report["window"]["frames"] == EVERY


def test_a_scan_has_an_end_and_does_not_start_anew(ctx):
    source = MemoryLiveSource(DATA).with_options(restart_every=10)
    with pytest.raises(DataError, match=r"restart_every=10 is for runs without an end.*leave nav_shape="):
        ctx.run_udf(ctx.load(source, nav_shape=(5, 7)), SumUDF())


def test_a_window_has_frames():
    with pytest.raises(DataError, match="restart_every=0 must be at least 1"):
        ff.Context(executor="inline").load("merlin://127.0.0.1:1", restart_every=0)


def test_every_window_comes_once_and_then_the_rest(ctx):
    """10 windows of 32 frames and 13 frames; the results of a slow loop are those of a fast one."""
    source = live(333, block_frames=7, idle_timeout=1)
    parts = list(ctx.run_udf_iter(ctx.load(source), [SumUDF(), Kinds()], publish="window"))
    told = [p.buffers[0].report["window"] for p in parts]
    assert [(w["number"], w["frames"], w["complete"]) for w in told] == [
        *((i, EVERY, True) for i in range(10)), (10, 13, False)
    ]  # fmt: skip
    assert [p.final for p in parts] == [False] * 10 + [True]
    for i, part in enumerate(parts[:-1]):
        total, kinds = part.buffers
        np.testing.assert_array_equal(total["intensity"].data, window(i).sum(axis=0))
        np.testing.assert_array_equal(kinds["last"].data, window(i)[-1])
        assert (total.coverage == EVERY).all()
    np.testing.assert_array_equal(parts[-1].buffers[0]["intensity"].data, window(10)[:13].sum(axis=0))


def test_a_run_of_whole_windows_ends_with_an_empty_rest():
    with ff.Context(executor="inline") as ctx:
        parts = list(ctx.run_udf_iter(ctx.load(live(64)), SumUDF(), publish="window"))
    assert [p.buffers[0].report["window"]["frames"] for p in parts] == [32, 32, 0]
    assert not parts[-1].buffers[0]["intensity"].data.any()
    assert parts[-1].final


def test_windows_shorter_than_a_block_come_all():
    with ff.Context(executor="threads", workers=2) as ctx:
        source = live(100, block_frames=50, restart_every=7)
        parts = list(ctx.run_udf_iter(ctx.load(source), SumUDF(), publish="window"))
    for i, part in enumerate(parts[:-1]):
        want = DATA[np.arange(7 * i, 7 * i + 7) % 35].astype("int64").sum(axis=0)
        np.testing.assert_array_equal(part.buffers[0]["intensity"].data, want)
    assert len(parts) == 15  # 14 of 7 frames, and 2 frames


def test_windows_are_asked_for_where_there_are_some():
    with (
        ff.Context(executor="inline") as ctx,
        pytest.raises(UDFError, match="load the detector with restart_every=N"),
    ):
        ctx.run_udf_iter(ctx.load(MemoryLiveSource(DATA)), SumUDF(), publish="window")
