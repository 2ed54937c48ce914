"""What a job on a cluster knows of its partitions and workers: tried, folded, sent on, lost."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from framefold.udfcore.task import Partial, Task


@dataclass(eq=False)
class Attempt:
    """One try to fold a task; without a task it collects the large buffers of its worker."""

    task: Task | None
    worker: Worker
    future: Any
    plan_key: str


@dataclass(eq=False)
class Worker:
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
    attempts: list[Attempt] = field(default_factory=list)
    unshipped: dict[int, Task] = field(default_factory=dict)
    since: float = 0.0
    gone: bool = False


class Ledger:
    """Partitions and workers of one job.

    Parameters
    ----------
    resident
        Whether there are large buffers, which stay on the workers and are collected at the end.

    Attributes
    ----------
    workers
        Those alive, by address.
    again
        Tasks to hand out once more.
    """

    def __init__(self, *, resident: bool) -> None:
        self.resident = resident
        self.workers: dict[str, Worker] = {}
        self.again: deque[Task] = deque()
        self._done: set[int] = set()
        self._shipped: set[int] = set()
        self._tries: dict[int, int] = {}
        self._deaths: dict[int, int] = {}
        self._burials: dict[str, int] = {}
        self._lost: set[str] = set()
        self._seconds: deque[float] = deque(maxlen=50)

    # --- workers -----------------------------------------------------------------------------

    def add(self, address: str, name: str, threads: int) -> None:
        """Enter a new worker."""
        self.workers[address] = Worker(address, name, threads, self._burials.get(address, 0))

    def strike(self, worker: Worker) -> None:
        """Give a worker up."""
        worker.gone = True
        self.workers.pop(worker.address, None)
        self._burials[worker.address] = self._burials.get(worker.address, 0) + 1

    def first_loss(self, worker: Worker) -> bool:
        """Count a worker once, also if the scheduler, which learns late, lists its address once more."""
        new = worker.address not in self._lost
        self._lost.add(worker.address)
        return new

    # --- partitions --------------------------------------------------------------------------

    def open(self, worker: Worker) -> list[Attempt]:
        """Return attempts whose result is still wanted."""
        if self.resident:
            return worker.attempts
        return [a for a in worker.attempts if a.task is not None and a.task.index not in self._done]

    def needed(self, task: Task) -> bool:
        """Whether a partition, or its part in large buffers, is neither here nor on a living worker."""
        index = task.index
        if task in self.again:
            return False
        if index not in self._done:
            return True
        lags = self.resident and index not in self._shipped
        return lags and not any(index in w.unshipped for w in self.workers.values())

    def count_try(self, task: Task) -> int:
        """Count one more try of a task."""
        n = self._tries[task.index] = self._tries.get(task.index, 0) + 1
        return n

    def count_death(self, task: Task) -> int:
        """Count one more worker that ended while it folded a task."""
        n = self._deaths[task.index] = self._deaths.get(task.index, 0) + 1
        return n

    def shipped(self, task: Task) -> bool:
        """Whether the part of a task in large buffers is here already."""
        return self.resident and task.index in self._shipped

    def folded(self, attempt: Attempt, partial: Partial) -> bool:
        """Enter the result of an attempt; return whether it is the first of its partition."""
        task = attempt.task
        assert task is not None
        if self.resident and task.index not in self._shipped:
            attempt.worker.unshipped[task.index] = task
        self._seconds.append(partial.seconds)
        first = task.index not in self._done
        self._done.add(task.index)
        return first

    def collected(self, worker: Worker, delta: Partial) -> None:
        """Enter large buffers that came from a worker."""
        for index, _, _ in delta.tasks:
            self._shipped.add(index)
            worker.unshipped.pop(index, None)

    # --- time --------------------------------------------------------------------------------

    @property
    def usual_seconds(self) -> float | None:
        """Median of the last folds; None before the first."""
        return statistics.median(self._seconds) if self._seconds else None

    def slow(self, limit: float, now: float) -> list[Task]:
        """Return tasks that run once only, on workers whose first attempt is older than `limit` s."""
        running: dict[int, int] = {}
        for w in self.workers.values():
            for a in w.attempts:
                if a.task is not None:
                    running[a.task.index] = running.get(a.task.index, 0) + 1
        return [
            a.task
            for w in self.workers.values()
            if w.attempts and now - w.since >= limit
            for a in w.attempts
            if a.task is not None and a.task.index not in self._done and running[a.task.index] == 1
        ]
