"""One job on a dask cluster: keep every worker supplied, repeat what a dead worker took along.

A thread of its own (the feeder) hands tasks to workers, so that a slow consumer delays no worker; it stops
handing out when as many partials wait for the consumer as may be in flight. Tasks are placed on workers
explicitly: then it is known which one runs when a worker dies, and in whose large buffers a partition is.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from framefold.errors import ExecutorError, WorkerLost
from framefold.executor import dask_worker
from framefold.executor.base import Job
from framefold.executor.dask_answers import CannotLoad, Failure, Missing, raise_failure
from framefold.executor.dask_connected import Connected
from framefold.executor.dask_ledger import Attempt, Ledger, Worker
from framefold.executor.dask_sender import PlanSender
from framefold.executor.dask_watch import Watch
from framefold.udfcore.partitioning import IDLE
from framefold.udfcore.task import Partial, Task

SHORT_TASK = 0.1  # below this the way to the head and back is worth two more in flight
SLOW_FACTOR = 4.0
SLOW_SECONDS = 1.0  # no second run of anything that is younger
MAX_TRIES = 20  # of one partition for whatever reasons: an end to any circle
_DONE = object()


class DaskRun:
    """The feeder of one job."""

    def __init__(self, job: Job, cluster: Connected) -> None:
        self._job = job
        self._cluster = cluster
        self._out: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._ledger = Ledger(resident=any(p.lags for p in job.plan.udfs))
        self._sender = PlanSender(job.plan, cluster)
        self._watch = Watch(cluster, lambda: self._events.put(None))
        self._exhausted = False
        self._n = 0
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
            self._sender.send([])
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
        workers = self._ledger.workers.values()
        if not self._exhausted or self._ledger.again or any(self._ledger.open(w) for w in workers):
            return False
        rest = [w for w in workers if w.unshipped]
        for worker in rest:
            self._start(None, worker)
        return not rest

    def _look(self) -> None:
        """Notice new and dead workers."""
        found = self._watch.look()
        if found is None:
            return
        workers = self._ledger.workers
        for address in [a for a in workers if a not in found]:
            self._bury(workers[address])
        new = [a for a in found if a not in workers]
        for address in new:
            threads = 1 if self._job.plan.max_lanes == 1 else max(1, found[address])
            self._ledger.add(address, self._cluster.name(address), threads)
        if new:
            self._sender.send(new)
        self._watch.seen(len(workers))

    # --- handing out -------------------------------------------------------------------------

    def _fill(self) -> None:
        """Hand tasks to the least loaded workers until each has its window full."""
        workers = self._ledger.workers.values()
        if not workers:
            return
        depth = 2 if (self._ledger.usual_seconds or 0.0) >= SHORT_TASK else 4
        lanes = sum(w.threads for w in workers)
        while self._out.qsize() < depth * lanes:
            worker = min(workers, key=lambda w: len(w.attempts) / w.threads)
            if len(worker.attempts) >= depth * worker.threads:
                return
            task = self._next_task()
            if task is None:
                return
            self._start(task, worker)

    def _next_task(self) -> Task | None:
        if self._ledger.again:
            return self._ledger.again.popleft()
        if not self._exhausted:
            task = self._job.feed.next()
            if task is not None:
                assert task is not IDLE  # live feeds run in sessions
                return task
            self._exhausted = True
        return None

    def _start(self, task: Task | None, worker: Worker) -> None:
        if task is not None:
            n = self._ledger.count_try(task)
            if n > MAX_TRIES + self._job.retries:
                raise ExecutorError(f"partition {task.index} was started {n - 1} times and never came back")
        self._n += 1
        plan_key = self._sender.key
        key = f"framefold-{plan_key}-{'flush' if task is None else task.index}-{self._n}"
        if task is None:
            future = self._cluster.submit(
                dask_worker.flush_task, plan_key, worker.life, worker=worker.address, key=key
            )
        else:
            alone = self._ledger.shipped(task)
            sent = self._sender.without_large_patches(task, self._ledger.workers)
            future = self._cluster.submit(
                dask_worker.fold_task, plan_key, worker.life, worker.name, sent, alone, self._sender.arrays,
                worker=worker.address, key=key,
            )  # fmt: skip
        now = time.monotonic()
        attempt = Attempt(task, worker, future, plan_key)
        if not worker.attempts:
            worker.since = now
        worker.attempts.append(attempt)
        fetched = self._cluster.fetch(future, worker.address)
        fetched.add_done_callback(lambda f: self._events.put((attempt, f)))

    def _run_slow_ones_again(self) -> None:
        """At the end, give what a slow worker holds to an idle one, too; the first result counts."""
        ledger = self._ledger
        usual = ledger.usual_seconds
        if ledger.resident or ledger.again or usual is None:
            return  # a second run would count twice in large buffers
        idle = [w for w in ledger.workers.values() if not w.attempts]
        if not idle:
            return
        for task in ledger.slow(max(SLOW_SECONDS, SLOW_FACTOR * usual), time.monotonic())[: len(idle)]:
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

    def _answer(self, attempt: Attempt, fetched: concurrent.futures.Future[Any]) -> None:
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
            self._sender.send_by_value(attempt.plan_key, answer, self._ledger.workers)
            self._repeat(attempt.task)
        elif isinstance(answer, Failure):
            raise_failure(answer, worker.name)

    def _folded(self, attempt: Attempt, partial: Partial) -> None:
        first = self._ledger.folded(attempt, partial)
        self._job.feed.done(partial)
        if first:
            self._out.put(partial)

    def _collected(self, worker: Worker, delta: Partial) -> None:
        self._ledger.collected(worker, delta)
        self._out.put(delta)

    # --- what goes wrong ---------------------------------------------------------------------

    def _repeat(self, task: Task | None, note: str = "") -> None:
        """Fold a partition again, if it is needed."""
        if task is None or not self._ledger.needed(task):
            return
        self._ledger.again.append(task)
        if note:
            self._job.note(note)

    def _vanished(self, attempt: Attempt, exc: BaseException) -> None:
        """Dask dropped the future: the scheduler is gone, or somebody restarted the cluster."""
        for _ in range(10):
            lost = self._cluster.lost()
            if lost:
                raise ExecutorError(lost) from exc
            time.sleep(0.01)
        self._job.note("task dropped by the cluster, folded again")
        self._bury(attempt.worker, blame=False)
        self._repeat(attempt.task)

    def _dask_error(self, attempt: Attempt, exc: Exception) -> None:
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

    def _bury(self, worker: Worker, *, blame: bool = True) -> None:
        """Fold again, elsewhere, all that is lost with a worker."""
        if worker.gone:
            return
        self._ledger.strike(worker)
        self._watch.soon()
        attempts, worker.attempts = worker.attempts, []
        for attempt in attempts:
            attempt.future.release()
        job = self._job
        if blame:
            self._count_lost(worker)
        for position, attempt in enumerate(attempts):
            task = attempt.task
            if blame and position < worker.threads and task is not None and self._ledger.needed(task):
                n = self._ledger.count_death(task)
                if n > job.retries:
                    raise WorkerLost(self._obituary(task, worker, n))
            self._repeat(task, "partition folded again after its worker was lost")
        for task in worker.unshipped.values():
            self._repeat(task, "partition folded again: its large buffers were lost with a worker")
        worker.unshipped = {}

    def _count_lost(self, worker: Worker) -> None:
        if self._ledger.first_loss(worker):
            self._job.note("worker lost")

    def _obituary(self, task: Task, worker: Worker, n: int) -> str:
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

    def _clean_up(self) -> None:
        """Leave nothing on the workers."""
        for worker in self._ledger.workers.values():
            for attempt in worker.attempts:
                attempt.future.release()
        self._sender.forget(self._ledger.workers)
