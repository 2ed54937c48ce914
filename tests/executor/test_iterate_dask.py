"""Iterative reductions on dask workers: the same results as in this process, and workers that die."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

import framefold as ff
from framefold.errors import ExecutorError
from framefold.executor import iterate_dask
from framefold.executor.dask import DaskExecutor
from framefold.sim.ptycho import ptycho_scan
from framefold.udfcore.iterative import IterativeUDF, Pass, stratified
from framefold.udfs.ptycho import Ptychography

DATA = np.random.default_rng(1).integers(0, 1000, (5, 7, 6, 4)).astype(np.uint16)


class Descent(IterativeUDF):
    """The mean frame by gradient descent in mini-batches; `trap`: what happens in iteration 3 to frame 20."""

    def __init__(self, batches=1, rate=0.5, trap="", flag=""):
        super().__init__(batches=batches, rate=rate, trap=trap, flag=flag)

    def resolve(self, info):
        return len(info.frame_ids), info.sample.shape[1:]

    def get_order(self):
        return np.arange(self.setup[0])[::-1].copy()

    def get_loop_state(self):
        return {"x": np.zeros(self.setup[1]), "done": 0}

    def get_partition_state(self):
        return {"visits": ((), "int64")}

    def get_pass_buffers(self):
        return {
            "g": self.summed(self.setup[1], "float64"),
            "n": self.summed((), "int64"),
            "line": self.summed((self.setup[0] + 1,), "float64", windowed=True),
            "visits": self.summed((), "int64", reduce="max"),
        }

    def window(self, name):
        start, stop = self.lane_rows
        return (slice(start, stop + 1),)

    def plan(self, iteration):
        for rows in stratified(self.setup[0], self.params.batches, self.rng(iteration)):
            yield Pass("main", rows)

    def process_rows(self, frames, rows):
        start = self.lane_rows[0]
        self.state.visits[rows] += 1
        for row in rows:
            self.results.line[row] += frames[row].sum()
            if self.params.trap and self.loop.done // self.params.batches == 3 and start + row == 14:
                self.fall()
        self.results.g[...] += (frames[rows] - self.loop.x).sum(axis=0)
        self.results.n[...] += len(rows)
        self.results.visits[...] = self.state.visits.max()

    def fall(self):
        if self.params.trap == "error":
            raise ValueError("broken on purpose")
        if not Path(self.params.flag).exists():
            Path(self.params.flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def step(self, phase, results):
        self.loop.x += self.params.rate * results.g / results.n
        self.loop.line = results.line.copy()
        self.loop.done += 1
        self.record(change=float(np.abs(results.g / results.n).max()), visits=float(results.visits))
        if self.loop.done == 1:
            self.say("began")

    def converged(self, history):
        return history["change"][-1] < 1e-9 and "close enough"

    def publish(self):
        return {"mean": self.loop.x, "line": self.loop.line}


@pytest.fixture
def ctx(cluster):
    return ff.Context(executor=cluster)


@pytest.fixture(scope="module")
def local():
    with ff.Context(executor="threads") as ctx:
        yield ctx


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The data in a file, which workers read."""
    name = tmp_path_factory.mktemp("data") / "scan.npy"
    np.save(name, DATA)
    return str(name)


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_workers_give_what_threads_give(ctx, local, path, kind):
    data = path if kind == "file" else DATA
    roi = np.arange(35).reshape(5, 7) % 5 != 0
    one = local.iterate(data, Descent(4, 0.3), n=4, lanes=1, roi=roi).to_end()
    udf = Descent(4, 0.3)
    two = ctx.iterate(data, udf, n=4, lanes=2, roi=roi, corrections=None).to_end()
    np.testing.assert_allclose(two["mean"].data, one["mean"].data, rtol=1e-12)
    np.testing.assert_array_equal(two["line"].data, one["line"].data)
    again = ctx.iterate(data, Descent(4, 0.3), n=4, lanes=2, roi=roi).to_end()
    assert again["mean"].data.tobytes() == two["mean"].data.tobytes()
    assert (two.damage == roi).all()
    assert two.report["workers"] == 2
    assert udf.notes == ["began"]
    assert udf.history["visits"].tolist() == [1, 2, 3, 4]


def test_run_udf_converges_on_workers(ctx):
    ready = []
    it = ctx.iterate(DATA, Descent(), publish_every=0, on_ready=ready.append)
    seen = [state.iteration for state in it]
    assert seen == list(range(1, len(seen) + 1))
    assert ready == [it]
    assert it.snapshot.reason == "close enough"
    np.testing.assert_allclose(it.result["mean"].data, DATA.mean(axis=(0, 1)), atol=1e-6)


