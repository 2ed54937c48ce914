"""What user code prints on workers of a foreign cluster appears on the head, with the worker's name."""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LINES_PER_SECOND = 100
PIPED = "FRAMEFOLD_PIPED"  # set in workers whose output the head reads from pipes

_task = threading.local()


@contextmanager
def speaking(worker: str) -> Iterator[None]:
    """Send what this thread prints to the head; what other threads print goes where it went before."""
    if PIPED in os.environ:
        yield
        return
    for name in ("stdout", "stderr"):
        if not isinstance(getattr(sys, name), Forwarding):
            setattr(sys, name, Forwarding(getattr(sys, name), name))
    _task.worker = worker
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, Forwarding):
                stream.finish()
        _task.worker = None


class Forwarding(io.TextIOBase):
    """Stands for ``sys.stdout`` or ``sys.stderr`` of a worker."""

    def __init__(self, stream: Any, name: str) -> None:
        self._stream = stream
        self._name = name
        self._lock = threading.Lock()
        self._second = 0
        self._count = 0

    def write(self, text: str) -> int:
        """Send full lines; the rest waits for its end."""
        if getattr(_task, "worker", None) is None:
            return int(self._stream.write(text))
        rests = vars(_task).setdefault("rests", {})
        *lines, rests[self._name] = (rests.get(self._name, "") + text).split("\n")
        for line in lines:
            self._send(line)
        return len(text)

    def finish(self) -> None:
        """Send a line without an end."""
        rest = vars(_task).get("rests", {}).pop(self._name, "")
        if rest:
            self._send(rest)

    def flush(self) -> None:
        """Flush what is not sent to the head."""
        self._stream.flush()

    def _send(self, line: str) -> None:
        import distributed  # noqa: PLC0415  # here only on workers

        with self._lock:
            second = int(time.monotonic())
            dropped = self._count - LINES_PER_SECOND if second != self._second else 0
            if second != self._second:
                self._second, self._count = second, 0
            self._count += 1
            count = self._count
        if dropped > 0:
            line = f"({dropped} lines more)\n[worker {_task.worker}] {line}"
        if count <= LINES_PER_SECOND:
            distributed.get_worker().log_event(
                "print",
                {
                    "args": (f"[worker {_task.worker}] {line}",),
                    "sep": None,
                    "end": None,
                    "file": 2 if self._name == "stderr" else 1,
                    "flush": True,
                },
            )
