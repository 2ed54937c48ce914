"""The threads that read the connections of one detector, until each has said that it is over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from framefold.errors import FramefoldError, StreamError
from framefold.io.live.assembly import Assembly, Cancelled
from framefold.io.live.feed import Over, Reader

_STEP = 0.05


class Crew:
    """Readers of one acquisition: the first in the thread that calls `receive`, the others beside it.

    Parameters
    ----------
    readers
        Each takes some sectors.
    assembly
        Where to.
    stopped
        Whether nothing more is wanted.
    """

    def __init__(self, readers: Sequence[Reader], assembly: Assembly, stopped: Callable[[], bool]) -> None:
        self._readers = readers
        self._assembly = assembly
        self._stopped = stopped
        self._changed = threading.Condition()
        self._over: list[Over | None] = [None] * len(readers)
        self._error: Exception | None = None
        self._ended = False
        self._threads = [
            threading.Thread(target=self._run, args=(i,), name="framefold-live reader", daemon=True)
            for i in range(1, len(readers))
        ]

    def __enter__(self) -> Crew:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._ended = True
        for thread in self._threads:
            thread.join()

    def receive(self, timeout: float) -> Over | None:
        """Take what arrives within about `timeout` seconds; return why the acquisition is over, once it is.

        Raises
        ------
        StreamError
            That of any reader.
        """
        if self._over[0] is None:
            self._step(0, timeout)
        else:
            with self._changed:
                self._changed.wait_for(lambda: self._error is not None or None not in self._over, timeout)
        if self._error is not None:
            raise self._error
        said = [over for over in self._over if over is not None]
        return said[0] if len(said) == len(self._readers) else None

    def _step(self, i: int, timeout: float) -> None:
        try:
            over = self._readers[i].receive(self._assembly, timeout)
        except Cancelled:
            return
        if over is not None:
            with self._changed:
                self._over[i] = over
                self._changed.notify_all()

    def _run(self, i: int) -> None:
        try:
            while self._over[i] is None and not self._ended and not self._stopped():
                self._step(i, _STEP)
        except Exception as exc:  # noqa: BLE001  # raised by `receive`
            if not isinstance(exc, FramefoldError):
                text = f"{type(exc).__name__}: {exc}"
                exc, cause = StreamError(text), exc
                exc.__cause__ = cause
            with self._changed:
                self._error = self._error or exc
                self._changed.notify_all()
