"""A stand-in for CuPy: numpy behind an array class that is as strict as ``cupy.ndarray``.

For tests of device code on machines without a device. What the stand-in refuses, CuPy refuses too:
implicit conversion to numpy, numpy arrays beside device arrays, functions and parameters that CuPy does not
have (`cupy_names.txt`, read from CuPy itself), arrays where it wants Python numbers. It also refuses to write
several values to one element, which CuPy does in an order that nobody knows. `traffic` counts what crosses
between host and device. It says nothing about speed, device memory or rounding.

Examples
--------
>>> from framefold.testing import device as xp
>>> x = xp.asarray([3.0, 4.0])
>>> float(xp.sqrt((x * x).sum()))
5.0
>>> import numpy as np
>>> np.asarray(x)
Traceback (most recent call last):
...
TypeError: Implicit conversion to a NumPy array is not allowed. ...
"""

from __future__ import annotations

from typing import Any

import numpy as np

from framefold.testing.device.array import ndarray
from framefold.testing.device.functions import lookup
from framefold.testing.device.modules import cuda, fft, linalg, random, scipy
from framefold.testing.device.traffic import Traffic, traffic


def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None) -> np.ndarray[Any, Any]:
    """Return the values on the host, counted as a transfer; numpy arrays as they are."""
    return a.get(stream, order, out) if isinstance(a, ndarray) else np.asarray(a)


def get_array_module(*args: Any) -> Any:
    """Return this module if one of the arguments is a device array, else numpy."""
    import framefold.testing.device as xp  # noqa: PLC0415  # this module itself

    return xp if any(isinstance(a, ndarray) for a in args) else np


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return lookup("cupy", np, name)


__all__ = [
    "Traffic",
    "asnumpy",
    "cuda",
    "fft",
    "get_array_module",
    "linalg",
    "ndarray",
    "random",
    "scipy",
    "traffic",
]
