"""Laws of iterative reductions, on the smallest UDFs that show them."""

from __future__ import annotations

import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError, UDFError
from framefold.udfcore.iterative import History, IterativeUDF, Pass, stratified


class Descent(IterativeUDF):
    """The mean frame by gradient descent in mini-batches."""

    def __init__(self, batches: int = 1, rate: float = 0.5, fail_at: int = -1) -> None:
        super().__init__(batches=batches, rate=rate, fail_at=fail_at)

    def resolve(self, info):
        self.n = len(info.frame_ids)
        return (self.n, info.sample.shape[1:])

    def get_loop_state(self):
        return {"x": np.zeros(self.setup[1]), "done": 0}

    def get_pass_buffers(self):
        return {
            "g": self.summed(self.setup[1], "float64"),
            "n": self.summed((), "int64"),
            "top": self.summed((), "float64", reduce="max"),
        }

    def plan(self, iteration):
        for rows in stratified(self.setup[0], self.params.batches, self.rng(iteration)):
            yield Pass("main", rows)

    def process_tile(self, tile):
        if self.params.fail_at >= 0 and self.loop.done == self.params.fail_at:
            raise ValueError("broken on purpose")
        self.results.g[...] += (tile - self.loop.x).sum(axis=0)
        self.results.n[...] += len(tile)
        self.results.top[...] = max(float(self.results.top), float(tile.max()))

    def step(self, phase, results):
        self.loop.x += self.params.rate * results.g / results.n
        self.loop.done += 1
        self.record(change=float(np.abs(results.g / results.n).max()), top=float(results.top))

    def converged(self, history):
        return history["change"][-1] < 1e-9

    def publish(self):
        return {"mean": self.loop.x}


@pytest.fixture
def data():
    return np.random.default_rng(1).integers(0, 1000, (5, 7, 6, 4)).astype(np.uint16)


@pytest.fixture
def ctx():
    with ff.Context(executor="threads") as ctx:
        yield ctx


def test_run_udf_iterates_to_convergence(ctx, data):
    result = ctx.run_udf(data, Descent())
    np.testing.assert_allclose(result["mean"].data, data.mean(axis=(0, 1)), atol=1e-6)
    assert result.report["reason"] == "converged"
    assert result.damage.all()
    assert not result["mean"].data.flags.writeable


@pytest.mark.parametrize("lanes", [1, 2, 3, 50])
@pytest.mark.parametrize("batches", [1, 4])
def test_lanes_do_not_matter(ctx, data, lanes, batches):
    # sums of at most 35 x 1000: exact in float64 but for the division
    one = ctx.iterate(data, Descent(batches, 0.3), n=4, lanes=1).to_end()
    many = ctx.iterate(data, Descent(batches, 0.3), n=4, lanes=lanes).to_end()
    np.testing.assert_allclose(many["mean"].data, one["mean"].data, rtol=1e-12)


def test_repeated_runs_agree_bitwise(ctx, data):
    first = ctx.iterate(data, Descent(3), n=5, lanes=3).to_end()
    second = ctx.iterate(data, Descent(3), n=5, lanes=3).to_end()
    assert first["mean"].data.tobytes() == second["mean"].data.tobytes()


def test_inline_executor(data):
    with ff.Context(executor="inline") as ctx:
        result = ctx.iterate(data, Descent(), n=60).to_end()
    np.testing.assert_allclose(result["mean"].data, data.mean(axis=(0, 1)), atol=1e-6)


def test_roi_corrections_and_transforms_hold(ctx, data):
    roi = np.zeros((5, 7), bool)
    roi[1, 2:5] = True
    dark = np.full((6, 4), 7.0)
    result = ctx.iterate(
        data,
        Descent(),
        roi=roi,
        corrections=ff.Corrections(dark=dark),
        pre=[ff.Crop((slice(0, 4), slice(0, 4)))],
    ).to_end()
    np.testing.assert_allclose(result["mean"].data, (data[roi] - 7.0).mean(axis=0)[:4], atol=1e-3)
    assert (result.damage == roi).all()


def test_snapshots_do_not_alias_and_leaving_the_loop_keeps_the_result(ctx, data):
    run = ctx.iterate(data, Descent(rate=0.25), publish_every=0)
    seen = []
    for state in run:
        seen.append(state)
        if state.iteration == 3:
            break
    run.close()
    errors = [np.abs(s["mean"].data - data.mean(axis=(0, 1))).max() for s in seen]
    assert errors[0] > errors[1] > errors[2]  # 3/4 each: immutable, or all would be equal
    np.testing.assert_array_equal(run.result["mean"].data, seen[2]["mean"].data)
    assert list(seen[2].history) == ["change", "top", "seconds"]
    assert len(seen[1].history["change"]) == 2
    assert run.result.report["reason"] == "stopped"


