"""The thread in which an emulated detector sends: begun once, waited for, stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from framefold.errors import StreamError


class Sending:
    """What an emulator sends in the background.

    Attributes
    ----------
    stopped
        Set when sending shall end.
    seconds
        How long it took.
    """

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.seconds = 0.0
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def begin(self, work: Callable[[], None]) -> None:
        """Call `work` in a thread of its own.

        Raises
        ------
        StreamError
            If it has begun already.
        """
        if self._thread is not None:
            raise StreamError("the emulator has begun already")
        self._thread = threading.Thread(
            target=self._run, args=(work,), name="framefold-emulator", daemon=True
        )
        self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything is sent; return whether it is.

        Raises
        ------
        StreamError
            If sending failed.
        """
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                return False
        if self._error is not None:
            raise StreamError(f"the emulator failed: {self._error}") from self._error
        return True

    def end(self) -> None:
        """Stop sending, and wait until it has stopped."""
        self.stopped.set()
        if self._thread is not None:
            self._thread.join()

    def restart_clock(self) -> None:
        """Count `seconds` from now on: what went before was preparation."""
        self._began = time.perf_counter()

    def _run(self, work: Callable[[], None]) -> None:
        self.restart_clock()
        try:
            work()
        except BaseException as exc:  # noqa: BLE001  # raised by `wait`
            self._error = exc
        self.seconds = time.perf_counter() - self._began
