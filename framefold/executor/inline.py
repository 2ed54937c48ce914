"""Serial execution in the calling thread: deterministic, debuggable, the specification of an executor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from framefold.executor.base import Job, Session
from framefold.executor.debug import DebugFolder
from framefold.executor.session import open_sessions
from framefold.udfcore.fold import Folder
from framefold.udfcore.partitioning import IDLE
from framefold.udfcore.task import Partial


class InlineExecutor:
    """One partition after the other.

    Parameters
    ----------
    threads
        What a UDF is told in ``meta.threads_per_worker``.
    debug
        Find UDFs that would fail or differ on other executors: pickle all that would travel, hand out
        read-only tiles, and overwrite tiles and buffers when they are given back. Slow.
    """

    name = "inline"
    processes = False
    capacity = 1

    def __init__(self, threads: int = 1, *, debug: bool = False) -> None:
        self._threads = threads
        self.debug = debug
        self._jobs: list[Job] = []

    def run(self, job: Job) -> Iterator[Partial]:
        """Fold each task when its partial is asked for."""
        self._jobs.append(job)
        try:
            folder = DebugFolder(job.plan) if self.debug else Folder(job.plan, threads=self._threads)
            while (task := job.feed.next()) is not None:
                if task is not IDLE:
                    if folder.begins_window(task) and (large := folder.flush()) is not None:
                        yield large
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
        return open_sessions(factory, n)

    def cancel(self) -> None:
        """Cancel running jobs at their next block."""
        for job in list(self._jobs):
            job.feed.cancelled.set()

    def close(self) -> None:
        """Nothing to release."""
