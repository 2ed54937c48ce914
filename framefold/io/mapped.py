"""A memory-mapped file that is checked before every access, since a file that shrinks kills the reader."""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError

_open: weakref.WeakValueDictionary[tuple[str, int, int], MappedFile] = weakref.WeakValueDictionary()
_lock = threading.Lock()


class MappedFile:
    """The bytes of a file, mapped read-only; made by `map_file`."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as exc:
            raise DataError(f"cannot map {path}: {exc}") from exc
        self.bytes: npt.NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)
        self._size = len(self.bytes)

    def peek(self, start: int, stop: int) -> bytes:
        """Return a few bytes."""
        return self._map[start:stop]

    def require(self, end: int, frame: int) -> None:
        """Refuse to touch bytes that the file no longer has (SIGBUS would end the process).

        Parameters
        ----------
        end
            Byte behind the last one that is wanted.
        frame
            To which it belongs.

        Raises
        ------
        DataError
            Naming file and frame.
        """
        try:
            # the size now, not at the time of mapping
            size = min(self._map.size(), self._size)
        except OSError as exc:
            raise DataError(f"{self.path} can no longer be read: {exc}") from exc
        if size < end:
            raise DataError(
                f"{self.path}: frame {frame} ends at byte {end}, the file has {size} bytes: "
                "it shrank after it was opened"
            )


def map_file(path: str) -> MappedFile:
    """Return the map of a file, shared by everything in this process that reads the same version of it.

    Raises
    ------
    DataError
        If the file cannot be opened or is empty.
    """
    try:
        status = os.stat(path)
    except OSError as exc:
        raise DataError(f"cannot open {path}: {exc.strerror or exc}") from exc
    if status.st_size == 0:
        raise DataError(f"{path} is empty")
    key = (os.path.abspath(path), status.st_ino, status.st_size)
    with _lock:
        mapped = _open.get(key)
        if mapped is None:
            mapped = _open[key] = MappedFile(path)
        return mapped


class LazyMap:
    """Opens the map of a file on first use; pickles as its path."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._mapped: MappedFile | None = None

    def get(self) -> MappedFile:
        """Return the map."""
        mapped = self._mapped
        if mapped is None:
            mapped = self._mapped = map_file(self._path)
        return mapped

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyMap, (self._path,)