def test_stop_ends_after_the_iteration(ctx, data):
    run = ctx.iterate(data, Descent(rate=0.01), publish_every=0)
    for state in run:
        if state.iteration == 2:
            run.stop()
    assert run.snapshot.iteration == 3
    assert run.snapshot.reason == "stopped"
    assert run.snapshot.final


def test_user_errors_keep_their_type_and_say_where(ctx, data):
    with pytest.raises(ValueError, match="broken on purpose") as caught:
        ctx.iterate(data, Descent(fail_at=2), lanes=2).to_end()
    assert "phase 'main', iteration 2" in "".join(caught.value.__notes__)


def test_maximum_is_joined_over_lanes(ctx, data):
    run = ctx.iterate(data, Descent(), n=1, lanes=4)
    run.to_end()
    assert run.snapshot.history["top"][0] == data.max()


def test_frames_on_disk_give_the_same(ctx, data):
    memory = ctx.iterate(data, Descent(), n=3, residency="memory").to_end()
    disk = ctx.iterate(data, Descent(), n=3, residency="disk").to_end()
    assert memory["mean"].data.tobytes() == disk["mean"].data.tobytes()


class State(IterativeUDF):
    """Counts visits per frame in the lane's own memory, and sums in a window."""

    def get_order(self):
        return np.arange(35)[::-1].copy()

    def get_partition_state(self):
        return {"visits": ((2,), "int32")}

    def get_pass_buffers(self):
        return {"line": self.summed((38,), "float64", windowed=True), "seen": self.summed((), "int64")}

    def window(self, name):
        start, stop = self.lane_rows
        return (slice(start, stop + 3),)

    def process_rows(self, frames, rows):
        self.state.visits[rows] += 1
        start = self.lane_rows[0] - self.windows["line"][0].start
        for row in rows:
            self.results.line[start + row : start + row + 4] += frames[row].sum()
        self.results.seen[...] += self.state.visits[rows].sum()

    def step(self, phase, results):
        self.loop.line = results.line.copy()
        self.loop.seen = int(results.seen)


@pytest.mark.parametrize("lanes", [1, 3])
def test_order_state_and_windows(ctx, data, lanes):
    result = ctx.iterate(data, State(), n=3, lanes=lanes).to_end()
    assert int(result["seen"].data) == 3 * 2 * 35
    sums = data.reshape(35, -1).sum(axis=1)[::-1]
    np.testing.assert_array_equal(result["line"].data, np.convolve(sums, np.ones(4)).round())


@pytest.mark.parametrize("n", [1, 7, 16, 33])
@pytest.mark.parametrize("batches", [1, 3, 8])
def test_stratified_batches_partition_the_rows_evenly(n, batches):
    found = stratified(n, batches, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(n))
    sizes = [len(b) for b in found]
    assert max(sizes) - min(sizes) <= 1
    for b in found:  # one of each group of neighbours
        assert (np.diff(b) > 0).all()
        assert (np.diff(b) < 2 * max(1, min(batches, n))).all()


def test_history_fills_gaps_and_can_be_cut():
    history = History()
    history.append({"a": 1})
    history.append({"b": 2})
    np.testing.assert_array_equal(history["a"], [1, np.nan])
    np.testing.assert_array_equal(history["b"], [np.nan, 2])
    history.cut(1)
    assert len(history) == 1
    assert history["b"].shape == (1,)


def test_one_pass_udfs_are_refused(ctx, data):
    with pytest.raises(UDFError, match="SumUDF is not iterative: use ctx.run_udf"):
        ctx.iterate(data, ff.udfs.SumUDF())
    with pytest.raises(UDFError, match="run it alone"):
        ctx.run_udf(data, [Descent(), ff.udfs.SumUDF()])
    with pytest.raises(UDFError, match="n=0"):
        ctx.iterate(data, Descent(), n=0)
    with pytest.raises(DataError, match="no frame is left"):
        ctx.iterate(data, Descent(), roi=np.zeros((5, 7), bool)).to_end()
    with pytest.raises(UDFError, match="no iteration is done"):
        ctx.iterate(data, Descent()).result  # noqa: B018


def test_progress_and_plots_follow(ctx, data):
    class Plot:
        seen = 0

        def update(self, snapshot):
            assert snapshot["mean"].data.shape == (6, 4)
            self.seen += 1

    plot = Plot()
    ready = []
    ctx.iterate(data, Descent(), n=4, publish_every=0, plots=plot, on_ready=ready.append).to_end()
    assert plot.seen == 4
    assert len(ready) == 1
