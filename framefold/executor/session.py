"""Sessions in this process: the object lives on an event loop of its own thread."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from typing import Any


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

    def call(self, method: str, *args: Any) -> Any:
        """Run a method of the object on its loop and wait for what it returns."""

        async def run() -> Any:
            result = getattr(self._object, method)(*args)
            return await result if inspect.isawaitable(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def close(self) -> None:
        """Close the object and stop its thread."""
        if self._closed:
            return
        self._closed = True
        try:
            if hasattr(self._object, "close"):
                self.call("close")
        finally:
            self._stop_loop()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
