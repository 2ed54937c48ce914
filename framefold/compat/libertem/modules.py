"""The modules that stand in for LiberTEM's: names are looked up in a table when they are used."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from framefold.compat.libertem.notprovided import NotProvided
from framefold.compat.libertem.table import TABLE


def known_modules() -> frozenset[str]:
    """Return the full names of all modules that the table has."""
    return frozenset(TABLE)


class ShimModule(ModuleType):
    """A module whose attributes come from the table, imported when they are first used."""

    def __getattr__(self, name: str) -> Any:
        module = self.__name__
        if name.startswith("__") and name not in TABLE.get(module, {}):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        target = None if self.__dict__.get("_from_source") else TABLE.get(module, {}).get(name)
        if target is None:
            return self._sub_module(name)
        place, _, attribute = target.partition(":")
        found = importlib.import_module(place)
        value = getattr(found, attribute) if attribute else found
        setattr(self, name, value)
        return value

    def _sub_module(self, name: str) -> Any:
        full = f"{self.__name__}.{name}"
        if hasattr(self, "__path__"):
            if not self.__dict__["_strict"]:
                raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
            return importlib.import_module(full)
        if self.__dict__.get("_from_source") or not self.__dict__["_strict"]:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        raise NotProvided(full)

    def __dir__(self) -> list[str]:
        return sorted({*TABLE.get(self.__name__, {}), *self.__dict__})

    def __reduce__(self) -> tuple[Any, ...]:
        from framefold.compat.libertem.install import job_flag, provide  # noqa: PLC0415  # it imports this module

        return (provide, (self.__name__, job_flag()))


def make_module(name: str, strict: bool, source: tuple[str, str] | None) -> ShimModule:
    """Return the module called `name`; with `source` its names come from that text, not from the table."""
    module = ShimModule(name, f"{name} as provided by framefold.compat.libertem.")
    vars(module).update(_strict=strict, _from_source=source is not None)
    if source is None:
        module.__all__ = [n for n in TABLE.get(name, {}) if not n.startswith("_")]  # type: ignore[attr-defined]
    return module


def loaded(name: str) -> ModuleType:
    """Return the shim module called `name`, loading it if need be."""
    importlib.import_module(name)
    return sys.modules[name]
