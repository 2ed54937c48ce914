"""Dask only: workers that die, schedulers that vanish, modules that workers lack, clusters of others."""

import os
import signal
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest

from framefold.errors import ExecutorError, WorkerLost
from framefold.executor.dask import DaskExecutor
from framefold.executor.drive import Run
from framefold.executor.follow import to_end
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.udf import UDF

DATA = np.random.default_rng(5).integers(0, 1000, (120, 6, 5)).astype("uint16")


@pytest.fixture(scope="module")
def fresh():
    """A cluster whose workers may be killed."""
    executor = DaskExecutor(workers=2)
    yield executor
    executor.close()


@pytest.fixture
def both(fresh):
    """The same, with both workers there."""
    fresh.client.wait_for_workers(2, timeout=60)
    return fresh


FOREIGN = """
import asyncio
from distributed import Scheduler, Worker
async def main():
    async with Scheduler(host="127.0.0.1", dashboard_address="127.0.0.1:0", port=0) as s:
        async with Worker(s.address, nthreads=2, host="127.0.0.1", name="far", memory_limit=0):
            print(s.address, flush=True)
            await s.finished()
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def foreign():
    """A cluster that somebody else started: its process and address."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
    env["DASK_LOGGING__DISTRIBUTED"] = "critical"
    head = subprocess.Popen([sys.executable, "-c", FOREIGN], stdout=subprocess.PIPE, env=env, text=True)
    yield head, head.stdout.readline().strip()
    head.kill()
    head.wait()
    head.stdout.close()


def pids(executor):
    return executor._connected()._local.pids()


class Sums(UDF):
    def __init__(self, seconds=0.01, large=False, deadly=-1, folder=""):
        super().__init__(seconds=seconds, large=large, deadly=deadly, folder=folder)

    def get_result_buffers(self):
        return {
            "total": self.buffer("sig", dtype="float64", reduce="sum", large=self.params.large),
            "value": self.buffer("nav", dtype="int64"),
            "count": self.buffer("single", dtype="int64", reduce="sum"),
        }

    def process_frame(self, frame):
        row = int(self.meta.coordinates[0, 0])
        if row == self.params.deadly:
            print("about to die", flush=True)
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.params.seconds)
        self.results.total += frame
        self.results.value[:] = frame.sum()
        self.results.count += 1


class SlowOnce(Sums):
    """The first worker that gets frame 100 hangs on to it."""

    def process_frame(self, frame):
        if self.meta.coordinates[0, 0] == 100:
            try:
                os.mkdir(os.path.join(self.params.folder, "seen"))
            except FileExistsError:
                pass
            else:
                end = time.monotonic() + 60
                while time.monotonic() < end and not os.path.exists(
                    os.path.join(self.params.folder, "go on")
                ):
                    time.sleep(0.05)
        super().process_frame(frame)


def check(result):
    np.testing.assert_array_equal(result["total"].data, DATA.sum(axis=0))
    np.testing.assert_array_equal(result["value"].data, DATA.sum(axis=(1, 2)))
    assert result["count"].data.tolist() == [120]
    assert result.damage.all()


def make(executor, ds, udf, retries=3, **options):
    return Run(executor, ds, [udf], RunOptions(**options), retries=retries)


# --- workers that die ----------------------------------------------------------------------------


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("n", [1, 2], ids=["one", "all"])
def test_killed_workers_cost_no_frame(both, dataset, large, n):
    run = make(both, dataset(DATA), Sums(large=large), partition_frames=3)
    for i, _ in enumerate(run.partials()):
        if i == 8:
            for pid in pids(both)[:n]:
                os.kill(pid, signal.SIGKILL)
    result = run.snapshot(final=True).buffers[0]
    check(result)
    notes = result.report["notes"]
    assert notes["worker lost"] == n
    assert any(text.startswith("partition folded again") for text in notes)


def test_a_deadly_partition_is_named(both, dataset):
    run = make(both, dataset(DATA), Sums(deadly=70, seconds=0), retries=1, partition_frames=8)
    with pytest.raises(
        WorkerLost, match=r"(?s)partition 8 \(frames 64\.\.71\) of Sums .*2 times.*about to die"
    ) as info:
        to_end(run)
    assert info.value.partial.damage.sum() < 120
    assert not info.value.partial.damage[64:72].any()


def test_the_executor_is_usable_after_deaths(both, dataset):
    check(to_end(make(both, dataset(DATA), Sums(seconds=0))).buffers[0])


def test_a_slow_partition_is_given_to_another_worker(both, dataset, tmp_path):
    run = make(both, dataset(DATA), SlowOnce(folder=str(tmp_path), seconds=0.001), partition_frames=5)
    t0 = time.perf_counter()
    result = to_end(run).buffers[0]
    assert time.perf_counter() - t0 < 50
    (tmp_path / "go on").touch()
    check(result)
    assert result.report["notes"]["slow partition folded a second time"] >= 1
    check(to_end(make(both, dataset(DATA), Sums(seconds=0))).buffers[0])


