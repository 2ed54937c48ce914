"""Snapshots of a run as its user wants them: one a merge, the newest now and then, or the last."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from framefold.executor.drive import Run
from framefold.executor.interrupt import first_ctrl_c
from framefold.udfcore.results import Snapshot

LIVE_POLL = 3600.0  # nobody looks at the snapshots in between
IDLE_SECONDS = 0.1
SIGNAL_SECONDS = 0.5  # a thread that waits without a limit does not always hear of signals


def by_merge(run: Run) -> Iterator[Snapshot]:
    """Yield a snapshot per merge; the consumer sets the pace. The last one is final."""
    final = False
    for _ in run.partials():
        final = run.complete
        yield run.snapshot(final=final)
    if not final:
        yield run.snapshot(final=True)


def latest(run: Run, interval: float, idle: Callable[[], None] | None = None) -> Iterator[Snapshot]:
    """Merge in a thread of its own and yield the newest snapshot at most every `interval` seconds.

    A slow consumer misses snapshots but delays nothing; the first and the final one always come. `idle` is
    called in the consumer's thread while it waits, `IDLE_SECONDS` apart.
    """
    pause = SIGNAL_SECONDS if idle is None else IDLE_SECONDS
    changed = threading.Condition()
    state: dict[str, Any] = {"done": False, "error": None}

    def merge() -> None:
        try:
            for _ in run.partials():
                with changed:
                    changed.notify_all()
        except BaseException as exc:  # noqa: BLE001  # raised again in the consumer's thread
            state["error"] = exc
        finally:
            with changed:
                state["done"] = True
                changed.notify_all()

    thread = threading.Thread(target=merge, name="framefold-merger", daemon=True)
    seen = 0
    guard = contextlib.ExitStack()
    if run.live is not None:  # from before the first frame on
        guard.enter_context(first_ctrl_c(run.stop))
    thread.start()
    try:
        while True:
            with changed:
                while not state["done"] and run.merger.version == seen:
                    changed.wait(pause)
                    _unlocked(changed, idle)
            if state["done"]:
                break
            seen = run.merger.version
            yield run.snapshot(final=False)
            with changed:
                until = time.monotonic() + interval
                while not state["done"] and (left := until - time.monotonic()) > 0:
                    changed.wait(min(left, pause))
                    _unlocked(changed, idle)
    finally:
        if not state["done"]:
            run.cancel()
        thread.join()
        guard.close()
    if state["error"] is not None:
        raise state["error"]
    yield run.snapshot(final=True)


def _unlocked(changed: threading.Condition, idle: Callable[[], None] | None) -> None:
    if idle is not None:
        changed.release()  # the merger must not wait for a window
        try:
            idle()
        finally:
            changed.acquire()


def by_window(run: Run) -> Iterator[Snapshot]:
    """Yield a snapshot per window of a run that starts anew every N frames, none left out.

    The consumer sets the pace. The last snapshot is final: what came after the last whole window.
    """
    windows, lock = run.merger.windows, run.merger.lock
    assert windows is not None

    def finished() -> Iterator[Snapshot]:
        while True:
            with lock:
                if not windows.take():
                    return
                snapshot = run.snapshot(final=False)
            yield snapshot

    windows.show_in_turn()
    with first_ctrl_c(run.stop):
        for _ in run.partials():
            yield from finished()
    windows.end()
    yield from finished()
    windows.rest()
    yield run.snapshot(final=True)


def to_end(run: Run) -> Snapshot:
    """Merge everything and return the final snapshot."""
    if run.live is not None:  # merged in a thread of its own: this one waits for Ctrl-C
        (final,) = deque(latest(run, LIVE_POLL), maxlen=1)  # the others are let go
        return final
    for _ in run.partials():
        pass
    return run.snapshot(final=True)
