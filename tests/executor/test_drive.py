"""The head node's loop: snapshots, cancelling, parameters on the fly, deterministic runs."""

import threading

import numpy as np
import pytest

from framefold.errors import ParameterError, UDFRunCancelled
from framefold.executor.drive import Run
from framefold.executor.follow import by_merge, latest, to_end
from framefold.executor.inline import InlineExecutor
from framefold.executor.local import LocalExecutor
from framefold.io.memory import ArraySource
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.events import PartitionDone, RunEnded, RunStarted
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.udf import UDF

DATA = np.arange(40 * 6, dtype="float32").reshape(8, 5, 2, 3)


class SumFrames(UDF):
    def __init__(self, factor=1.0):
        super().__init__(factor=factor)

    def get_result_buffers(self):
        return {
            "total": self.buffer("sig", dtype="float64", reduce="sum"),
            "value": self.buffer("nav", dtype="float64"),
        }

    def process_frame(self, frame):
        self.results.total += frame
        self.results.value[:] = self.params.factor


def start(udf=None, executor=None, **options):
    ds = Dataset(ArraySource(DATA, sig_dims=2))
    return Run(executor or InlineExecutor(), ds, [udf or SumFrames()], RunOptions(**options))


@pytest.fixture(params=["inline", "threads"])
def executor(request):
    return InlineExecutor() if request.param == "inline" else LocalExecutor(2)


def test_one_immutable_snapshot_per_merge(executor):
    seen = list(by_merge(start(executor=executor, partition_frames=10)))
    assert [s.final for s in seen] == [False, False, False, True]
    assert [s.n_frames for s in seen] == [10, 20, 30, 40]
    totals = [s["total"].data.copy() for s in seen]
    assert len({t.tobytes() for t in totals}) == 4, "each snapshot holds its own numbers"
    for snapshot in seen:
        frames = DATA.reshape(40, 2, 3)[snapshot.damage.reshape(-1)]
        np.testing.assert_array_equal(snapshot["total"].data, frames.sum(axis=0))
        assert not snapshot["total"].data.flags.writeable


def test_snapshots_compute_results_only_when_looked_at():
    calls = []

    class Lazy(SumFrames):
        def get_results(self):
            calls.append(1)
            return super().get_results()

    seen = list(by_merge(start(Lazy(), partition_frames=10)))
    assert not calls
    for _ in range(3):
        assert seen[-1].buffers[0]["total"].data.shape == (2, 3)
    assert len(calls) == 1


def test_a_run_without_frames_gives_one_empty_final_snapshot(executor):
    for iterate in (by_merge, lambda run: latest(run, 0.01)):
        (only,) = iterate(start(executor=executor, roi=np.zeros((8, 5), bool)))
        assert only.final
        assert only["value"].raw_data.shape == (0,)
        assert np.isnan(only["value"].data).all()
        assert not only["total"].data.any()


def test_latest_skips_for_a_slow_consumer_and_ends_complete():
    run = start(executor=LocalExecutor(2), partition_frames=1)
    seen = []
    for snapshot in latest(run, 0.0):
        seen.append(snapshot)
        if not snapshot.final:
            run.job.feed.cancelled.is_set()
            while not run.complete:  # the run goes on while this loop body dawdles
                threading.Event().wait(0.001)
    assert len(seen) <= 3, "one for the first merge, perhaps one between the last merge and the end"
    assert seen[-1].final
    assert seen[-1].n_frames == 40


def test_exceptions_of_a_background_merge_reach_the_consumer():
    class Boom(SumFrames):
        def process_frame(self, frame):
            raise ZeroDivisionError("boom")

    with pytest.raises(ZeroDivisionError, match="boom"):
        list(latest(start(Boom(), LocalExecutor(2)), 0.01))


