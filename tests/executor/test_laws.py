"""What every executor must do: the same answers, the same errors, and nothing left behind."""

import threading
import time

import numpy as np
import pytest

from framefold.errors import UDFRunCancelled
from framefold.executor.drive import Run
from framefold.executor.follow import by_merge, to_end
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.udf import UDF

DATA = np.random.default_rng(3).integers(0, 1000, (12, 10, 6, 5)).astype("uint16")
ROI = np.random.default_rng(4).random((12, 10)) < 0.6


class Sums(UDF):
    def __init__(self, factor=1.0):
        super().__init__(factor=factor)

    def get_result_buffers(self):
        return {
            "total": self.buffer("sig", dtype="float64", reduce="sum"),
            "top": self.buffer("sig", dtype="float32", reduce="max"),
            "value": self.buffer("nav", dtype="float64"),
            "count": self.buffer("single", dtype="int64", reduce="sum"),
        }

    def process_frame(self, frame):
        self.results.total += frame
        np.maximum(self.results.top, frame, out=self.results.top)
        self.results.value[:] = frame.sum() * self.params.factor
        self.results.count += 1


class Large(UDF):
    """A buffer that stays on the worker beside one that does not."""

    def get_result_buffers(self):
        return {
            "big": self.buffer("sig", dtype="float64", reduce="sum", large=True),
            "count": self.buffer("single", dtype="int64", reduce="sum"),
        }

    def process_frame(self, frame):
        self.results.big += frame
        self.results.count += 1


class Histogram(UDF):
    """A merge of its own."""

    def get_result_buffers(self):
        return {
            "counts": self.buffer("single", (10,), dtype="int64"),
            "best": self.buffer("single", dtype="float32"),
        }

    def process_frame(self, frame):
        self.results.counts += np.histogram(frame, bins=10, range=(0, 1000))[0]
        self.results.best[:] = max(self.results.best[0], frame.max())

    def merge(self, dest, src):
        dest.counts += src.counts
        dest.best[:] = np.maximum(dest.best, src.best)


class Joined(Histogram):
    engine = EngineOptions(merge_scope="any")


class Fails(Sums):
    def process_frame(self, frame):
        if self.meta.coordinates[0].tolist() == [7, 3]:
            raise KeyError("boom")
        super().process_frame(frame)


class OwnError(Exception):
    def __init__(self, code, text):  # cannot be rebuilt from its args
        super().__init__(f"{code}: {text}")


class FailsOddly(Sums):
    def process_frame(self, frame):
        raise OwnError(7, "odd")


class Slow(Sums):
    def process_frame(self, frame):
        time.sleep(0.01)
        super().process_frame(frame)


def run(executor, ds, udf, **options):
    return to_end(Run(executor, ds, [udf], RunOptions(**options))).buffers[0]


@pytest.mark.parametrize("roi", [None, ROI, np.zeros_like(ROI)], ids=["all", "some", "none"])
def test_results_equal_numpy(executor, dataset, roi):
    res = run(executor, dataset(DATA), Sums(), roi=roi, partition_frames=7)
    frames = DATA[np.ones((12, 10), bool) if roi is None else roi].astype("float64")
    np.testing.assert_array_equal(res["total"].data, frames.sum(axis=0))
    np.testing.assert_array_equal(res["value"].raw_data, frames.sum(axis=(1, 2)))
    assert res["count"].data.tolist() == [len(frames)]
    if len(frames):
        np.testing.assert_array_equal(res["top"].data, frames.max(axis=0))


def test_partitions_sized_by_time_give_the_same(executor, dataset):
    res = run(executor, dataset(DATA), Sums())
    np.testing.assert_array_equal(res["total"].data, DATA.sum(axis=(0, 1)))
    assert res.damage.all()


@pytest.mark.parametrize("roi", [None, ROI], ids=["all", "some"])
def test_large_buffers_hold_every_frame_once(executor, dataset, roi):
    res = run(executor, dataset(DATA), Large(), roi=roi, partition_frames=5)
    frames = DATA[np.ones((12, 10), bool) if roi is None else roi]
    np.testing.assert_array_equal(res["big"].data, frames.sum(axis=0))
    assert res["count"].data.tolist() == [len(frames)]


@pytest.mark.parametrize("udf", [Histogram, Joined])
def test_custom_merges(executor, dataset, udf):
    res = run(executor, dataset(DATA), udf(), partition_frames=11)
    np.testing.assert_array_equal(res["counts"].data, np.histogram(DATA, bins=10, range=(0, 1000))[0])
    assert res["best"].data.tolist() == [DATA.max()]


def test_deterministic_runs_are_bitwise_equal(executor, dataset):
    rng = np.random.default_rng(0)
    data = rng.random((20, 10, 4, 4)).astype("float32")
    data *= 10.0 ** rng.integers(-6, 6, (20, 10, 1, 1))  # so that the order of sums shows
    a = run(executor, dataset(data), Sums(), deterministic=True)["total"].data
    from framefold.executor.inline import InlineExecutor

    b = run(InlineExecutor(), dataset(data), Sums(), deterministic=True)["total"].data
    assert a.tobytes() == b.tobytes()


