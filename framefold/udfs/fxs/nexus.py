"""NeXus files of results: written whole or not at all, and recognised when read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from framefold.errors import DataError


@contextmanager
def written(path: str | os.PathLike[str], kind: str, *, overwrite: bool) -> Iterator[Any]:
    """Give the ``/entry`` of a new file of this kind; a broken write leaves an old file alone.

    Raises
    ------
    DataError
        If the file exists.
    """
    import h5py  # noqa: PLC0415  # takes 0.1 s to load

    target = Path(path)
    if target.exists() and not overwrite:
        raise DataError(f"{target} exists: choose another name, or pass overwrite=True")
    draft = target.with_name(target.name + ".part")
    with h5py.File(draft, "w") as file:
        file.attrs["default"] = "entry"
        entry = group(file, "entry", "NXentry", default="data", format=kind)
        entry["program_name"] = f"framefold {_version()}"
        yield entry
    draft.replace(target)


@contextmanager
def opened(path: str | os.PathLike[str], kind: str, otherwise: str) -> Iterator[Any]:
    """Give the ``/entry`` of a file of this kind.

    Raises
    ------
    DataError
        If the file is not there, or is something else; then with what `otherwise` says.
    """
    import h5py  # noqa: PLC0415  # as above

    try:
        file = h5py.File(path, "r")
    except OSError as exc:
        raise DataError(f"cannot read {path}: {exc}") from exc
    with file:
        entry = file.get("entry")
        if entry is None or entry.attrs.get("format") != kind:
            raise DataError(f"{path} {otherwise}")
        yield entry


def group(parent: Any, name: str, kind: str, **attributes: Any) -> Any:
    """Return a new group of a NeXus class."""
    made = parent.create_group(name)
    made.attrs["NX_class"] = kind
    for key, value in attributes.items():
        made.attrs[key] = value
    return made


def _version() -> str:
    try:
        return version("framefold")
    except PackageNotFoundError:
        return "unknown"
