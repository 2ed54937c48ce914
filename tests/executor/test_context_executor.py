"""Which executor a context takes."""

import sys

import numpy as np
import pytest

import framefold as ff
from framefold.errors import ExecutorError
from framefold.executor.dask import DaskExecutor
from framefold.executor.inline import InlineExecutor
from framefold.executor.local import LocalExecutor


@pytest.fixture(autouse=True)
def nothing_about(monkeypatch):
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)


@pytest.fixture
def address(cluster):
    return cluster.client.scheduler.address


@pytest.fixture
def active(address):
    from distributed import Client

    client = Client(address)
    yield client
    client.close()


@pytest.mark.parametrize(
    "args, kwargs, kind",
    [
        ((), {}, LocalExecutor),
        (("threads",), {}, LocalExecutor),
        ((), {"executor": "threads"}, LocalExecutor),
        ((), {"threads_per_worker": 3}, LocalExecutor),
        (("inline",), {}, InlineExecutor),
        ((), {"executor": "inline"}, InlineExecutor),
        ((), {"workers": 2}, DaskExecutor),
        ((), {"workers": 2, "threads_per_worker": 3}, DaskExecutor),
        ((), {"executor": "dask"}, DaskExecutor),
        (("dask",), {}, DaskExecutor),
        (("tcp://nowhere:1",), {}, DaskExecutor),
    ],
)
def test_words_choose(args, kwargs, kind):
    with ff.Context(*args, **kwargs) as ctx:
        assert type(ctx.executor) is kind
        if kind is DaskExecutor:
            assert ctx.executor._cluster is None, "nothing starts before the first run"


def test_threads_are_counted_by_either_word():
    assert ff.Context(executor="threads", workers=3).executor.capacity == 3
    assert ff.Context(threads_per_worker=3).executor.capacity == 3


def test_an_object_of_the_users_own_is_taken():
    mine = InlineExecutor()
    assert ff.Context(executor=mine).executor is mine


def test_threads_without_dask_do_not_import_it():
    import subprocess

    code = (
        "import sys, numpy as np, framefold as ff\n"
        "with ff.Context() as ctx:\n"
        "    ctx.map(ctx.load(np.ones((4, 4, 2, 2))), np.sum)\n"
        "assert not {'dask', 'distributed', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_active_client_is_adopted_and_stays_open(active):
    ctx = ff.Context()
    assert ctx.executor.client is active
    data = np.arange(4 * 4 * 2 * 2, dtype="float32").reshape(4, 4, 2, 2)
    np.testing.assert_array_equal(ctx.map(ctx.load(data), np.sum).data, data.sum(axis=(2, 3)))
    ctx.close()
    assert active.status == "running"


def test_the_address_in_the_environment_is_used(address, monkeypatch):
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    with ff.Context() as ctx:
        assert ctx.executor.client.scheduler.address == address
        assert ctx.executor.capacity == 2
    assert isinstance(ff.Context(executor="inline").executor, InlineExecutor), "words win"
    assert isinstance(ff.Context(executor="threads").executor, LocalExecutor)


def test_our_own_clusters_are_not_adopted_by_others(cluster):
    cluster.map(abs, [1])
    assert isinstance(ff.Context().executor, LocalExecutor)


@pytest.mark.parametrize(
    "kwargs, text",
    [
        (
            {"executor": "thread"},
            r"executor='thread' is not one of 'inline', 'threads', 'dask'. Did you mean 'threads'\?",
        ),
        ({"workers": 0}, "must be at least 1, got 0"),
        ({"where": "tcp://h:1", "workers": 2}, "leave them out with 'tcp://h:1'"),
        (
            {"where": "tcp://h:1", "executor": "threads"},
            "executor='threads' runs in this process: leave it out, or 'tcp://h:1'",
        ),
        ({"executor": "inline", "workers": 2}, "executor='inline' has one lane"),
        (
            {"executor": "threads", "workers": 2, "threads_per_worker": 2},
            "give its threads as workers= alone",
        ),
    ],
)
def test_wrong_words_are_refused(kwargs, text):
    with pytest.raises(ExecutorError, match=text):
        ff.Context(**kwargs)


def test_tasks_of_any_kind(cluster, active):
    ctx = ff.Context(active)
    data = np.arange(3 * 4 * 2 * 2, dtype="float32").reshape(3, 4, 2, 2)
    np.testing.assert_array_equal(ctx.map(ctx.load(data), lambda frame: frame[0] + 1).data, data[:, :, 0] + 1)
    assert ctx.run_tasks(lambda seed: seed**2, [1, 2, 3]) == [1, 4, 9]


def test_stop_cancels_what_runs(active):
    class Endless(ff.UDF):
        def get_result_buffers(self):
            return {"n": self.buffer("nav", dtype="int64")}

        def process_frame(self, frame):
            import time

            time.sleep(0.01)

    ctx = ff.Context(active)
    ds = ctx.load(np.zeros((1000, 2, 2), dtype="uint8"))
    with pytest.raises(ff.errors.UDFRunCancelled):
        for _ in ctx.run_udf_iter(ds, Endless(), partition_frames=5):
            ctx.stop()
