"""The contract of executors: run a job, yield its partials in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from framefold.udfcore.partitioning import Feed
from framefold.udfcore.plan import Plan
from framefold.udfcore.task import Partial


@dataclass(frozen=True)
class Job:
    """A plan and the feed of its tasks.

    Attributes
    ----------
    plan
        What to fold.
    feed
        Hands out tasks; cancelling it ends the job.
    retries
        How often a partition may be tried again after its worker died.
    notes
        What the executor did that the user should know (retries, slow lanes): text -> count.
    """

    plan: Plan
    feed: Feed
    retries: int = 3
    notes: dict[str, int] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Count something for the report."""
        self.notes[text] = self.notes.get(text, 0) + 1


class Session(Protocol):
    """A long-lived object on one worker: owns sockets, rings or partition state."""

    def call(self, method: str, *args: Any) -> Any:
        """Run an ``async def`` method of the object where it lives and return what it returns."""
        ...

    def close(self) -> None:
        """Let the object go; calls its ``close`` method if it has one."""
        ...


class Executor(Protocol):
    """Where folds run, in which order, and what is retried.

    Attributes
    ----------
    name
        For reports.
    capacity
        Folds that run at the same time.
    processes
        Whether folds run in other processes, so that parameters must travel.
    """

    name: str
    processes: bool

    @property
    def capacity(self) -> int:
        """Folds that run at the same time."""
        ...

    def run(self, job: Job) -> Iterator[Partial]:
        """Yield the partials of all tasks of ``job.feed``, in any order.

        Closing the iterator cancels the job. The consumer sets the pace: few partials wait for it.
        """
        ...

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Return ``fn(item)`` for all items, in order."""
        ...

    def open_session(self, factory: Callable[[int], Any], n: int | None = None) -> list[Session]:
        """Make ``factory(rank)`` on `n` workers (default: one per worker) and return handles."""
        ...

    def cancel(self) -> None:
        """Cancel all running jobs."""
        ...

    def close(self) -> None:
        """Release workers; a closed executor cannot run."""
        ...
