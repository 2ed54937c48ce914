"""Iterations over frames that come while they run."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError, StreamError, UDFError
from framefold.executor import iterate_live
from framefold.executor.iterate_host import HostLoop
from framefold.io.live.memory import MemoryLiveSource, MemoryStream
from framefold.sim.ptycho import ptycho_scan
from framefold.udfcore.iterative import IterativeUDF, Pass
from framefold.udfs.ptycho import Ptychography, ScanPositions
from framefold.udfs.ptycho.denominators import illuminated
from framefold.udfs.ptycho.quality import object_error

DATA = np.random.default_rng(3).integers(0, 1000, (40, 8, 6)).astype("uint16")
ORDER = np.random.default_rng(4).permutation(40)


class Mean(IterativeUDF):
    """The mean of the frames that are there, and how often each was seen."""

    def __init__(self, hear=None):
        super().__init__(hear=hear)

    def resolve(self, info):
        return info.sample.shape[1:], len(info.frame_ids)

    def get_order(self):
        return ORDER

    def get_loop_state(self):
        return {"mean": np.zeros(self.setup[0]), "seen": np.zeros(self.setup[1], int), "grew": []}

    def get_partition_state(self):
        return {"visits": ((), "int64")}

    def get_pass_buffers(self):
        return {
            "sum": self.summed(self.setup[0], "float64"),
            "seen": self.summed((self.setup[1],), "int64"),
            "halves": self.summed((), "int64"),
        }

    def plan(self, iteration):
        yield Pass()
        yield Pass("halves", np.arange(0, self.setup[1], 2))

    def process_rows(self, frames, rows):
        if self.phase == "halves":
            self.results.halves[...] += len(rows)
            return
        self.results.sum[...] += frames[rows].sum(axis=0)
        self.state.visits[rows] += 1
        self.results.seen[self.lane_rows[0] + rows] = self.state.visits[rows]

    def step(self, phase, results):
        if phase == "halves":
            self.record(halves=int(results.halves), there=len(self.present))
            return
        self.loop.mean = results.sum / len(self.present)
        self.loop.seen = results.seen.copy()

    def grew(self, fresh):
        self.loop.grew.append((fresh.tolist(), self.growing))

    def converged(self, history):
        if self.params.hear is not None:
            self.params.hear()
        return True

    def publish(self):
        return {"mean": self.loop.mean, "seen": self.loop.seen}


@pytest.mark.parametrize("lanes", [1, 3])
def test_frames_take_part_from_the_iteration_after_they_came(lanes):
    udf = Mean()
    udf.setup = udf.resolve(SimpleNamespace(sample=DATA, frame_ids=np.arange(40)))
    frames = np.full(DATA.shape, 65535, DATA.dtype)  # what is not there must not be seen
    came = [np.arange(5), np.arange(5, 30), np.array([33, 39])]
    frames[came[0]] = DATA[came[0]]
    loop = HostLoop(udf, frames, 0, lanes, present=came[0])
    loop.iterate()
    for more in came[1:]:
        frames[more] = DATA[more]
        loop.grow(more, growing=True)
        loop.iterate()
        there = udf.present
        assert len(there) == sum(len(c) for c in came if c[0] <= more[0])
        np.testing.assert_allclose(udf.loop.mean, DATA[there].mean(axis=0), rtol=1e-12)
    # lanes were dealt anew: what they keep of each frame went with it
    np.testing.assert_array_equal(np.bincount(udf.loop.seen), [8, 2, 25, 5])
    assert udf.history["there"].tolist() == [5, 30, 32]
    assert udf.history["halves"].tolist() == [3, 15, 15]
    assert [len(fresh) for fresh, _ in udf.loop.grew] == [25, 2]
    loop.close()


class Gated(MemoryLiveSource):
    """Sends a block when it is let."""

    gate = threading.Semaphore(0)

    def open(self, sectors=None):
        return GatedStream(self, sectors)


class GatedStream(MemoryStream):
    def next_block(self, timeout):
        if self._stopped is None and self._at and not Gated.gate.acquire(timeout=timeout):
            return None
        return super().next_block(timeout)


@pytest.fixture
def few(monkeypatch):
    """Begin with the first block."""
    monkeypatch.setattr(iterate_live, "SAMPLE", 6)
    Gated.gate = threading.Semaphore(0)
    return Gated.gate


@pytest.fixture(params=["threads", "inline"])
def ctx(request):
    with ff.Context(executor=request.param) as ctx:
        yield ctx


def test_a_stream_gives_the_mean_of_what_arrived(ctx, few):
    valid = np.ones((40, 4), bool)
    valid[7, 2] = valid[31] = False
    ready = []
    ds = ctx.load(Gated(DATA, sectors=2, pieces=2, valid=valid), nav_shape=(8, 5))
    dark = np.full((8, 6), 3.0)
    it = ctx.iterate(
        ds,
        Mean(few.release),
        n=3,
        publish_every=0,
        on_ready=ready.append,
        corrections=ff.Corrections(dark=dark),
    )
    sizes = [state.n_frames for state in it]
    whole = valid.all(axis=1)
    assert sizes[0] < sizes[-1] == 38
    assert sizes == sorted(sizes)
    np.testing.assert_allclose(it.result["mean"].data, (DATA[whole] - 3.0).mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(it.result.damage.reshape(-1), whole)
    assert it.snapshot.reason == "converged"  # it says so from the beginning, but frames still came
    assert it.result.report["live"]["end_reason"] == "n_frames"
    assert len(ready) == 1
    assert ready[0].start is not None


def test_the_limit_counts_from_the_last_frame(few):
    with ff.Context(executor="threads") as ctx:
        udf = Mean(few.release)
        udf.converged = lambda history: few.release()
        it = ctx.iterate(ctx.load(Gated(DATA)), udf, n=2, publish_every=0)
        sizes = [state.n_frames for state in it]
    assert sizes.count(40) == 2
    assert it.snapshot.reason == "2 iterations"


def test_stop_ends_the_acquisition_and_keeps_what_came(few):
    with ff.Context(executor="threads") as ctx:
        it = ctx.iterate(ctx.load(Gated(DATA)), Mean(), publish_every=0)
        for state in it:
            if state.iteration == 2:
                it.stop()
        assert it.snapshot.reason == "stopped"
        assert it.snapshot.n_frames == 8
        np.testing.assert_allclose(it.result["mean"].data, DATA[:8].mean(axis=0), rtol=1e-12)


class Breaking(Gated):
    """Its third block does not come."""

    def open(self, sectors=None):
        return BreakingStream(self, sectors)


class BreakingStream(GatedStream):
    def next_block(self, timeout):
        if self._at >= 16:
            raise StreamError("the cable was pulled")
        return super().next_block(timeout)


def test_what_came_before_a_stream_broke_is_kept(few):
    with ff.Context(executor="threads") as ctx:
        it = ctx.iterate(ctx.load(Breaking(DATA)), Mean(few.release))
        with pytest.raises(StreamError, match="the cable was pulled") as caught:
            it.to_end()
    assert caught.value.partial is it.snapshot
    n = it.snapshot.n_frames
    assert n in (8, 16)  # as far as an iteration saw them
    np.testing.assert_allclose(it.result["mean"].data, DATA[:n].mean(axis=0), rtol=1e-12)
    assert it.snapshot.reason == "the stream broke"


def test_the_context_stops_iterations():
    with ff.Context(executor="threads") as ctx:
        udf = Mean()
        udf.converged = lambda history: ctx.stop() if len(history) == 3 else False
        it = ctx.iterate(DATA, udf)
        it.to_end()
    assert it.snapshot.iteration == 3
    assert it.snapshot.reason == "stopped"


def test_what_a_stream_cannot_do_is_said(few):
    with ff.Context(executor="threads") as ctx:
        with pytest.raises(UDFError, match="live stream pass once"):
            ctx.iterate(ctx.load(Gated(DATA)), Mean(), resume="x.h5")
        with pytest.raises(DataError, match="does not say how many frames"):
            ctx.iterate(ctx.load(MemoryLiveSource(DATA, stated_frames=-1)), Mean()).to_end()
        lost = MemoryLiveSource(DATA, valid=np.zeros((40, 1), bool))
        with pytest.raises(StreamError, match="no whole frame came"):
            ctx.iterate(ctx.load(lost), Mean()).to_end()
        source = MemoryLiveSource(DATA, dead=(0,)).with_options(start_timeout=0.05)
        with pytest.raises(StreamError, match="nothing came from sector 0"):
            ctx.iterate(ctx.load(source), Mean()).to_end()


@pytest.mark.parametrize("recipe", ["8 RPIE; 20 AP", "10 DM; 15 AP"])
def test_a_live_scan_ends_where_the_recorded_one_does(few, recipe):
    scan = ptycho_scan(64, 24, probe_radius=4, step=2, photons=1e5, seed=1, scan="random")
    valid = np.ones((64, 1), bool)
    valid[[20, 50]] = False
    positions = ScanPositions(scan.pixels, units="px")

    class Noticed(Ptychography):
        def converged(self, history):
            few.release()
            return super().converged(history)

    def error(found):
        w = illuminated(scan.illumination)
        y, x = (min(a, b) for a, b in zip(found.shape, w.shape, strict=True))
        return object_error(found[:y, :x], scan.object[:y, :x], w[:y, :x])

    given = {"geometry": scan.geometry, "positions": positions, "probe": scan.probe, "recipe": recipe}
    with ff.Context(executor="threads") as ctx:
        udf = Noticed(**given)
        source = Gated(scan.frames, block_frames=8, valid=valid)
        live = ctx.iterate(ctx.load(source), udf, publish_every=0)
        sizes = [state.n_frames for state in live]
        roi = valid[:, 0]
        recorded = ctx.iterate(ctx.load(scan.source()), Ptychography(**given), roi=roi).to_end()
    assert sizes[0] < 40
    assert sizes[-1] == 62
    assert "62 of 64 frames came" in udf.notes
    assert error(live.result["object"].data) < 1.2 * error(recorded["object"].data)
