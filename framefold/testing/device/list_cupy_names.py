"""Write `cupy_names.txt`: what CuPy has of NumPy and SciPy, read from the CuPy that is installed.

Run ``python -m framefold.testing.device.list_cupy_names`` where CuPy is installed; no device is needed.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("cupy_names.txt")
SCIPY = ("fft", "ndimage", "special")
MODULES = {
    "cupy": "numpy",
    "cupy.fft": "numpy.fft",
    "cupy.linalg": "numpy.linalg",
    **{f"cupyx.scipy.{name}": f"scipy.{name}" for name in SCIPY},
}


def names_of(theirs: Any, ours: Any, ufunc: type) -> dict[str, str]:
    """Return what each public name of both modules is: a ufunc, a value, or its parameters."""
    found = {}
    for name in sorted(dir(theirs)):
        if name.startswith("_") or not hasattr(ours, name):
            continue
        thing = getattr(theirs, name)
        if inspect.ismodule(thing):
            continue
        if isinstance(thing, ufunc):
            found[name] = "ufunc"
        elif inspect.isclass(thing) or not callable(thing):
            found[name] = "value"
        else:
            found[name] = _parameters(thing)
    return found


def _parameters(function: Any) -> str:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return "(*args, **kwargs)"
    stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return f"({', '.join(stars.get(p.kind, '') + p.name for p in parameters)})"


def main() -> None:
    """Write the table."""
    import cupy  # noqa: PLC0415  # optional, heavy

    lines = [f"# What CuPy {cupy.__version__} has of NumPy and SciPy; made by list_cupy_names.py"]
    for theirs, ours in MODULES.items():
        lines.append(f"[{theirs}]")
        names = names_of(importlib.import_module(theirs), importlib.import_module(ours), cupy.ufunc)
        lines += [f"{name} {what}" for name, what in names.items()]
    TABLE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