# --- what travels --------------------------------------------------------------------------------


def test_udfs_of_modules_that_workers_lack(fresh, dataset):
    module = types.ModuleType("lacking_module")
    module.__file__ = "/nowhere/lacking_module.py"
    exec(
        "from framefold.udfcore.udf import UDF\n"
        "def helper(frame): return int(frame.max())\n"
        "class Top(UDF):\n"
        "    def get_result_buffers(self): return {'top': self.buffer('nav', dtype='int64')}\n"
        "    def process_frame(self, frame): self.results.top[:] = helper(frame)\n",
        vars(module),
    )
    sys.modules["lacking_module"] = module
    try:
        result = to_end(make(fresh, dataset(DATA), module.Top())).buffers[0]
        np.testing.assert_array_equal(result["top"].data, DATA.max(axis=(1, 2)))
        assert fresh.map(module.helper, list(DATA[:3])) == DATA[:3].max(axis=(1, 2)).tolist()
    finally:
        del sys.modules["lacking_module"]


def test_changed_data_are_seen_and_equal_data_travel_once(fresh, dataset):
    data = np.ones((40, 256, 256), dtype="uint16")  # 5 MB: goes by shared memory
    ds = dataset(data)

    class Total(UDF):
        def get_result_buffers(self):
            return {"total": self.buffer("nav", dtype="int64")}

        def process_frame(self, frame):
            self.results.total[:] = frame.sum()

    for value in (1, 1, 2):
        data[...] = value
        result = to_end(make(fresh, ds, Total())).buffers[0]
        assert (result["total"].data == value * 256 * 256).all()
    assert len(fresh._connected()._memory._kept) == 2


def test_large_changed_parameters_travel_once_per_worker(fresh, dataset):
    class Weighted(UDF):
        def __init__(self, weights):
            super().__init__(weights=weights)

        def get_result_buffers(self):
            return {"value": self.buffer("nav", dtype="float64")}

        def process_frame(self, frame):
            time.sleep(0.005)
            self.results.value[:] = self.params.weights[0]

    run = make(fresh, dataset(DATA), Weighted(np.zeros(100_000)), partition_frames=4)
    for n, _ in enumerate(run.partials()):
        if n in (2, 8):
            run.update_parameters([{"weights": np.full(100_000, float(n))}])
    value = run.snapshot(final=True)["value"].data
    assert set(value) == {0, 2, 8} and (np.diff(value) >= 0).all()
    assert run.snapshot(final=True).params_version == (0, 2)


def test_what_workers_print_arrives_with_their_name(fresh, capsys):
    def talk(_):
        print("hello from a worker")
        print("and on stderr", file=sys.stderr)

    fresh.map(talk, [1])
    deadline = time.monotonic() + 30
    out = err = ""
    while "stderr" not in err and time.monotonic() < deadline:
        time.sleep(0.05)
        more = capsys.readouterr()
        out, err = out + more.out, err + more.err
    assert "] hello from a worker\n" in out and out.startswith("[worker ")
    assert "] and on stderr\n" in err


def test_a_flood_of_lines_is_cut(fresh, capsys):
    def flood(_):
        for i in range(2000):
            print(i)

    fresh.map(flood, [1])
    deadline = time.monotonic() + 30
    out = err = ""
    while "lines more" not in err and time.monotonic() < deadline:
        time.sleep(0.05)
        more = capsys.readouterr()
        out, err = out + more.out, err + more.err
    assert 100 <= len(out.splitlines()) <= 300
    assert "lines more)" in err


# --- whose cluster it is -------------------------------------------------------------------------


def test_close_ends_processes_and_threads_quickly():
    before = set(threading.enumerate())
    executor = DaskExecutor(workers=1, threads_per_worker=2)
    assert executor.capacity == 2
    assert executor.map(abs, [-1]) == [1]
    children = pids(executor)
    t0 = time.perf_counter()
    executor.close()
    assert time.perf_counter() - t0 < 20  # well below 1 s on an idle machine
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    left = {t.name for t in set(threading.enumerate()) - before if t.name.startswith("framefold")}
    assert not left
    with pytest.raises(ExecutorError, match=r"closed: make a new Context"):
        executor.map(abs, [1])
    executor.close()


def test_clients_clusters_and_addresses_stay_open(fresh, dataset):
    client = fresh.client
    for where in (client, client.scheduler.address):
        other = DaskExecutor(where)
        assert other.capacity == 2
        check(to_end(make(other, dataset(DATA), Sums(seconds=0))).buffers[0])
        other.close()
        assert client.status == "running" and client.submit(abs, -3).result() == 3


