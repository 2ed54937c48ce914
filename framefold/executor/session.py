"""Sessions in this process: the object lives on an event loop of its own thread."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from framefold.errors import ExecutorError
from framefold.executor.base import Session


class LocalSession:
    """A session object in this process; its methods run on one event loop, never in parallel."""

    def __init__(self, factory: Callable[[int], Any], rank: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"framefold-session-{rank}", daemon=True
        )
        self._thread.start()
        self._closed = False

        async def make() -> Any:
            return factory(rank)

        try:
            self._object = asyncio.run_coroutine_threadsafe(make(), self._loop).result()
        except BaseException:
            self._stop_loop()
            raise

    def submit(self, method: str, *args: Any) -> Future[Any]:
        """Start a method of the object on its loop; the future holds what it returns."""
        if self._closed:
            raise ExecutorError(f"session.call({method!r}): the session is closed")
        return self._start(method, *args)

    def call(self, method: str, *args: Any) -> Any:
        """Run a method of the object on its loop and wait for what it returns."""
        return self.submit(method, *args).result()

    def _start(self, method: str, *args: Any) -> Future[Any]:
        async def run() -> Any:
            result = getattr(self._object, method)(*args)
            return await result if inspect.isawaitable(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self._loop)

    def close(self) -> None:
        """Close the object and stop its thread; calls that still wait are cancelled."""
        if self._closed:
            return
        self._closed = True
        try:
            if hasattr(self._object, "close"):
                self._start("close").result()
        finally:
            self._stop_loop()

    def _stop_loop(self) -> None:
        async def cancel_rest() -> None:
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(cancel_rest(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def open_sessions(factory: Callable[[int], Any], n: int | None) -> list[Session]:
    """Make ``factory(rank)`` `n` times in this process, once by default; all or none."""
    sessions: list[Session] = []
    try:
        for rank in range(n or 1):
            sessions.append(LocalSession(factory, rank))  # noqa: PERF401  # what is there must be closed again
    except BaseException:
        for session in sessions:
            session.close()
        raise
    return sessions
