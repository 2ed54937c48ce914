"""Which array library an array or a backend belongs to: numpy, CuPy, or what stands in for CuPy in tests.

All code that runs on a device asks here; nothing else imports ``cupy``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError

_stand_ins: list[Any] = []  # modules that imitate CuPy, the last one is in use

MISSING = "it needs a CUDA device and CuPy: pip install 'framefold[cuda]'"


def device_namespace() -> Any:
    """Return CuPy, or the module that stands in for it at the moment.

    Raises
    ------
    UDFError
        If CuPy is not installed.
    """
    if _stand_ins:
        return _stand_ins[-1]
    try:
        import cupy  # noqa: PLC0415  # optional, heavy
    except ImportError as exc:
        raise UDFError(f'the backend "cupy" cannot be used: {exc}; {MISSING}') from exc
    return cupy


def has_device() -> bool:
    """Tell whether CuPy (or its stand-in) is there and sees a device."""
    try:
        return int(device_namespace().cuda.runtime.getDeviceCount()) > 0
    except Exception:  # noqa: BLE001  # a broken driver raises its own types: all mean "no device"
        return False


def require_device(what: str) -> None:
    """Do nothing where there is a device.

    Raises
    ------
    UDFError
        If CuPy is not installed or sees none; `what` says who asked for it.
    """
    device_namespace()
    if not has_device():
        raise UDFError(f"{what}: CuPy sees no device; {MISSING}")


def is_device(array: Any) -> bool:
    """Tell whether `array` is one of CuPy or of a stand-in."""
    if isinstance(array, np.ndarray):
        return False
    if type(array).__module__.partition(".")[0] == "cupy":
        return True
    return any(isinstance(array, module.ndarray) for module in _stand_ins)


def xp_of(*arrays: Any) -> Any:
    """Return the namespace of arrays: that of the device if one of them is there, else numpy."""
    return device_namespace() if any(is_device(a) for a in arrays) else np


def namespace(backend: str) -> Any:
    """Return the namespace that belongs to the name of a backend, such as ``"numpy"`` or ``"cupy"``."""
    return device_namespace() if backend.startswith("cupy") else np


def scipy_of(xp: Any, name: str) -> Any:
    """Return the module of SciPy (``"fft"``, ``"ndimage"``, ``"special"``) that belongs to a namespace."""
    if xp is np:
        return importlib.import_module(f"scipy.{name}")
    if any(xp is module for module in _stand_ins):
        return getattr(xp.scipy, name)
    return importlib.import_module(f"cupyx.scipy.{name}")


def to_host(array: Any) -> npt.NDArray[Any]:
    """Return the values of an array of any namespace on the host; numpy arrays as they are."""
    return array.get() if is_device(array) else np.asarray(array)


def is_out_of_memory(exc: BaseException) -> bool:
    """Tell whether an error says that the device has no memory left."""
    return isinstance(exc, MemoryError) and type(exc).__name__ == "OutOfMemoryError"


@contextmanager
def standing_in(module: Any) -> Iterator[Any]:
    """Use `module` (`framefold.testing.device`) for CuPy inside the block, in all threads of this process.

    Array code in `udfcore` and `udfs` then treats its arrays as CuPy's, and runs may ask for
    ``backends="cupy"``.
    """
    _stand_ins.append(module)
    try:
        yield module
    finally:
        _stand_ins.remove(module)
