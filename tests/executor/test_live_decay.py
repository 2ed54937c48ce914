"""Runs without an end whose old frames count less and less."""

from dataclasses import replace

import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError, ParameterError
from framefold.io.live.memory import MemoryLiveSource, MemoryStream
from framefold.udfcore.live import Block
from framefold.udfs import MeanUDF, StdDevUDF, SumUDF

DATA = np.random.default_rng(3).integers(0, 1000, (35, 8, 6)).astype("uint16")
SENT, BLOCK, STEP, TAU = 200, 5, 0.25, 2.0  # frames, frames in a block, seconds between blocks, seconds


class Clocked(MemoryStream):
    """The last packet of block k comes at 1000 s + k STEP, whatever the time is."""

    def next_block(self, timeout):
        item = super().next_block(timeout)
        return replace(item, t_last=1000 + STEP * item.index) if isinstance(item, Block) else item


class ClockedSource(MemoryLiveSource):
    def open(self, sectors=None):
        return Clocked(self, sectors)


class Weighted(ff.UDF):
    """Sums per pixel and for all, in both precisions."""

    def get_result_buffers(self):
        return {
            "total": self.buffer("sig", dtype="float64", reduce="sum"),
            "wave": self.buffer("sig", (2,), dtype="complex64", reduce="sum"),
            "n": self.buffer("single", dtype="float64", reduce="sum"),
            "mean_sum": self.buffer("single", dtype="float64", reduce="mean"),
            "id": self.buffer("nav", dtype="int64"),
        }

    def process_frame(self, frame):
        r = self.results
        r.total += frame
        r.wave += frame[..., np.newaxis] * np.array([1, 1j])
        r.n += 1
        r.mean_sum += frame.sum()
        r.id[:] = self.meta.frame_ids


class Each(Weighted):
    """The same where nothing stays on the worker between blocks."""

    def postprocess(self):
        pass


@pytest.fixture(params=["inline", "threads", "dask"])
def ctx(request):
    if request.param == "dask":
        yield ff.Context(executor=request.getfixturevalue("cluster"))
        return
    with ff.Context(executor=request.param, **({"workers": 2} if request.param == "threads" else {})) as ctx:
        yield ctx


def live(valid=None, **options):
    source = ClockedSource(
        DATA, sectors=3, pieces=2, block_frames=BLOCK, repeats=None, stop_after=SENT, valid=valid
    )
    return source.with_options(**{"history": 24, "decay": TAU, **options})


def weights(first=0, last=SENT):
    """The weight of each frame at the time of the last, and the frames, by numpy."""
    ids = np.arange(first, last)
    age = (ids[-1] // BLOCK - ids // BLOCK) * STEP
    return np.exp(-age / TAU), DATA[ids % 35].astype("float64")


def check(res, w, frames):
    want = np.einsum("i,ijk->jk", w, frames)
    np.testing.assert_allclose(res["total"].data, want, rtol=1e-12)
    np.testing.assert_allclose(res["wave"].data[..., 1], 1j * want, rtol=1e-5)  # 200 float32 additions
    np.testing.assert_allclose(res["n"].data, w.sum(), rtol=1e-12)
    np.testing.assert_allclose(res["mean_sum"].data, want.sum() / w.sum(), rtol=1e-12)


@pytest.mark.parametrize("udf", [Weighted, Each])
def test_old_frames_fade(ctx, udf):
    got, mean = ctx.run_udf(ctx.load(live()), [udf(), MeanUDF()])
    w, frames = weights()
    check(got, w, frames)
    np.testing.assert_allclose(mean["mean"].data, np.average(frames, axis=0, weights=w), rtol=1e-12)
    np.testing.assert_allclose(mean.coverage, np.full((8, 6), w.sum()), rtol=1e-12)
    np.testing.assert_array_equal(got["id"].data, np.arange(176, 200))


def test_means_divide_by_the_weights_of_what_arrived(ctx):
    valid = np.random.default_rng(1).random((35, 6)) > 0.2
    res = ctx.run_udf(ctx.load(live(valid)), MeanUDF())
    w, frames = weights()
    there = valid[np.arange(SENT) % 35].reshape(SENT, 3, 2)  # sectors side by side, pieces below one another
    pixels = np.repeat(np.repeat(there.transpose(0, 2, 1), 4, axis=1), 2, axis=2) * w[:, None, None]
    np.testing.assert_allclose(res.coverage, pixels.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        res["mean"].data, (pixels * frames).sum(axis=0) / pixels.sum(axis=0), rtol=1e-12
    )


def test_each_window_fades_for_itself(ctx):
    res = ctx.run_udf(ctx.load(live(restart_every=30)), Weighted())
    check(res, *weights(150, 180))


def test_sectors_on_two_workers(cluster):
    connected = cluster._connected()
    names = sorted(connected.name(a) for a in connected.workers())
    ctx = ff.Context(executor=cluster)
    placement = {0: names[0], 1: names[-1], 2: names[-1]}
    res = ctx.run_udf(ctx.load(live(placement=placement)), MeanUDF())
    w, frames = weights()
    # a pixel comes from one worker: that the clocks of two are known to a message's time does not touch its mean
    np.testing.assert_allclose(res["mean"].data, np.average(frames, axis=0, weights=w), rtol=1e-12)


class Custom(ff.UDF):
    def get_result_buffers(self):
        return {"own": self.buffer("sig", dtype="float64")}

    def merge(self, dest, src):
        dest.own += src.own

    def process_frame(self, frame):
        self.results.own += frame


class Top(ff.UDF):
    def get_result_buffers(self):
        return {"top": self.buffer("sig", dtype="float64", reduce="max")}

    def process_frame(self, frame):
        np.maximum(self.results.top, frame, out=self.results.top)


@pytest.mark.parametrize(
    ("udf", "message"),
    [
        (SumUDF, "SumUDF: decay=2 .* buffer 'intensity': it holds uint64, .*: declare a float dtype"),
        (StdDevUDF, "StdDevUDF: decay=2 .* buffer '.*': it .*: declare .*, or use restart_every="),
        (Custom, "Custom: decay=2 .* buffer 'own': it is joined by merge: declare reduce='sum' or 'mean'"),
        (Top, "Top: decay=2 .* buffer 'top': it has reduce='max', which has no weights"),
    ],
)
def test_what_cannot_fade_is_refused(udf, message):
    ctx = ff.Context(executor="inline")
    with pytest.raises(ParameterError, match=message):
        ctx.run_udf(ctx.load(live()), udf())


def test_a_scan_has_an_end_and_does_not_fade():
    ctx = ff.Context(executor="inline")
    with pytest.raises(DataError, match=r"decay=2.0 is for runs without an end.*leave nav_shape="):
        ctx.run_udf(ctx.load(MemoryLiveSource(DATA).with_options(decay=2.0), nav_shape=(5, 7)), MeanUDF())


def test_a_time_to_forget_is_above_zero():
    with pytest.raises(DataError, match="decay=0.0 must be above 0"):
        ff.Context(executor="inline").load("merlin://127.0.0.1:1", decay=0.0)