def test_workers_that_do_not_start_are_an_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ExecutorError, match="2 local workers were started, 0 came up"):
        DaskExecutor(workers=2).map(abs, [1])


def test_a_cluster_without_workers_gets_some_time(dataset, monkeypatch):
    from distributed import Scheduler, SpecCluster

    options = {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    with SpecCluster(workers={}, scheduler={"cls": Scheduler, "options": options}) as cluster:
        executor = DaskExecutor(cluster)
        assert executor.capacity == 1
        worker = [
            sys.executable,
            "-m",
            "framefold.executor.dask_main",
            cluster.scheduler_address,
            "late",
            "1",
        ]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
        process = subprocess.Popen(worker, env={**env, "DASK_LOGGING__DISTRIBUTED": "critical"})
        result = to_end(make(executor, dataset(DATA), Sums(seconds=0))).buffers[0]
        process.kill()
        process.wait()
        check(result)
        assert result.report["workers"] == ["late"]
        monkeypatch.setattr("framefold.executor.dask_connected.WORKER_TIMEOUT", 0.5)
        with pytest.raises(ExecutorError, match=r"no worker for 0\.5 s: start workers"):
            to_end(make(executor, dataset(DATA), Sums(seconds=0)))
        executor.close()


@pytest.mark.parametrize(
    "make_executor, text",
    [
        (lambda: DaskExecutor(workers=0), "workers must be at least 1"),
        (lambda: DaskExecutor("tcp://h:1", workers=2), "leave them out with 'tcp://h:1'"),
        (lambda: DaskExecutor(types.SimpleNamespace(asynchronous=True)), "asynchronous"),
        (
            lambda: DaskExecutor("tcp://127.0.0.1:9").map(abs, [1]),
            "no dask scheduler answers at 'tcp://127.0.0.1:9'",
        ),
        (lambda: DaskExecutor("head").map(abs, [1]), "'head' is no address of a dask scheduler"),
        (lambda: DaskExecutor("tls://127.0.0.1:9").map(abs, [1]), "tls://127.0.0.1:9 is encrypted and"),
    ],
    ids=["none", "both", "asynchronous", "nobody", "no address", "certificates"],
)
def test_wrong_clusters_are_refused(make_executor, text, monkeypatch):
    monkeypatch.setattr("framefold.executor.dask.CONNECT_TIMEOUT", 0.5)
    with pytest.raises(ExecutorError, match=text):
        make_executor()


def test_a_client_closed_in_mid_run_is_an_error(fresh, dataset):
    from distributed import Client

    client = Client(fresh.client.scheduler.address, set_as_default=False)
    run = make(DaskExecutor(client), dataset(DATA), Sums(), partition_frames=4)
    with pytest.raises(ExecutorError, match="closed"):
        for i, _ in enumerate(run.partials()):
            if i == 2:
                client.close()


def test_a_foreign_cluster_gets_large_arrays_and_sends_back_what_is_printed(foreign, dataset, capsys):
    class Talks(UDF):
        def __init__(self, weights):
            super().__init__(weights=weights)

        def get_result_buffers(self):
            return {"value": self.buffer("nav", dtype="float64")}

        def process_frame(self, frame):
            self.results.value[:] = (frame * self.params.weights).sum()
            print("frame", int(self.meta.coordinates[0, 0]))

    data = np.random.default_rng(1).integers(0, 9, (8, 600, 600)).astype("uint16")  # 5.8 MB: scattered
    weights = np.random.default_rng(2).random((600, 600))
    executor = DaskExecutor(foreign[1])
    assert executor.capacity == 2
    result = to_end(make(executor, dataset(data), Talks(weights), partition_frames=1)).buffers[0]
    np.testing.assert_allclose(result["value"].data, (data * weights).sum(axis=(1, 2)))
    assert result.report["workers"] == ["far"]
    deadline = time.monotonic() + 30
    out = ""
    while out.count("\n") < 8 and time.monotonic() < deadline:
        time.sleep(0.05)
        out += capsys.readouterr().out
    executor.close()
    assert sorted(out.splitlines()) == [f"[worker far] frame {i}" for i in range(8)]


def test_a_lost_scheduler_ends_the_run_at_once(foreign, dataset, monkeypatch):
    head, address = foreign
    executor = DaskExecutor(address)
    run = make(executor, dataset(DATA), Sums(), partition_frames=4)
    killed = 0.0
    with pytest.raises(ExecutorError, match="scheduler") as info:
        for i, _ in enumerate(run.partials()):
            if i == 3:
                head.kill()
                killed = time.perf_counter()
    assert time.perf_counter() - killed < 20  # well below 1 s on an idle machine
    assert info.value.partial.damage.sum() >= 16
    monkeypatch.setattr("framefold.executor.dask.CONNECT_TIMEOUT", 0.5)
    with pytest.raises(ExecutorError, match="no dask scheduler answers"):
        executor.map(abs, [1])
    executor.close()
