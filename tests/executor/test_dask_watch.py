"""A scheduler that is silent is given up, but not because this process was stopped."""

import concurrent.futures

import pytest

from framefold.errors import ExecutorError
from framefold.executor import dask_watch
from framefold.executor.dask_connected import WORKER_TIMEOUT


class Silent:
    """A cluster whose scheduler never answers."""

    def lost(self):
        return None

    def ask_workers(self):
        return concurrent.futures.Future()

    def wanted(self):
        pass


@pytest.fixture
def time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(dask_watch.Clock.__init__, "__defaults__", (lambda: now[0],))
    return now


def test_a_pause_of_this_process_is_not_the_schedulers_silence(time):
    watch = dask_watch.Watch(Silent(), lambda: None)
    assert watch.look() is None
    time[0] += 3 * WORKER_TIMEOUT  # stopped by Ctrl-Z, and continued
    assert watch.look() is None


def test_silence_ends_the_run(time):
    watch = dask_watch.Watch(Silent(), lambda: None)

    def wait():
        for _ in range(int(2 * WORKER_TIMEOUT / 0.5)):
            watch.look()
            time[0] += 0.5

    with pytest.raises(ExecutorError, match="the dask scheduler has not answered for 30 s"):
        wait()
    assert time[0] == pytest.approx(100 + WORKER_TIMEOUT, abs=1.5)


def test_a_cluster_without_workers_is_waited_for(time):
    watch = dask_watch.Watch(Silent(), lambda: None)
    watch.seen(0)
    time[0] += 3 * WORKER_TIMEOUT
    watch.seen(0)

    def wait():
        for _ in range(int(2 * WORKER_TIMEOUT / 0.5)):
            watch.seen(0)
            time[0] += 0.5

    with pytest.raises(ExecutorError, match="the cluster has had no worker for 30 s"):
        wait()
