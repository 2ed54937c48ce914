"""Sessions: objects that live with the workers, the same on every executor."""

import asyncio
import os
import signal
import threading
import time

import pytest

from framefold.errors import ExecutorError
from framefold.executor.dask import DaskExecutor


class Counter:
    """Holds a number and can wait for it."""

    def __init__(self, rank):
        if rank > 5:
            raise ValueError(f"no rank {rank}")
        self.rank = rank
        self.value = 0
        self.changed = asyncio.Condition()

    async def add(self, n):
        async with self.changed:
            self.value += n
            self.changed.notify_all()
        return self.value

    async def wait_for(self, n):
        async with self.changed:
            await self.changed.wait_for(lambda: self.value >= n)
        return self.value

    async def place(self):
        return os.getpid(), threading.get_ident()

    async def fail(self):
        raise LookupError(f"rank {self.rank} failed")

    async def close(self):
        self.value = -1


@pytest.fixture
def sessions(executor):
    opened = executor.open_session(Counter, 2)
    yield opened
    for session in opened:
        session.close()


def test_state_stays_and_ranks_differ(sessions):
    assert [s.call("add", 5) for s in sessions] == [5, 5]
    assert [s.call("add", i) for i, s in enumerate(sessions)] == [5, 6]


def test_each_session_has_its_own_worker(sessions, executor):
    places = [s.call("place") for s in sessions]
    assert len(set(places)) == 2
    assert all((pid != os.getpid()) == executor.processes for pid, _ in places)
    assert places == [s.call("place") for s in sessions], "methods run where they ran before"


def test_a_call_does_not_queue_behind_one_that_waits(sessions):
    got = []
    waiting = threading.Thread(target=lambda: got.append(sessions[0].call("wait_for", 3)))
    waiting.start()
    time.sleep(0.1)
    sessions[0].call("add", 3)
    waiting.join(timeout=60)
    assert got == [3]


def test_exceptions_come_back(sessions):
    with pytest.raises(LookupError, match="rank 1 failed"):
        sessions[1].call("fail")
    with pytest.raises(AttributeError, match="nothing"):
        sessions[1].call("nothing")
    assert sessions[1].call("add", 1) == 1


def test_a_factory_that_fails_raises_and_leaves_nothing(executor):
    with pytest.raises(ValueError, match="no rank 6"):
        executor.open_session(lambda rank: Counter(rank + 5), 2)
    names = [t.name for t in threading.enumerate() if t.name.startswith("framefold-session")]
    assert not names


def test_closed_sessions_say_so(executor):
    (session,) = executor.open_session(Counter, 1)
    session.close()
    session.close()
    with pytest.raises(ExecutorError, match=r"session\.call\('add'\): the session is closed"):
        session.call("add", 1)


def test_default_is_one_per_worker(cluster):
    opened = cluster.open_session(Counter)
    assert len(opened) == 2
    for session in opened:
        session.close()


def test_too_many_sessions_are_refused(cluster):
    with pytest.raises(ExecutorError, match="3 sessions need as many workers; this context has 2"):
        cluster.open_session(Counter, 3)


def test_closing_does_not_wait_for_calls(executor):
    (session,) = executor.open_session(Counter, 1)
    errors = []

    def wait():
        try:
            session.call("wait_for", 1)
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.2)
    session.close()
    thread.join(timeout=60)
    assert not thread.is_alive() and errors


def test_a_session_on_a_killed_worker_is_an_error():
    executor = DaskExecutor(workers=1)
    try:
        (session,) = executor.open_session(Counter, 1)
        pid, _ = session.call("place")
        os.kill(pid, signal.SIGKILL)
        t0 = time.perf_counter()
        with pytest.raises(ExecutorError, match="is gone"):
            for _ in range(100):
                session.call("add", 1)
                time.sleep(0.02)
        assert time.perf_counter() - t0 < 60
        session.close()
        (again,) = executor.open_session(Counter, 1)
        assert again.call("add", 1) == 1
    finally:
        executor.close()