def test_exceptions_keep_type_and_place(executor, dataset):
    with pytest.raises(KeyError, match="boom") as info:
        run(executor, dataset(DATA), Fails(), partition_frames=8)
    where = info.value.framefold
    assert (where["udf"], where["stage"], where["frames"]) == ("Fails", "process_frame", [73])
    assert any("frame (7, 3) [flat 73], partition 9" in note for note in info.value.__notes__)
    assert any(entry.name == "process_frame" for entry in info.traceback), (
        "the user's line is in the traceback"
    )
    assert run(executor, dataset(DATA), Sums())["count"].data[0] == 120, "the executor is usable afterwards"


def test_odd_exceptions_are_told_in_full(executor, dataset):
    if executor.processes:
        from framefold.errors import UDFError

        with pytest.raises(UDFError, match=r"(?s)cannot be rebuilt.*OwnError: 7: odd"):
            run(executor, dataset(DATA), FailsOddly())
    else:
        with pytest.raises(OwnError, match="7: odd"):
            run(executor, dataset(DATA), FailsOddly())


def test_cancel_keeps_what_is_there(executor, dataset):
    job = Run(executor, dataset(DATA), [Slow()], RunOptions(partition_frames=4))
    with pytest.raises(UDFRunCancelled, match=r"cancelled after \d+ partitions") as info:
        for n, _ in enumerate(job.partials()):
            if n == 2:
                job.cancel()
    seen = info.value.partial.damage
    assert 0 < seen.sum() < 120
    np.testing.assert_array_equal(info.value.partial["total"].data, DATA[seen].sum(axis=0))
    assert run(executor, dataset(DATA), Sums())["count"].data[0] == 120


def test_cancelling_all_jobs_of_an_executor(executor, dataset):
    job = Run(executor, dataset(DATA), [Slow()], RunOptions(partition_frames=4))
    with pytest.raises(UDFRunCancelled):
        for _ in job.partials():
            executor.cancel()
    assert run(executor, dataset(DATA), Sums())["count"].data[0] == 120


def test_closing_early_stops_and_leaves_no_thread(executor, dataset):
    run(executor, dataset(DATA), Sums())
    before = set(threading.enumerate())
    steps = by_merge(Run(executor, dataset(DATA), [Slow()], RunOptions(partition_frames=4)))
    next(steps)
    steps.close()
    # threads of dask's own pools may come and stay
    left = {t.name for t in set(threading.enumerate()) - before if t.name.startswith("framefold")}
    assert not left
    assert run(executor, dataset(DATA), Sums())["count"].data[0] == 120


def test_a_slow_consumer_bounds_what_waits(executor, dataset):
    job = Run(executor, dataset(DATA), [Sums()], RunOptions(partition_frames=1))
    stream = executor.run(job.job)
    next(stream)
    time.sleep(0.5)
    handed_out = job.feed.next().index
    stream.close()
    job.release()
    assert handed_out <= 2 * 2 * 4 + 2


def test_parameters_change_on_the_fly(executor, dataset):
    job = Run(executor, dataset(DATA), [Slow()], RunOptions(partition_frames=4))
    for n, _ in enumerate(job.partials()):
        if n == 2:
            job.update_parameters([{"factor": 3.0}])
    result = job.snapshot(final=True)
    assert result.params_version == (0, 1)
    ratio = result["value"].data / DATA.sum(axis=(2, 3))
    assert ratio.flat[0] == 1 and ratio.flat[-1] == 3
    assert set(np.unique(ratio)) == {1, 3}


def test_two_jobs_at_once(executor, dataset):
    outer = by_merge(Run(executor, dataset(DATA), [Sums()], RunOptions(partition_frames=30)))
    for snapshot in outer:  # noqa: B007
        inner = run(executor, dataset(DATA), Sums(), partition_frames=60)
        assert inner["count"].data[0] == 120
    np.testing.assert_array_equal(snapshot["total"].data, DATA.sum(axis=(0, 1)))


def test_map_keeps_order_and_raises_what_was_raised(executor):
    assert executor.map(lambda x: x * x, range(20)) == [x * x for x in range(20)]
    assert executor.map(abs, []) == []

    def bad(x):
        if x == 3:
            raise LookupError("three")
        return x

    with pytest.raises(LookupError, match="three"):
        executor.map(bad, range(5))


def test_reports_who_folded(executor, dataset):
    report = run(executor, dataset(DATA), Slow(), partition_frames=2).report
    assert report["frames"] == 120 and report["partitions"] == 60
    assert len(report["workers"]) == executor.capacity


def test_a_run_that_never_began_frees_its_udfs(executor, dataset):
    udf = Sums()
    Run(executor, dataset(DATA), [udf], RunOptions())
    assert run(executor, dataset(DATA), udf)["count"].data[0] == 120
