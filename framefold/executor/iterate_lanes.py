"""Threads that work on one pass at a time, each on its own part, and meet at its end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any


class Lanes:
    """`n` threads, the caller among them; a round trip costs some 20 us per thread."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._tasks: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in range(n - 1)]
        self._done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, args=(i,), name=f"framefold-lane-{i + 1}", daemon=True)
            for i in range(n - 1)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self, i: int) -> None:
        while (fn := self._tasks[i].get()) is not None:
            try:
                fn(i + 1)
            except BaseException as exc:  # noqa: BLE001  # raised again where all lanes meet
                self._done.put(exc)
            else:
                self._done.put(None)
            del fn

    def run(self, fn: Callable[[int], None]) -> None:
        """Call ``fn(lane)`` in every lane and wait for all; raise what one of them raised."""
        for tasks in self._tasks:
            tasks.put(fn)
        error: BaseException | None = None
        try:
            fn(0)
        except BaseException as exc:  # noqa: BLE001  # the others must be waited for
            error = exc
        for _ in self._threads:
            error = self._done.get() or error
        if error is not None:
            raise error

    def close(self) -> None:
        """End the threads."""
        for tasks in self._tasks:
            tasks.put(None)
        for thread in self._threads:
            thread.join()