def test_cancel_says_after_how_many_partitions_and_keeps_what_is_there(executor):
    run = start(executor=executor, partition_frames=5)
    steps = run.partials()
    next(steps)
    run.cancel()
    with pytest.raises(UDFRunCancelled, match=r"^UDF run cancelled after \d+ partitions$") as caught:
        for _ in steps:
            pass
    done = caught.value.partial.damage.reshape(-1)
    assert 5 <= done.sum() < 40
    np.testing.assert_array_equal(
        caught.value.partial["total"].data, DATA.reshape(40, 2, 3)[done].sum(axis=0)
    )


def test_closing_early_leaves_no_thread_and_frees_the_udf(executor):
    before = set(threading.enumerate())
    udf = SumFrames()
    steps = by_merge(start(udf, executor, partition_frames=2))
    next(steps)
    steps.close()
    assert set(threading.enumerate()) == before
    assert to_end(start(udf, executor)).buffers[0]["total"].data[0, 0] == DATA[..., 0, 0].sum()


def test_parameters_change_on_the_fly():
    run = start(partition_frames=10)
    steps = run.partials()
    next(steps)
    run.update_parameters([{"factor": 5.0}])
    next(steps)
    snapshot = run.snapshot(final=False)
    assert snapshot["value"].raw_data[:20].tolist() == [1.0] * 10 + [5.0] * 10
    assert snapshot.params_version == (0, 1)
    for _ in steps:
        pass
    with pytest.raises(
        ParameterError, match=r"no parameter 'factr'; there are: factor. Did you mean 'factor'\?"
    ):
        start().update_parameters([{"factr": 1}])


def test_a_patch_must_not_change_declarations():
    class Sized(SumFrames):
        def __init__(self, size=1):
            UDF.__init__(self, size=size)

        def get_result_buffers(self):
            return {"value": self.buffer("nav", extra_shape=(self.params.size,))}

    run = start(Sized(2))
    with pytest.raises(ParameterError, match="changes the declared buffers"):
        run.update_parameters([{"size": 3}])


def test_deterministic_runs_merge_in_order_and_repeat_bitwise():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(500, 7, 9)).astype("float32")

    class Order(SumFrames):
        engine = EngineOptions(order="stream")
        order = []

        def get_result_buffers(self):
            return {"total": self.buffer("sig", dtype="float32")}

        def process_tile(self, tile):
            self.results.total += tile.sum(axis=0)

        def merge(self, dest, src):
            dest.total += src.total

    def result(executor, **options):
        ds = Dataset(ArraySource(data, sig_dims=2))
        return to_end(Run(executor, ds, [Order()], RunOptions(**options))).buffers[0]["total"].data

    want = result(InlineExecutor(), deterministic=True)
    for lanes in (2, 3):
        assert np.array_equal(want, result(LocalExecutor(lanes), deterministic=True))


def test_observers_hear_everything_once():
    events = []
    ds = Dataset(ArraySource(DATA, sig_dims=2))
    run = Run(LocalExecutor(2), ds, [SumFrames()], RunOptions(partition_frames=7), observers=[events.append])
    to_end(run)
    assert isinstance(events[0], RunStarted)
    assert events[0].frames == 40
    assert isinstance(events[-1], RunEnded)
    assert events[-1].error is None
    done = [e for e in events if isinstance(e, PartitionDone)]
    assert sorted(e.index for e in done) == list(range(6))
    assert sum(e.frames for e in done) == 40


def test_report_adds_up():
    report = to_end(start(executor=LocalExecutor(2), partition_frames=9)).buffers[0].report
    assert report["frames"] == 40
    assert report["partitions"] == 5
    assert report["bytes_read"] == DATA.nbytes
    assert report["executor"] == "threads"


def test_lanes_that_are_slow_to_end_do_not_cancel_a_complete_run(monkeypatch):
    """A lane says that it is done a moment before its thread ends."""
    alive = threading.Thread.is_alive
    monkeypatch.setattr(
        threading.Thread, "is_alive", lambda t: t.name.startswith("framefold-lane") or alive(t)
    )
    assert to_end(start(executor=LocalExecutor(2), partition_frames=3)).n_frames == 40
