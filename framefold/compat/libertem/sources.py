"""Unmodified LiberTEM UDF files: where they are, and their text, which travels with jobs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path

from framefold.errors import CompatError

_INSIDE = {  # of a package, a site-packages folder, a checkout; else the folder itself
    "libertem.udf": ("udf", "libertem/udf", "src/libertem/udf"),
    "libertem_live.udf": ("libertem_live/udf", "src/libertem_live/udf"),
}
_OURS = frozenset({"base", "__init__"})  # the engine behind the UDFs is framefold's


@dataclass(frozen=True)
class UDFSources:
    """Texts of UDF modules by their full name, read when they are asked for.

    Attributes
    ----------
    folders
        Where to look, in this order.
    texts
        Module name -> (file name, text) of what was read so far; all that other processes need.
    """

    folders: tuple[Path, ...] = ()
    texts: dict[str, tuple[str, str]] = field(default_factory=dict)

    def find(self, module: str) -> tuple[str, str] | None:
        """Return file name and text of a module, or None."""
        if module in self.texts:
            return self.texts[module]
        package, _, name = module.rpartition(".")
        if package not in _INSIDE or name in _OURS:
            return None
        for folder in self.folders:
            path = _udf_folder(folder, package) / f"{name}.py"
            if path.is_file():
                self.texts[module] = (str(path), path.read_text(encoding="utf-8"))
                return self.texts[module]
        return None


def udf_sources(
    given: bool | str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | UDFSources | None,
) -> UDFSources:
    """Return the sources that `install` was asked to use.

    Parameters
    ----------
    given
        None: none. True: those of the installed LiberTEM. A folder, or several: the folder of the UDF
        files, a ``site-packages`` folder or a checkout.

    Raises
    ------
    CompatError
        If a folder has no UDF files, or LiberTEM is not installed.
    """
    if given is None or given is False:
        return UDFSources()
    if isinstance(given, UDFSources):
        return given
    if given is True:
        return UDFSources((installed_udfs(),))
    folders = [given] if isinstance(given, (str, os.PathLike)) else list(given)
    found = tuple(Path(f).expanduser().resolve() for f in folders)
    for folder in found:
        if not _has_udf(folder):
            raise CompatError(
                f"sources={str(folder)!r} holds no UDF files: give the folder libertem/udf of an installed "
                f"LiberTEM or of a checkout"
            )
    return UDFSources(found)


def _has_udf(folder: Path) -> bool:
    return any(any(_udf_folder(folder, package).glob("*.py")) for package in _INSIDE)


def _udf_folder(folder: Path, package: str) -> Path:
    """Return the folder of the UDF files of `package` in what the user gave."""
    inside = (folder / layout for layout in _INSIDE[package])
    return next((f for f in inside if f.is_dir()), folder)


def installed_udfs() -> Path:
    """Return the folder of the UDF files of the installed LiberTEM, without importing it."""
    spec = PathFinder.find_spec("libertem")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(place) / "udf").is_dir():
            return Path(place) / "udf"
    raise CompatError("sources=True needs an installed LiberTEM: pip install libertem, or give a folder")
