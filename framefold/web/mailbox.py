"""A mailbox for one reader: holds the newest item, and hands it out when the last one is confirmed."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Latest wins, one in flight.

    Whoever writes never waits; what a slow reader missed is gone, and a reader that never confirms is never
    sent anything again.

    Examples
    --------
    >>> box = Mailbox()
    >>> box.put("a")
    >>> number, item = box.take()
    >>> box.put("b"); box.put("c")
    >>> box.take() is None
    True
    >>> box.confirm(number)
    True
    >>> box.take()
    (2, 'c')
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._item: list[T] = []
        self._last: list[T] = []
        self._number = 0
        self._in_flight: int | None = None
        self.dropped = 0

    @property
    def in_flight(self) -> int | None:
        """Number of the item that the reader has not confirmed yet."""
        return self._in_flight

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._item

    def put(self, item: T) -> None:
        """Offer an item in place of what waits."""
        with self._lock:
            self.dropped += len(self._item)
            self._item = [item]

    def again(self) -> None:
        """Offer the item that was taken last once more, unless a newer one waits."""
        with self._lock:
            if not self._item:
                self._item = self._last

    def take(self) -> tuple[int, T] | None:
        """Return (number, item) if something waits and nothing is in flight."""
        with self._lock:
            if self._in_flight is not None or not self._item:
                return None
            self._number += 1
            self._in_flight = self._number
            self._last, self._item = self._item, []
            return self._number, self._last[0]

    def confirm(self, number: int) -> bool:
        """Take note that an item arrived; False for any number but the one in flight."""
        with self._lock:
            if number != self._in_flight:
                return False
            self._in_flight = None
            return True
