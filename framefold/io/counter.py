"""Counts what a source has read, from any thread."""

from __future__ import annotations

import threading

from framefold.udfcore.source import ReadStats


class ReadCounter:
    """Bytes and seconds of one source in this process."""

    def __init__(self, path: str, reason: str = "") -> None:
        self._path, self._reason = path, reason
        self._bytes, self._seconds = 0, 0.0
        self._lock = threading.Lock()

    def add(self, nbytes: int, seconds: float = 0.0) -> None:
        """Count one read."""
        with self._lock:
            self._bytes += nbytes
            self._seconds += seconds

    def stats(self) -> ReadStats:
        """Return the sums so far."""
        with self._lock:
            return ReadStats(self._bytes, self._seconds, self._path, self._reason)