def test_leaving_the_loop_keeps_the_result(ctx):
    it = ctx.iterate(DATA, Descent(rate=0.1), publish_every=0)
    for state in it:
        if state.iteration == 3:
            break
    it.close()
    np.testing.assert_array_equal(it.result["mean"].data, state["mean"].data)
    assert it.snapshot.reason == "stopped"


def test_checkpoints_go_from_workers_to_threads_and_back(ctx, local, tmp_path):
    file = tmp_path / "state.h5"
    whole = local.iterate(DATA, Descent(3), n=6, lanes=1).to_end()
    ctx.iterate(DATA, Descent(3), n=2, checkpoint=file).to_end()
    local.iterate(DATA, Descent(3), n=4, checkpoint=file, resume=file).to_end()
    it = ctx.iterate(DATA, Descent(3), n=6, resume=file)
    np.testing.assert_allclose(it.to_end()["mean"].data, whole["mean"].data, rtol=1e-12)
    assert len(it.snapshot.history["change"]) == 6


def test_errors_of_the_udf_keep_their_type(ctx):
    with pytest.raises(ValueError, match="broken on purpose") as caught:
        ctx.iterate(DATA, Descent(trap="error")).to_end()
    assert "iteration 3" in "".join(caught.value.__notes__)
    ctx.iterate(DATA, Descent(), n=1).to_end()  # the workers are as good as new


@pytest.mark.parametrize("recipe", ["2 RPIE(batches=3); 2 AP", "3 DM", "2 ML; 2 EPIE"])
def test_ptychography_is_the_same_on_threads_and_workers(ctx, local, recipe):
    scan = ptycho_scan(25, 16, probe_radius=3, step=1.5, seed=1)

    def run(where, source, **options):
        # double precision: sums in another order differ in the last of 16 digits, which 4 iterations amplify
        udf = Ptychography(
            probe=scan.probe, recipe=recipe, precision="double", probe_update_start=1, subpixel=None
        )
        return where.iterate(source, udf, **options).to_end()["raw_object"].data

    one = run(local, scan.source(), lanes=2)
    found = [run(ctx, scan.source(), lanes=1), run(ctx, scan.source(), lanes=1)]
    assert found[0].tobytes() == found[1].tobytes()
    np.testing.assert_allclose(found[0], one, atol=1e-9)
    if "EPIE" in recipe:
        return  # goes by the number of lanes, and by the order of the frames in each
    many = run(local, scan.source(), lanes=3)
    np.testing.assert_allclose(many, one, atol=1e-9)


@pytest.fixture(scope="module")
def mortal():
    """Workers that may be killed."""
    executor = DaskExecutor(workers=2)
    executor.map(abs, [1])
    yield executor
    executor.close()


@pytest.mark.parametrize("returns", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_dead_worker_is_replaced_or_the_others_take_its_frames(
    mortal, local, path, tmp_path, monkeypatch, returns
):
    mortal.client.wait_for_workers(2, timeout=60)
    monkeypatch.setattr(iterate_dask, "RETURN_SECONDS", 600.0)
    if not returns:
        monkeypatch.setattr(iterate_dask.DaskTeam, "_refill", lambda self: None)
    data = DATA if returns else path
    flag = tmp_path / "flag"
    it = ff.Context(executor=mortal).iterate(data, Descent(2, trap="die", flag=str(flag)), n=8)
    found = it.to_end()
    assert flag.exists()
    (loss,) = found.report["lost_workers"]
    assert loss.startswith("worker ")
    assert found.report["workers"] == (2 if returns else 1)
    whole = local.iterate(data, Descent(2), n=8, lanes=1).to_end()
    # from the last copy of the loop state: nothing is lost or counted twice
    np.testing.assert_allclose(found["mean"].data, whole["mean"].data, rtol=1e-12)
    assert len(it.snapshot.history["change"]) == 8


@pytest.mark.slow
def test_all_workers_dead_is_an_error_that_says_what_to_do(mortal):
    mortal.client.wait_for_workers(2, timeout=60)
    pids = list(mortal.client.run(os.getpid).values())
    killed = threading.Event()

    def kill(_):
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        killed.set()

    with pytest.raises(ExecutorError, match=r"none is left.*checkpoint=FILE, resume=FILE"):
        ff.Context(executor=mortal).iterate(DATA, Descent(), n=5, on_ready=kill).to_end()
    assert killed.is_set()
