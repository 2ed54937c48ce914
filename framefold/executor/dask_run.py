"""One job on a dask cluster: keep every worker supplied, repeat what a dead worker took along.

A thread of its own (the feeder) hands tasks to workers, so that a slow consumer delays no worker; it stops
handing out when as many partials wait for the consumer as may be in flight. Tasks are placed on workers
explicitly: then it is known which one runs when a worker dies, and in whose large buffers a partition is.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import statistics
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from framefold.errors import ExecutorError, WorkerLost
from framefold.executor import dask_connected, dask_worker
from framefold.executor.base import Job
from framefold.executor.dask_answers import CannotLoad, Failure, Missing, raise_failure
from framefold.executor.dask_connected import LOOK_SECONDS, Connected
from framefold.executor.dask_payload import dumps, modules_for
from framefold.executor.dask_worker import Payload
from framefold.udfcore.partitioning import IDLE
from framefold.udfcore.task import Partial, Task

SHORT_TASK = 0.1  # below this the way to the head and back is worth two more in flight
SLOW_FACTOR = 4.0
SLOW_SECONDS = 1.0  # no second run of anything that is younger
LARGE_PATCH = 64 * 1024  # changed parameters below this travel with each task
MAX_TRIES = 20  # of one partition for whatever reasons: an end to any circle
_DONE = object()


@dataclass(eq=False)
class _Attempt:
    """One try to fold a task; without a task it collects the large buffers of its worker."""

    task: Task | None
    worker: _Worker
    future: Any
    plan_key: str


@dataclass(eq=False)
class _Worker:
    """One worker as the feeder sees it.

    Attributes
    ----------
    attempts
        In the order of submission; the first `threads` of them run, the others wait there.
    unshipped
        Partitions that are in its large buffers and nowhere else.
    life
        How often this address was given up before: large buffers of earlier lives do not count.
    since
        When the first attempt came to the front.
    """

    address: str
    name: str
    threads: int
    life: int
    attempts: list[_Attempt] = field(default_factory=list)
    unshipped: dict[int, Task] = field(default_factory=dict)
    since: float = 0.0
    gone: bool = False


class DaskRun:
    """The feeder of one job."""

    def __init__(self, job: Job, cluster: Connected) -> None:
        self._job = job
        self._cluster = cluster
        self._out: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._workers: dict[str, _Worker] = {}
        self._again: deque[Task] = deque()
        self._deaths: dict[int, int] = {}
        self._tries: dict[int, int] = {}
        self._burials: dict[str, int] = {}
        self._lost: set[str] = set()
        self._done: set[int] = set()
        self._shipped: set[int] = set()
        self._seconds: deque[float] = deque(maxlen=50)
        self._resident = any(p.lags for p in job.plan.udfs)
        self._exhausted = False
        self._empty_since: float | None = None
        self._looked = -dask_connected.WORKER_TIMEOUT
        self._asked: concurrent.futures.Future[dict[str, int]] | None = None
        self._n = 0
        self._payload: Payload | None = None
        self._patches: dict[int, bytes] = {}
        self._arrays: Any = None
        self._thread = threading.Thread(target=self._feed, name="framefold-feeder", daemon=True)
        self._thread.start()

    # --- the consumer's side -----------------------------------------------------------------

    def partials(self) -> Iterator[Partial]:
        """Yield partials as they come; raise what ended the run early."""
        while True:
            item = self._out.get()
            if item is _DONE:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def stop(self) -> None:
        """End the feeder; folds that still run stop at their next block."""
        self._stop.set()
        self._events.put(None)
        self._thread.join()

    # --- the feeder --------------------------------------------------------------------------

    def _feed(self) -> None:
        try:
            self._send_plan()
            while not self._over():
                self._look()
                self._fill()
                self._handle_events()
                if self._exhausted:
                    self._run_slow_ones_again()
        except BaseException as exc:  # noqa: BLE001  # raised in the thread that merges
            self._out.put(exc)
        finally:
            with suppress(Exception):
                self._clean_up()
            self._out.put(_DONE)

    def _over(self) -> bool:
        if self._stop.is_set() or self._job.feed.cancelled.is_set():
            return True
        if not self._exhausted or self._again or any(self._open(w) for w in self._workers.values()):
            return False
        rest = [w for w in self._workers.values() if w.unshipped]
        for worker in rest:
            self._start(None, worker)
        return not rest

    def _open(self, worker: _Worker) -> list[_Attempt]:
        """Return attempts whose result is still wanted."""
        if self._resident:
            return worker.attempts
        return [a for a in worker.attempts if a.task is not None and a.task.index not in self._done]

    def _send_plan(self, addresses: list[str] | None = None) -> None:
        """Make the plan known to the workers, all of them unless given."""
        cluster, plan = self._cluster, self._job.plan
        if self._payload is None:
            buffers: list[Any] = []
            header = dumps(plan, cluster.by_value, buffers)
            shared, self._arrays = cluster.ship(buffers)
            threads = max([1, *cluster.workers().values()]) if plan.max_lanes == 1 else 1
            self._payload = Payload(f"{plan.run_id}/{len(cluster.by_value)}", header, threads, shared)
        wanted = list(self._workers) if addresses is None else addresses
        cluster.on_workers(dask_worker.register, self._payload, workers=wanted)
        for version in self._patches:
            self._send_patches(version, wanted)

    def _send_patches(self, version: int, addresses: list[str]) -> None:
        assert self._payload is not None
        patches = self._patches[version]
        self._cluster.on_workers(
            dask_worker.add_patches, self._payload.key, version, patches, workers=addresses
        )

    def _without_large_patches(self, task: Task) -> Task:
        """Send large changed parameters to all workers at once rather than with every task."""
        version = task.params_version
        if task.patches and version not in self._patches:
            pickled = dumps(task.patches, self._cluster.by_value)
            if len(pickled) < LARGE_PATCH:
                return task
            self._patches[version] = pickled
            self._send_patches(version, list(self._workers))
        return replace(task, patches=()) if version in self._patches else task

    def _look(self) -> None:
        """Ask for the list of workers now and then; act on the answer when it is there."""
        now = time.monotonic()
        lost = self._cluster.lost()
        if lost:
            raise ExecutorError(lost)
        if self._asked is None:
            if now - self._looked >= LOOK_SECONDS:
                self._looked = now
                self._asked = self._cluster.ask_workers()
                self._asked.add_done_callback(lambda _: self._events.put(None))
        elif self._asked.done():
            asked, self._asked = self._asked, None
            try:
                found = asked.result()
            except (OSError, AttributeError, concurrent.futures.CancelledError):
                return  # the connection is broken, as `lost` will say in a moment
            self._compare(found, now)
        elif now - self._looked > dask_connected.WORKER_TIMEOUT:
            raise ExecutorError(
                f"the dask scheduler has not answered for {dask_connected.WORKER_TIMEOUT:g} s"
            )

    def _compare(self, found: dict[str, int], now: float) -> None:
        """Notice new and dead workers."""
        for address in [a for a in self._workers if a not in found]:
            self._bury(self._workers[address])
        new = [a for a in found if a not in self._workers]
        for address in new:
            threads = 1 if self._job.plan.max_lanes == 1 else max(1, found[address])
            life = self._burials.get(address, 0)
            self._workers[address] = _Worker(address, self._cluster.name(address), threads, life)
        if new:
            self._send_plan(new)
        if self._workers:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = now
            self._cluster.wanted()
        elif now - self._empty_since > dask_connected.WORKER_TIMEOUT:
            seconds = f"{dask_connected.WORKER_TIMEOUT:g} s"
            raise ExecutorError(f"the cluster has had no worker for {seconds}: start workers, then run again")

    # --- handing out -------------------------------------------------------------------------

    def _fill(self) -> None:
        """Hand tasks to the least loaded workers until each has its window full."""
        if not self._workers:
            return
        depth = 2 if self._seconds and statistics.median(self._seconds) >= SHORT_TASK else 4
        lanes = sum(w.threads for w in self._workers.values())
        while self._out.qsize() < depth * lanes:
            worker = min(self._workers.values(), key=lambda w: len(w.attempts) / w.threads)
            if len(worker.attempts) >= depth * worker.threads:
                return
            task = self._next_task()
            if task is None:
                return
            self._start(task, worker)

    def _next_task(self) -> Task | None:
        if self._again:
            return self._again.popleft()
        if not self._exhausted:
            task = self._job.feed.next()
            if task is not None:
                assert task is not IDLE  # live feeds run in sessions
                return task
            self._exhausted = True
        return None

    def _start(self, task: Task | None, worker: _Worker) -> None:
        assert self._payload is not None
        if task is not None:
            n = self._tries[task.index] = self._tries.get(task.index, 0) + 1
            if n > MAX_TRIES + self._job.retries:
                raise ExecutorError(f"partition {task.index} was started {n - 1} times and never came back")
        self._n += 1
        key = f"framefold-{self._payload.key}-{'flush' if task is None else task.index}-{self._n}"
        if task is None:
            future = self._cluster.submit(
                dask_worker.flush_task, self._payload.key, worker.life, worker=worker.address, key=key
            )
        else:
            alone = self._resident and task.index in self._shipped
            sent = self._without_large_patches(task)
            future = self._cluster.submit(
                dask_worker.fold_task, self._payload.key, worker.life, worker.name, sent, alone, self._arrays,
                worker=worker.address, key=key,
            )  # fmt: skip
        now = time.monotonic()
        attempt = _Attempt(task, worker, future, self._payload.key)
        if not worker.attempts:
            worker.since = now
        worker.attempts.append(attempt)
        fetched = self._cluster.fetch(future, worker.address)
        fetched.add_done_callback(lambda f: self._events.put((attempt, f)))

    def _run_slow_ones_again(self) -> None:
        """At the end, give what a slow worker holds to an idle one, too; the first result counts."""
        if self._resident or self._again or not self._seconds:
            return  # a second run would count twice in large buffers
        idle = [w for w in self._workers.values() if not w.attempts]
        if not idle:
            return
        limit = max(SLOW_SECONDS, SLOW_FACTOR * statistics.median(self._seconds))
        now = time.monotonic()
        running: dict[int, int] = {}
        for w in self._workers.values():
            for a in w.attempts:
                if a.task is not None:
                    running[a.task.index] = running.get(a.task.index, 0) + 1
        for worker in self._workers.values():
            if not worker.attempts or now - worker.since < limit:
                continue
            for attempt in worker.attempts:
                task = attempt.task
                if task is None or task.index in self._done or running[task.index] > 1 or not idle:
                    continue
                self._job.note("slow partition folded a second time")
                self._start(task, idle.pop())

    # --- what comes back ---------------------------------------------------------------------

    def _handle_events(self) -> None:
        try:
            event = self._events.get(timeout=0.05)
            while True:
                if event is not None:
                    self._answer(*event)
                event = self._events.get_nowait()
        except queue.Empty:
            pass

    def _answer(self, attempt: _Attempt, fetched: concurrent.futures.Future[Any]) -> None:
        worker = attempt.worker
        if attempt not in worker.attempts:
            return  # given up before
        worker.attempts.remove(attempt)
        worker.since = time.monotonic()
        attempt.future.release()
        try:
            answer = fetched.result()
        except (asyncio.CancelledError, concurrent.futures.CancelledError) as exc:
            self._vanished(attempt, exc)
            return
        except Exception as exc:  # noqa: BLE001  # what dask raises of its own: UDF errors come as values
            self._dask_error(attempt, exc)
            return
        if isinstance(answer, list):
            for partial in answer:
                if partial.delta:
                    self._collected(worker, partial)
                else:
                    self._folded(attempt, partial)
            if attempt.task is None and worker.unshipped:
                self._bury(worker, blame=False)  # it does not have what it should have
        elif isinstance(answer, Missing):
            # another process at the same address, or one with too many runs
            worker.attempts.insert(0, attempt)
            self._bury(worker, blame=False)
        elif isinstance(answer, CannotLoad):
            self._send_by_value(attempt, answer)
            self._repeat(attempt.task)
        elif isinstance(answer, Failure):
            raise_failure(answer, worker.name)

    def _folded(self, attempt: _Attempt, partial: Partial) -> None:
        task, worker = attempt.task, attempt.worker
        assert task is not None
        if self._resident and task.index not in self._shipped:
            worker.unshipped[task.index] = task
        self._job.feed.done(partial)
        self._seconds.append(partial.seconds)
        if task.index not in self._done:
            self._done.add(task.index)
            self._out.put(partial)

    def _collected(self, worker: _Worker, delta: Partial) -> None:
        for index, _, _ in delta.tasks:
            self._shipped.add(index)
            worker.unshipped.pop(index, None)
        self._out.put(delta)

    # --- what goes wrong ---------------------------------------------------------------------

    def _needed(self, task: Task) -> bool:
        """Whether a partition, or its part in large buffers, is neither here nor on a living worker."""
        index = task.index
        if task in self._again:
            return False
        if index not in self._done:
            return True
        lags = self._resident and index not in self._shipped
        return lags and not any(index in w.unshipped for w in self._workers.values())

    def _repeat(self, task: Task | None, note: str = "") -> None:
        """Fold a partition again, if it is needed."""
        if task is None or not self._needed(task):
            return
        self._again.append(task)
        if note:
            self._job.note(note)

    def _vanished(self, attempt: _Attempt, exc: BaseException) -> None:
        """Dask dropped the future: the scheduler is gone, or somebody restarted the cluster."""
        for _ in range(10):
            lost = self._cluster.lost()
            if lost:
                raise ExecutorError(lost) from exc
            time.sleep(0.01)
        self._job.note("task dropped by the cluster, folded again")
        self._bury(attempt.worker, blame=False)
        self._repeat(attempt.task)

    def _dask_error(self, attempt: _Attempt, exc: Exception) -> None:
        if type(exc).__name__ in ("KilledWorker", "NoValidWorkerError"):
            attempt.worker.attempts.insert(0, attempt)
            self._bury(attempt.worker)
            return
        if isinstance(exc, OSError):  # the worker died between its answer and our reading of it
            lost = self._cluster.lost()
            if lost:
                raise ExecutorError(lost) from exc
            attempt.worker.attempts.insert(0, attempt)
            self._count_lost(attempt.worker)
            self._bury(attempt.worker, blame=False)
            return
        hint = ""
        if isinstance(exc, ImportError):
            hint = ": install framefold with the same version on the workers"
        raise ExecutorError(
            f"dask could not run a task on worker {attempt.worker.name}: {exc!r}{hint}"
        ) from exc

    def _bury(self, worker: _Worker, *, blame: bool = True) -> None:
        """Fold again, elsewhere, all that is lost with a worker."""
        if worker.gone:
            return
        worker.gone = True
        self._workers.pop(worker.address, None)
        self._looked = min(self._looked, time.monotonic() - LOOK_SECONDS)
        attempts, worker.attempts = worker.attempts, []
        for attempt in attempts:
            attempt.future.release()
        job = self._job
        if blame:
            self._count_lost(worker)
        self._burials[worker.address] = self._burials.get(worker.address, 0) + 1
        for position, attempt in enumerate(attempts):
            task = attempt.task
            if blame and position < worker.threads and task is not None and self._needed(task):
                n = self._deaths[task.index] = self._deaths.get(task.index, 0) + 1
                if n > job.retries:
                    raise WorkerLost(self._obituary(task, worker, n))
            self._repeat(task, "partition folded again after its worker was lost")
        for task in worker.unshipped.values():
            self._repeat(task, "partition folded again: its large buffers were lost with a worker")
        worker.unshipped = {}

    def _count_lost(self, worker: _Worker) -> None:
        """Count a worker once, also if the scheduler, which learns late, lists its address once more."""
        if worker.address not in self._lost:
            self._lost.add(worker.address)
            self._job.note("worker lost")

    def _obituary(self, task: Task, worker: _Worker, n: int) -> str:
        ids = self._job.plan.rows.frame_ids(task.start, task.stop)
        names = ", ".join(p.name for p in self._job.plan.udfs)
        times = "once" if n == 1 else f"{n} times"
        text = (
            f"partition {task.index} (frames {ids[0]}..{ids[-1]}) of {names} ended its worker {times}, "
            f"retries={self._job.retries}. Usual causes are too little memory and crashes in compiled code: "
            f"run these frames with Context(executor='inline') to see."
        )
        lines = self._cluster.last_lines(worker.address)
        return f"{text}\nThe last lines of worker {worker.name}:\n{lines}" if lines else text

    def _send_by_value(self, attempt: _Attempt, answer: CannotLoad) -> None:
        """Pack the plan again, with the code of modules that workers cannot load."""
        assert self._payload is not None
        if attempt.plan_key != self._payload.key:
            return  # happened already
        have = self._cluster.by_value
        modules = [
            m for m in modules_for(answer.module, [p.cls for p in self._job.plan.udfs]) if m not in have
        ]
        if not modules:
            raise ExecutorError(
                f"workers cannot load the UDF or the dataset: {answer.text}. Is it installed there?"
            )
        have.extend(modules)
        self._payload = None
        self._send_plan()

    def _clean_up(self) -> None:
        """Leave nothing on the workers."""
        for worker in self._workers.values():
            for attempt in worker.attempts:
                attempt.future.release()
        if self._payload is not None and self._workers and not self._cluster.lost():
            # not waited for long: one that computes without releasing the interpreter hears it afterwards
            addresses = list(self._workers)
            self._cluster.on_workers(dask_worker.forget, self._payload.key, workers=addresses, patience=1.0)
