"""A bounded number of equal pieces of memory, lent and given back: the backpressure of a stream."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

MIN_SLOTS = 4
SLOT_LIMIT = 8 * 2**20  # some blocks stay in the last-level cache, and little memory is touched anew
_ALIGN = 64


class Slots:
    """Memory for blocks: at least `MIN_SLOTS`, in all about `total` bytes, touched when first used.

    Parameters
    ----------
    frame_bytes
        Of one frame, over all sectors of the stream.
    total
        Bytes for all slots.
    sectors
        Arrays in a slot; each begins on a cache line.

    Attributes
    ----------
    changed
        Notified when a slot is given back; its lock may be held when one is asked for, a wait lets it go.
    """

    def __init__(self, frame_bytes: int, total: int, sectors: int = 1) -> None:
        frame_bytes = max(frame_bytes, 1)
        self.frames = max(1, min(SLOT_LIMIT, total // MIN_SLOTS) // frame_bytes)
        self._bytes = self.frames * frame_bytes + _ALIGN * (sectors + 1)
        self.count = max(MIN_SLOTS, total // self._bytes)
        self._free: list[npt.NDArray[np.uint8]] = []
        self._made = 0
        self._forgotten: set[int] = set()
        self.changed = threading.Condition()

    @property
    def fill(self) -> float:
        """Share of the slots that are in use."""
        return (self._made - len(self._free)) / self.count

    def take(self, cancelled: Callable[[], bool]) -> npt.NDArray[np.uint8] | None:
        """Return a slot, waiting until there is one; None once `cancelled`."""
        with self.changed:
            while not self._free and self._made >= self.count:
                if cancelled():
                    return None
                self.changed.wait(0.05)
            if self._free:
                return self._free.pop()  # the last one given back is still in the caches
            self._made += 1
        return np.empty(self._bytes, np.uint8)

    def give_back(self, slot: npt.NDArray[np.uint8]) -> None:
        """Let `slot` be filled again."""
        with self.changed:
            if id(slot) in self._forgotten:
                self._forgotten.discard(id(slot))
                self._made -= 1
            else:
                self._free.append(slot)
            self.changed.notify_all()

    def forget(self, slot: npt.NDArray[np.uint8]) -> None:
        """Let `slot` go when it is given back: somebody may still write to it."""
        with self.changed:
            self._forgotten.add(id(slot))


def carve(
    slot: npt.NDArray[np.uint8], shapes: list[tuple[int, ...]], dtype: np.dtype[np.generic]
) -> tuple[npt.NDArray[np.generic], ...]:
    """Return arrays of these shapes in the memory of `slot`, one behind the other on cache lines."""
    at = -slot.ctypes.data % _ALIGN
    arrays = []
    for shape in shapes:
        array: npt.NDArray[np.generic] = np.ndarray(shape, dtype, slot, offset=at)
        arrays.append(array)
        at += -(-array.nbytes // _ALIGN) * _ALIGN
    return tuple(arrays)
