"""Live streams that a worker process receives and folds."""

import os
import signal
import threading

import numpy as np
import pytest

import framefold as ff
from framefold.errors import ExecutorError, StreamError
from framefold.io.live.memory import MemoryLiveSource
from framefold.udfs import StdDevUDF, SumUDF

DATA = np.random.default_rng(3).integers(0, 1000, (35, 8, 6)).astype("uint16")


class Whole(ff.UDF):
    def get_result_buffers(self):
        return {"top": self.buffer("nav", dtype="float32"), "pid": self.buffer("nav", dtype="int64")}

    def process_frame(self, frame):
        self.results.top[:] = frame.max()
        self.results.pid[:] = os.getpid()


class Breaks(ff.UDF):
    def get_result_buffers(self):
        return {"x": self.buffer("nav")}

    def process_frame(self, frame):
        if self.meta.frame_ids[0] == 13:
            raise ZeroDivisionError("at thirteen")


@pytest.fixture
def ctx(cluster):
    return ff.Context(executor=cluster)


def live(**kwargs):
    names = ("missing", "start_timeout", "n_frames", "history", "placement")
    options = {k: kwargs.pop(k) for k in names if k in kwargs}
    return MemoryLiveSource(
        **{"array": DATA, "sectors": 3, "pieces": 2, "block_frames": 4, **kwargs}
    ).with_options(**options)


def test_a_worker_receives_and_folds(ctx):
    valid = np.random.default_rng(1).random((35, 6)) > 0.1
    ds = ctx.load(live(valid=valid), nav_shape=(5, 7))
    told = threading.Semaphore(0)
    total, spread, whole = ctx.run_udf(
        ds, [SumUDF(), StdDevUDF(), Whole()], on_ready=lambda info: told.release()
    )
    assert told.acquire(timeout=30)
    offline = ff.Context(executor="inline").run_udf(ds, [SumUDF(), StdDevUDF(), Whole()])
    for got, want in zip((total, spread, whole), offline, strict=True):
        for name in set(got) - {"pid"}:
            np.testing.assert_allclose(got[name].data, want[name].data, rtol=1e-12)
        np.testing.assert_array_equal(got.coverage, want.coverage)
        np.testing.assert_array_equal(got.damage, want.damage)
    complete = valid.all(axis=1).reshape(5, 7)
    assert os.getpid() not in whole["pid"].data[complete]
    assert total.report["end_reason"] == "n_frames"
    assert sum(s["lost"] for s in total.report["sectors"]) == (~valid).sum()
    assert 0 < total.report["latency"]["median"] < 60


@pytest.mark.parametrize("known", [True, False], ids=["known", "announced"])
def test_stop(ctx, known):
    ds = ctx.load(live(repeats=None, fps=1000, n_frames=10**5, known_before=known))
    steps = ctx.run_udf_iter(ds, SumUDF(), publish_interval=0.001)
    first = next(steps)
    ctx.stop()
    last = [first, *steps][-1]
    assert last.final
    res = last.buffers[0]
    assert res.report["end_reason"] == "stopped"
    n = int(res.damage.sum())
    np.testing.assert_array_equal(res["intensity"].data, DATA[np.arange(n) % 35].sum(axis=0))


def test_an_error_of_a_udf_arrives_as_it_was(ctx):
    with pytest.raises(ZeroDivisionError, match="at thirteen") as caught:
        ctx.run_udf(ctx.load(live(), nav_shape=(5, 7)), Breaks())
    assert "in Breaks.process_frame, frame (1, 6) [flat 13]" in "".join(caught.value.__notes__)


def test_a_dead_sector_is_named(ctx):
    with pytest.raises(StreamError, match="nothing came from sector 1"):
        ctx.run_udf(ctx.load(live(dead=(1,), start_timeout=0.05)), SumUDF())


def test_an_error_in_on_ready(ctx):
    def ready(info):
        raise OSError("the scan engine is off")

    with pytest.raises(OSError, match="the scan engine is off"):
        ctx.run_udf(ctx.load(live(fps=0.001)), SumUDF(), on_ready=ready)


def test_placement_that_no_worker_has(ctx):
    source = live(placement=dict.fromkeys(range(3), "nowhere"), start_timeout=0.05)
    with pytest.raises(ExecutorError, match="no worker is named 'nowhere' or runs on that host; workers: "):
        ctx.run_udf(ctx.load(source), SumUDF())


def test_placement_by_name(ctx):
    name = ctx.executor._connected().name(next(iter(ctx.executor._connected().workers())))
    ds = ctx.load(live(placement=dict.fromkeys(range(3), name)), nav_shape=(5, 7))
    np.testing.assert_array_equal(ctx.run_udf(ds, SumUDF())["intensity"].data, DATA.sum(axis=0))


def test_acquisitions_and_parameters(ctx):
    ds = ctx.load(live(repeats=2, start_timeout=30), nav_shape=(5, 7))
    for res in ctx.acquisitions(ds, SumUDF(), n=2):
        np.testing.assert_array_equal(res["intensity"].data, DATA.sum(axis=0))


class Deadly(ff.UDF):
    """Ends its process at the 200th frame."""

    engine = ff.EngineOptions(effects=True)

    def get_result_buffers(self):
        return {"n": self.buffer("sig", dtype="int64", reduce="sum")}

    def process_frame(self, frame):
        if self.meta.frame_ids[0] == 200:
            os.kill(os.getpid(), signal.SIGKILL)
        self.results.n += 1


def test_a_worker_that_dies_ends_the_run_and_the_counts_hold():
    with ff.Context(workers=1) as ctx:  # a worker of its own: it ends
        ds = ctx.load(live(repeats=None, fps=2000, n_frames=10**4))
        with pytest.raises(ExecutorError, match="is gone") as caught:
            ctx.run_udf(ds, Deadly(), publish_interval=0.01)
    res = caught.value.partial.buffers[0]
    assert res.damage.sum() <= 200
    np.testing.assert_array_equal(res.coverage, res["n"].data)
    np.testing.assert_array_equal(res["n"].data, np.full((8, 6), res.damage.sum()))
