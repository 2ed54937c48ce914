"""Memory for blocks that several processes share, and that nothing of is left behind, whoever dies.

A file in ``/dev/shm`` that loses its name as soon as it is open: child processes inherit the descriptor.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError

SHM = "/dev/shm"  # the memory file system of Linux
ALIGN = 4096
GUARD = 64
_GUARD_BYTE = 0xA5


def aligned(n: int, to: int = ALIGN) -> int:
    """Return `n` rounded up to a multiple of `to`."""
    return -(-n // to) * to


def default_ring_bytes() -> int:
    """Return the smaller of 2 GiB and a quarter of the memory of this machine."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # not on this system
        memory = 8 << 30
    return int(min(2 << 30, memory // 4))


def _memory_file(nbytes: int) -> int:
    """Return the descriptor of a nameless file of `nbytes` with its pages reserved."""
    if os.path.isdir(SHM) and os.access(SHM, os.W_OK):
        room = os.statvfs(SHM)
        free = room.f_bavail * room.f_frsize
        if free > nbytes:
            with contextlib.suppress(OSError):
                return _nameless(SHM, nbytes)
        where = tempfile.gettempdir()
        warnings.warn(
            f"{SHM} has {free >> 20} MiB free, a live source needs {nbytes >> 20} MiB: its ring goes to a "
            f"file in {where}, which is slower. Enlarge {SHM} (docker run --shm-size=4g), or set ring_bytes=",
            stacklevel=3,
        )
    try:
        return _nameless(tempfile.gettempdir(), nbytes)
    except OSError as exc:
        raise StreamError(
            f"no room for a ring of {nbytes >> 20} MiB in {tempfile.gettempdir()}: {exc}. Set ring_bytes="
        ) from exc


def _nameless(folder: str, nbytes: int) -> int:
    fd, path = tempfile.mkstemp(prefix="framefold-ring-", dir=folder)
    try:
        os.unlink(path)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, nbytes)  # a full memory file system is an error here, not a crash later
        else:
            os.ftruncate(fd, nbytes)
    except OSError:
        os.close(fd)
        raise
    return fd


class Ring:
    """Named arrays and the slots of a ring in one piece of shared memory.

    Parameters
    ----------
    arrays
        Name -> shape, dtype: small arrays in front of the slots, zero at first.
    slots
        Number of slots.
    slot_bytes
        Bytes of a slot. A guard of 64 bytes stands behind each.
    fd
        Descriptor of the memory of another process; None: make it.
    """

    def __init__(
        self,
        arrays: dict[str, tuple[tuple[int, ...], Any]],
        slots: int,
        slot_bytes: int,
        fd: int | None = None,
    ) -> None:
        at = 0
        where: dict[str, int] = {}
        for name, (shape, kind) in arrays.items():
            where[name] = at
            at = aligned(at + int(np.prod(shape)) * np.dtype(kind).itemsize, 64)
        first, stride = aligned(at), aligned(slot_bytes + GUARD)
        # one more, which is never filled: what stands for a block that was lost altogether
        self.nbytes = first + stride * (slots + 1)
        self.fd = _memory_file(self.nbytes) if fd is None else fd
        # every process has page tables of its own: filled now, not when the first packets arrive
        populate = getattr(mmap, "MAP_POPULATE", 0)
        self._map = mmap.mmap(self.fd, self.nbytes, flags=mmap.MAP_SHARED | populate)
        self.memory: npt.NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)
        self.arrays = {
            name: np.frombuffer(self._map, kind, int(np.prod(shape)), where[name]).reshape(shape)
            for name, (shape, kind) in arrays.items()
        }
        self.starts = first + stride * np.arange(slots + 1, dtype=np.int64)
        self.slot_bytes = slot_bytes
        if fd is None:
            if not populate:
                self.memory[first:] = 0
            for start in self.starts:
                self._guard(int(start))[:] = _GUARD_BYTE

    def _guard(self, start: int) -> npt.NDArray[np.uint8]:
        return self.memory[start + self.slot_bytes :][:GUARD]

    def slot(self, index: int) -> npt.NDArray[np.uint8]:
        """Return the bytes of a slot; -1: the one that is never filled."""
        start = int(self.starts[index])
        return self.memory[start : start + self.slot_bytes]

    def intact(self) -> bool:
        """Return whether nothing was written behind the slots."""
        return all(bool((self._guard(int(s)) == _GUARD_BYTE).all()) for s in self.starts)

    def close(self) -> None:
        """Give the memory back; views that users still hold keep it alive until they are gone."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        self.arrays = {}
        self.memory = np.empty(0, np.uint8)
        with contextlib.suppress(BufferError):  # somebody has a view: it is unmapped with the last one
            self._map.close()
