"""A sink that writes frames to a new file, and lets it appear when it is complete."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.rectangles import rectangles
from framefold.io.save import move_into_place, remove, temporary_name
from framefold.udfcore.shapes import Shape


class Store(Protocol):
    """A file of one format while it is written."""

    def put(self, where: tuple[slice, ...], frames: npt.NDArray[Any]) -> None:
        """Store a box of frames; `where` selects it on the navigation axes."""
        ...

    def finish(self, written: npt.NDArray[np.bool_]) -> None:
        """Mark frames that were not `written` (navigation shape), and close the file."""
        ...

    def drop(self) -> None:
        """Close the file, which is then removed."""
        ...


class FileSink:
    """A `Sink` into a new file.

    Use it in a ``with`` statement: an error inside leaves nothing behind.

    Attributes
    ----------
    written
        Bool per frame (flat navigation index).
    """

    def __init__(
        self,
        target: Path,
        shape: Shape,
        dtype: np.dtype[Any],
        open_store: Callable[[Path], Store],
        *,
        overwrite: bool,
    ) -> None:
        self._target, self._shape, self._dtype, self._overwrite = target, shape, dtype, overwrite
        self.written = np.zeros(shape.nav.size, bool)
        self._temporary = temporary_name(target)
        self._lock = threading.Lock()
        try:
            self._store: Store | None = open_store(self._temporary)
        except BaseException as exc:
            remove(self._temporary)
            if isinstance(exc, (OSError, RuntimeError)):
                raise DataError(f"{target} could not be written: {exc}") from exc
            raise

    def write(self, start: int, frames: npt.NDArray[Any]) -> None:
        """Take `frames`, shape ``(n, *sig)``, as frames ``start .. start + n`` (flat navigation index)."""
        n, sig = len(frames), tuple(self._shape.sig)
        if frames.shape[1:] != sig or not 0 <= start <= start + n <= len(self.written):
            raise DataError(
                f"{self._target} holds {len(self.written)} frames of shape {sig}, "
                f"got frames {start}:{start + n} of shape {frames.shape[1:]}"
            )
        if not np.can_cast(frames.dtype, self._dtype, "same_kind"):
            raise DataError(f"{self._target} holds {self._dtype}, got frames of {frames.dtype}")
        with self._lock:
            if self._store is None:
                raise DataError(f"{self._target} is closed")
            done = 0
            try:
                for where in rectangles(start, start + n, tuple(self._shape.nav)):
                    extent = [s.stop - s.start for s in where]
                    count = math.prod(extent)
                    self._store.put(where, frames[done : done + count].reshape((*extent, *sig)))
                    done += count
            except (OSError, RuntimeError) as exc:
                raise DataError(f"{self._target} could not be written: {exc}") from exc
            self.written[start : start + n] = True

    def close(self) -> None:
        """Finish, and let the file appear under its name."""
        with self._lock:
            store, self._store = self._store, None
            if store is None:
                return
            try:
                store.finish(self.written.reshape(tuple(self._shape.nav)))
                move_into_place(self._temporary, self._target, overwrite=self._overwrite)
            except (OSError, RuntimeError) as exc:
                raise DataError(f"{self._target} could not be written: {exc}") from exc
            finally:
                remove(self._temporary)

    def abort(self) -> None:
        """Drop everything that was written."""
        with self._lock:
            store, self._store = self._store, None
            if store is not None:
                store.drop()
                remove(self._temporary)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()
