"""Which functions CuPy has, with the parameters that it takes: `cupy_names.txt`, read once."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

UFUNC, VALUE = "ufunc", "value"


@functools.cache
def cupy_names() -> Mapping[str, Mapping[str, str]]:
    """Return by module name of CuPy what each of its names is: ``"ufunc"``, ``"value"``, ``"(a, axis)"``."""
    text = Path(__file__).with_name("cupy_names.txt").read_text()
    modules: dict[str, dict[str, str]] = {}
    names: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("["):
            names = modules[line.strip("[]")] = {}
        elif line and not line.startswith("#"):
            name, what = line.split(" ", 1)
            names[name] = what
    return modules


def parameters(signature: str) -> tuple[str, ...]:
    """Return the parameter names of an entry such as ``"(a, axis, *args)"``, stars kept."""
    return tuple(p for p in signature.strip("()").split(", ") if p)
