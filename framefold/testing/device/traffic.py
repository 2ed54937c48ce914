"""Counts what crosses between host and device, and how often the host waits for the device."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Traffic:
    """What happened on the stand-in since the start or since `Traffic.reset`.

    Attributes
    ----------
    to_device, to_host
        Arrays copied in each direction.
    bytes_to_device, bytes_to_host
        Their sizes.
    syncs
        How often the host had to wait for a value: ``float(x)``, ``if x:``, shapes that depend on values.
        Copies to the host are not counted again here.
    limit
        Bytes that one new array may have; None: any.
    """

    to_device: int = 0
    to_host: int = 0
    bytes_to_device: int = 0
    bytes_to_host: int = 0
    syncs: int = 0
    limit: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def reset(self) -> None:
        """Count from zero."""
        with self._lock:
            self.to_device = self.to_host = self.bytes_to_device = self.bytes_to_host = self.syncs = 0

    def copied_in(self, nbytes: int) -> None:
        """Count an array that was copied to the device."""
        with self._lock:
            self.to_device += 1
            self.bytes_to_device += nbytes

    def copied_out(self, nbytes: int) -> None:
        """Count an array that was copied to the host."""
        with self._lock:
            self.to_host += 1
            self.bytes_to_host += nbytes

    def waited(self) -> None:
        """Count a synchronisation."""
        with self._lock:
            self.syncs += 1

    @property
    def total(self) -> int:
        """Copies in both directions and synchronisations."""
        return self.to_device + self.to_host + self.syncs

    @contextmanager
    def none_allowed(self) -> Iterator[None]:
        """Fail at the end of the block if anything crossed or the host waited.

        Raises
        ------
        AssertionError
            With the counts.
        """
        before = (self.to_device, self.to_host, self.syncs)
        yield
        after = (self.to_device, self.to_host, self.syncs)
        counts = tuple(b - a for a, b in zip(before, after, strict=True))
        assert counts == (0, 0, 0), (
            f"{counts[0]} copies to the device, {counts[1]} to the host, {counts[2]} synchronisations"
        )

    @contextmanager
    def limited(self, nbytes: int) -> Iterator[None]:
        """Let arrays of more than `nbytes` fail as on a device whose memory is full."""
        before, self.limit = self.limit, nbytes
        try:
            yield
        finally:
            self.limit = before


traffic = Traffic()


class OutOfMemoryError(MemoryError):
    """What CuPy raises when the device has no memory left."""


def check_memory(array: Any) -> None:
    """Raise where a new array would not fit.

    Raises
    ------
    OutOfMemoryError
        If the array is larger than ``traffic.limit``.
    """
    if traffic.limit is not None and array.base is None and array.nbytes > traffic.limit:
        raise OutOfMemoryError(
            f"Out of memory allocating {array.nbytes:,} bytes (allocated so far: 0 bytes, limit set to: "
            f"{traffic.limit:,} bytes)."
        )
