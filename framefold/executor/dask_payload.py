"""From a plan to what travels: a small pickle, and its large arrays in shared memory or scattered."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.executor.dask_worker import Shared

LARGE = 1024**2  # smaller arrays travel inside the pickle
KEEP = 4  # arrays kept for the next run over the same data

Bytes = npt.NDArray[np.uint8]


def dumps(obj: Any, by_value: Iterable[ModuleType] = (), buffers: list[Bytes] | None = None) -> bytes:
    """Pickle `obj`; classes of ``__main__`` and of the modules `by_value` travel with their code.

    Parameters
    ----------
    obj
        Anything.
    by_value
        Modules that workers cannot import.
    buffers
        Receives the large arrays; None: they stay inside.
    """
    import cloudpickle  # noqa: PLC0415  # comes with dask

    def large(buffer: Any) -> bool:
        raw = buffer.raw()
        if raw.nbytes < LARGE:
            return True
        assert buffers is not None
        buffers.append(np.frombuffer(raw, dtype=np.uint8))
        return False

    with ExitStack() as stack:
        for module in by_value:
            loaded = sys.modules.get(module.__name__) is module
            if loaded and module.__name__ not in cloudpickle.list_registry_pickle_by_value():
                cloudpickle.register_pickle_by_value(module)
                stack.callback(cloudpickle.unregister_pickle_by_value, module)
        if buffers is None:
            return cloudpickle.dumps(obj)
        return cloudpickle.dumps(obj, protocol=5, buffer_callback=large)


def modules_for(missing: str, objects: Iterable[Any] = ()) -> list[ModuleType]:
    """Return the user's own modules that lie in the module or package `missing`, or define `objects`.

    Installed packages are left out: workers must have them.
    """
    found = [sys.modules.get(getattr(obj, "__module__", None) or type(obj).__module__) for obj in objects]
    if missing:
        found += [
            m for name, m in list(sys.modules.items()) if name == missing or name.startswith(missing + ".")
        ]
    return [m for m in dict.fromkeys(found) if isinstance(m, ModuleType) and not _installed(m)]


def _installed(module: ModuleType) -> bool:
    paths = sysconfig.get_paths()
    file = getattr(module, "__file__", None)
    if file is None:  # built in, or a namespace package
        return module.__name__ != "__main__" and not hasattr(module, "__path__")
    installed = (paths[kind] + os.sep for kind in ("stdlib", "purelib", "platlib"))
    return os.path.abspath(file).startswith(tuple(installed))


class SharedMemory:
    """Copies of large arrays that the worker processes of this machine map.

    The memory has no name: it goes when this process ends, however it ends.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[int, Bytes, Shared]] = []

    def share(self, array: Bytes) -> Shared:
        """Return where workers find a copy of `array`; the same data are copied once."""
        address = array.__array_interface__["data"][0]
        for i, (where, copy, shared) in enumerate(self._kept):
            # compared rather than trusted: the user may have written into the array since
            if where == address and copy.size == array.size and _equal(copy, array):
                self._kept.append(self._kept.pop(i))
                return shared
        import mmap  # noqa: PLC0415

        fd = os.memfd_create("framefold")
        os.ftruncate(fd, array.size)
        copy = np.frombuffer(mmap.mmap(fd, array.size), dtype=np.uint8)
        copy[:] = array
        shared = Shared(os.getpid(), fd, array.size)
        self._kept.append((address, copy, shared))
        return shared

    def trim(self, keep: int = KEEP) -> None:
        """Drop all but the arrays used last."""
        while len(self._kept) > keep:
            os.close(self._kept.pop(0)[2].fd)


def _equal(a: Bytes, b: Bytes) -> bool:
    step = 1 << 22  # no temporary of the size of the data
    return all(np.array_equal(a[i : i + step], b[i : i + step]) for i in range(0, a.size, step))
