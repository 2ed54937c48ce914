"""Ctrl-C during a live run: the first ends the acquisition and keeps what came, the second ends the run."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger("framefold")


@contextmanager
def first_ctrl_c(stop: Callable[[], Any]) -> Iterator[None]:
    """Call `stop` in a thread at the first Ctrl-C inside the block; the second one is a `KeyboardInterrupt`.

    Without effect in threads other than the main one, and where somebody else handles the signal.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def handle(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log.warning("stopping the acquisition and keeping what has arrived; Ctrl-C again to end at once")
        # in a thread: this one may hold any lock at the moment
        threading.Thread(target=stop, name="framefold-stop", daemon=True).start()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is handle:
            signal.signal(signal.SIGINT, signal.default_int_handler)
