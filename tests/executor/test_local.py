"""Threads in this process: the GIL probe, lanes, and what happens to them."""

import threading
import time
import types

import numpy as np
import pytest

from framefold.errors import ExecutorError
from framefold.executor import local
from framefold.executor.drive import Run
from framefold.executor.follow import by_merge, to_end
from framefold.executor.local import LocalExecutor, physical_cores
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.task import Partial
from framefold.udfcore.udf import UDF

DATA = np.ones((400, 4, 4), dtype="float32")


class Busy(UDF):
    """Python code: holds the GIL."""

    def get_result_buffers(self):
        return {"n": self.buffer("single", dtype="int64", reduce="sum")}

    def process_frame(self, frame):
        end = time.thread_time() + 0.002
        while time.thread_time() < end:
            pass
        self.results.n += 1


class Bound(Busy):
    engine = EngineOptions(gil="bound")


class Free(Busy):
    engine = EngineOptions(gil="free")


class OneLane(Busy):
    engine = EngineOptions(lanes=1)


class Meeting(Busy):
    """Goes on when eight lanes are here at the same time."""

    barrier = threading.Barrier(8)

    def process_frame(self, frame):
        self.barrier.wait(timeout=60)
        self.results.n += 1


class Waiting(Busy):
    """Waits for a disk that is not there: no CPU time, so more lanes help."""

    def process_frame(self, frame):
        time.sleep(0.002)
        self.results.n += 1


def run(udf, ds, lanes=2, frames=4):
    return to_end(Run(LocalExecutor(lanes), ds, [udf], RunOptions(partition_frames=frames))).buffers[0]


@pytest.mark.parametrize(
    "udf, share, queued, others, told",
    [
        (Busy, 0.5, 0.0, [0.0], True),  # two lanes share one core's worth of time: they wait for the GIL
        (Busy, 0.5, 0.5, [0.0], False),  # another program has the other core
        (Busy, 0.95, 0.0, [0.0], False),  # both compute
        (Busy, 0.1, 0.0, [0.0], False),  # both wait for a disk
        (Free, 0.5, 0.0, [0.0], False),  # the author knows better
        (Busy, 0.5, 0.0, [0.5], False),  # a thread that draws may be what they wait for
        (Busy, 0.5, 0.0, [0.5, 0.0], True),  # it stops after half of the time
    ],
)
def test_a_udf_that_holds_the_gil_is_told_once(
    dataset, monkeypatch, caplog, udf, share, queued, others, told
):
    clock, cpu = [0.0], [0.0]
    fake = types.SimpleNamespace(perf_counter=lambda: clock[0], process_time=lambda: cpu[0])
    monkeypatch.setattr(local, "time", fake)
    job = Run(LocalExecutor(2), dataset(DATA), [udf()], RunOptions()).job
    monkeypatch.setattr(local, "machine_load", lambda: 0.0)
    probe = local._GilProbe(job, 2)
    for step in range(40):
        clock[0] += 0.1
        cpu[0] += 0.1 * (2 * share + others[step * len(others) // 40])
        for lane in (0, 1):
            probe.add(lane, Partial(((0, 0, 1),), (), cpu_seconds=0.1 * share), 0.1 * queued)
    text = "Busy.process_frame holds the GIL: Context(workers=2) would be faster"
    assert job.notes == ({text: 1} if told else {})
    assert [r.message for r in caplog.records] == [text] * told
    assert (probe.surplus(0), probe.surplus(1)) == (False, told)


def test_all_frames_are_folded_whatever_the_probe_finds(dataset, monkeypatch):
    monkeypatch.setattr(local, "GIL_PROBE_SECONDS", 0.1)
    monkeypatch.setattr(local, "machine_load", lambda: 0.0)
    assert run(Busy(), dataset(DATA))["n"].data[0] == 400
    report = run(Waiting(), dataset(DATA)).report
    assert report["frames"] == 400 and report["notes"] == {}


@pytest.mark.parametrize("udf", [Bound, OneLane])
def test_udfs_that_want_one_lane_get_one(dataset, udf):
    assert run(udf(), dataset(DATA[:20])).report["workers"] == ["this thread"]


def test_lanes_run_at_the_same_time(dataset):
    report = run(Meeting(), dataset(DATA[:8]), lanes=8, frames=1).report
    assert len(report["workers"]) == 8


def test_default_lanes_are_the_physical_cores():
    assert LocalExecutor().capacity == physical_cores() >= 1


def test_wrong_lanes_and_closed_executors(dataset):
    with pytest.raises(ExecutorError, match="lanes must be at least 1, got 0"):
        LocalExecutor(0)
    executor = LocalExecutor(2)
    executor.close()
    with pytest.raises(ExecutorError, match=r"closed: make a new Context\(\)"):
        to_end(Run(executor, dataset(DATA[:4]), [Busy()], RunOptions()))


def test_many_small_runs_leave_no_thread(dataset):
    ds = dataset(DATA[:8])
    for _ in range(50):
        steps = by_merge(Run(LocalExecutor(3), ds, [Waiting()], RunOptions(partition_frames=2)))
        next(steps)
        steps.close()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("framefold-lane")]
