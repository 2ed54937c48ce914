"""Parameters on their way from a page to the run: while one change is under way, only the newest waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from framefold.web.hub import Hub


class Changes:
    """Sends changed parameters, in the event loop; `done` hears of each round, with the error or ""."""

    def __init__(self, hub: Hub, loop: asyncio.AbstractEventLoop, done: Callable[[str], None]) -> None:
        self._hub = hub
        self._loop = loop
        self._done = done
        self._patches: dict[int, dict[str, Any]] = {}
        self._task: asyncio.Task[None] | None = None  # kept: the loop itself holds tasks weakly

    def put(self, index: int, patch: dict[str, Any]) -> None:
        """Send new values of parameters of the UDF number `index`."""
        waiting = bool(self._patches)
        self._patches.setdefault(index, {}).update(patch)
        if not waiting:
            self._task = self._loop.create_task(self._send())

    async def _send(self) -> None:
        while self._patches:
            patches, error = dict(self._patches), ""
            for index, patch in patches.items():
                try:
                    assert self._hub.control is not None
                    await self._loop.run_in_executor(None, self._hub.control.change, index, dict(patch))
                except Exception as exc:  # noqa: BLE001  # shown to the user, who typed it
                    error = f"{type(exc).__name__}: {exc}"
                if self._patches[index] == patch:
                    del self._patches[index]
            self._done(error)
