"""Serial execution in the calling thread: deterministic, debuggable, the specification of an executor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from framefold.executor.base import Job, Session
from framefold.executor.session import LocalSession
from framefold.udfcore.fold import Folder
from framefold.udfcore.task import Partial


class InlineExecutor:
    """One partition after the other."""

    name = "inline"
    processes = False
    capacity = 1

    def __init__(self) -> None:
        self._jobs: list[Job] = []

    def run(self, job: Job) -> Iterator[Partial]:
        """Fold each task when its partial is asked for."""
        self._jobs.append(job)
        try:
            folder = Folder(job.plan)
            while (task := job.feed.next()) is not None:
                partial = folder.fold(task, job.feed.cancelled)
                job.feed.done(partial)
                yield partial
                if folder.flush_due and (large := folder.flush()) is not None:
                    yield large
            delta = folder.flush()
            if delta is not None:
                yield delta
        finally:
            self._jobs.remove(job)

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Apply `fn` to each item."""
        return [fn(item) for item in items]

    def open_session(self, factory: Callable[[int], Any], n: int | None = None) -> list[Session]:
        """Make session objects in this process."""
        return [LocalSession(factory, rank) for rank in range(n or 1)]

    def cancel(self) -> None:
        """Cancel running jobs at their next block."""
        for job in list(self._jobs):
            job.feed.cancelled.set()

    def close(self) -> None:
        """Nothing to release."""
