"""The list of a cluster's workers, asked for now and then without waiting for the answer."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable

from framefold.errors import ExecutorError
from framefold.executor import dask_connected
from framefold.executor.dask_connected import LOOK_SECONDS, Connected

GAP_SECONDS = 1.0  # what counts of a longer gap: then this process was stopped (Ctrl-Z), or merged


class Clock:
    """Seconds in which this process ran: one that is stopped for a minute must not blame others for it."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._last, self._seconds = now(), 0.0

    def read(self) -> float:
        """Return the seconds so far; to be called more often than every `GAP_SECONDS`."""
        now = self._now()
        self._seconds += min(now - self._last, GAP_SECONDS)
        self._last = now
        return self._seconds


class Watch:
    """Asks a scheduler for its workers; `wake` is called, in a thread of dask, when it has answered."""

    def __init__(self, cluster: Connected, wake: Callable[[], None]) -> None:
        self._cluster = cluster
        self._wake = wake
        self._clock = Clock()
        self._looked = -dask_connected.WORKER_TIMEOUT
        self._asked: concurrent.futures.Future[dict[str, int]] | None = None
        self._empty_since: float | None = None

    def look(self) -> dict[str, int] | None:
        """Return addresses and threads of the workers when an answer has come, else None.

        Raises
        ------
        ExecutorError
            If the cluster is gone, or its scheduler does not answer.
        """
        now = self._clock.read()
        lost = self._cluster.lost()
        if lost:
            raise ExecutorError(lost)
        if self._asked is None:
            if now - self._looked >= LOOK_SECONDS:
                self._looked = now
                self._asked = self._cluster.ask_workers()
                self._asked.add_done_callback(lambda _: self._wake())
        elif self._asked.done():
            asked, self._asked = self._asked, None
            try:
                return asked.result()
            except (OSError, AttributeError, concurrent.futures.CancelledError):
                return None  # the connection is broken, as `lost` will say in a moment
        elif now - self._looked > dask_connected.WORKER_TIMEOUT:
            raise ExecutorError(
                f"the dask scheduler has not answered for {dask_connected.WORKER_TIMEOUT:g} s"
            )
        return None

    def soon(self) -> None:
        """Ask again at once."""
        self._looked = min(self._looked, self._clock.read() - LOOK_SECONDS)

    def seen(self, n: int) -> None:
        """Tell how many workers there are; a cluster without any is waited for, but not for ever."""
        now = self._clock.read()
        if n:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = now
            self._cluster.wanted()
        elif now - self._empty_since > dask_connected.WORKER_TIMEOUT:
            seconds = f"{dask_connected.WORKER_TIMEOUT:g} s"
            raise ExecutorError(f"the cluster has had no worker for {seconds}: start workers, then run again")
