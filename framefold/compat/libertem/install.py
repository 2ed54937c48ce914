"""Puts LiberTEM's module names into ``sys.modules``, and takes them away again."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from framefold.compat.libertem.modules import ShimModule, known_modules, make_module
from framefold.compat.libertem.notprovided import NotProvided
from framefold.compat.libertem.sources import UDFSources, udf_sources
from framefold.errors import CompatError

_ROOTS = ("libertem", "libertem_live")
Given = None | bool | str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | UDFSources


@dataclass
class _Installed:
    """What `uninstall` must undo."""

    finder: _Finder
    replaced: dict[str, ModuleType] = field(default_factory=dict)


_STATE: list[_Installed] = []


def install(*, sources: Given = None, override: bool = False, strict: bool = True) -> None:
    """Provide ``libertem`` and its sub-modules for import, backed by framefold's engine.

    Parameters
    ----------
    sources
        Folder with LiberTEM's own UDF files (``libertem/udf`` of an installation or a checkout), or
        several, or True for the installed LiberTEM: ``libertem.udf.NAME`` is then executed from the
        unmodified file. None: framefold's own versions of the same UDFs.
    override
        Replace a real ``libertem`` that is already imported; `uninstall` brings it back.
    strict
        True: unknown modules are an error. False: they come from the installed LiberTEM, if there is one.

    Raises
    ------
    CompatError
        If the real LiberTEM is imported already, or `sources` holds no UDF files.

    Examples
    --------
    >>> from framefold.compat.libertem import shim
    >>> with shim():
    ...     from libertem.udf import UDF
    >>> UDF.__module__
    'framefold.compat.libertem.udf'
    """
    found = udf_sources(sources)
    if _STATE:
        if _STATE[0].finder.sources.folders == found.folders and _STATE[0].finder.strict == strict:
            return
        uninstall()
    real = {k: m for k, m in sys.modules.items() if _ours(k) and not isinstance(m, ShimModule)}
    if real and not override:
        raise CompatError(
            "the real libertem is already imported: install the shim first, or use install(override=True)"
        )
    for name in real:
        del sys.modules[name]
    state = _Installed(_Finder(found, strict), real)
    sys.meta_path.insert(0, state.finder)
    _STATE.append(state)


def uninstall() -> None:
    """Take the shim's modules away and bring back what `install` replaced; nothing if not installed."""
    while _STATE:
        state = _STATE.pop()
        sys.meta_path.remove(state.finder)
        for name in [k for k, m in sys.modules.items() if isinstance(m, ShimModule)]:
            del sys.modules[name]
        if not state.finder.strict:  # parts of the real package that were loaded below the shim
            for name in [k for k in sys.modules if _ours(k)]:
                del sys.modules[name]
        sys.modules.update(state.replaced)


@contextlib.contextmanager
def shim(*, sources: Given = None, override: bool = False, strict: bool = True) -> Iterator[None]:
    """Install inside a ``with`` block; see `install` for the arguments."""
    install(sources=sources, override=override, strict=strict)
    try:
        yield
    finally:
        uninstall()


def installed() -> bool:
    """Tell whether the shim is in place."""
    return bool(_STATE)


def job_flag() -> dict[str, Any] | None:
    """Return what a job must carry so that `ensure` can install on a worker; None: not installed."""
    if not _STATE:
        return None
    finder = _STATE[0].finder
    return {"texts": dict(finder.sources.texts), "strict": finder.strict}


def ensure(flag: dict[str, Any] | None) -> None:
    """Install as on the head node, unless that is so already; called when a job is unpickled."""
    if flag is None:
        return
    if _STATE:
        _STATE[0].finder.sources.texts.update(flag["texts"])
        return
    install(sources=UDFSources((), dict(flag["texts"])), override=True, strict=flag["strict"])


def provide(name: str, flag: dict[str, Any]) -> ModuleType:
    """Import a shim module by name where it was unpickled."""
    ensure(flag)
    __import__(name)
    return sys.modules[name]


def _ours(name: str) -> bool:
    return name.split(".", 1)[0] in _ROOTS


class _Finder(MetaPathFinder, Loader):
    """Finds and makes the shim's modules."""

    def __init__(self, sources: UDFSources, strict: bool) -> None:
        self.sources = sources
        self.strict = strict

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "sparseconverter":
            if PathFinder.find_spec(fullname) is not None:
                return None
        elif not _ours(fullname):
            return None
        package = any(m.startswith(f"{fullname}.") for m in known_modules())
        if fullname in known_modules() or package or self.sources.find(fullname):
            return ModuleSpec(fullname, self, origin="framefold.compat.libertem", is_package=package)
        if self.strict:
            raise NotProvided(fullname)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return make_module(spec.name, self.strict, self.sources.find(spec.name))

    def exec_module(self, module: ModuleType) -> None:
        found = self.sources.find(module.__name__)
        if not self.strict and module.__name__ in _ROOTS:
            real = PathFinder.find_spec(module.__name__)
            module.__path__ = list(real.submodule_search_locations or ()) if real else []
        elif not self.strict and hasattr(module, "__path__"):
            parent = sys.modules[module.__name__.rpartition(".")[0]]
            module.__path__ = [os.path.join(p, module.__name__.rpartition(".")[2]) for p in parent.__path__]
        if found is not None:
            name, text = found
            module.__file__ = name
            exec(compile(text, name, "exec", dont_inherit=True), vars(module))  # noqa: S102  # the user's own files
