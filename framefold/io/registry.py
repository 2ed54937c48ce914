"""Knows all file formats, and opens whatever it is given with the one that fits."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from framefold.errors import DataError, did_you_mean
from framefold.io.array_objects import array_opener
from framefold.io.format import Format
from framefold.io.stated import arguments_of, call_opener, check_stated
from framefold.udfcore.live import LiveSource
from framefold.udfcore.source import Source

HEAD_BYTES = 8192

# each has a FORMAT; imported on first use
_MODULES = (
    "npy",
    "mib",
    "blo",
    "mrc",
    "tiff",
    "fabio_series",
    "empad",
    "seq",
    "tvips",
    "frms6",
    "ser",
    "dm4",
    "k2is",
    "hdf5",
    "euxfel",
    "zarr",
    "raw",
)
_registered: dict[str, Format] = {}


def register_format(fmt: Format, *, replace: bool = False) -> None:
    """Add a format for this process. Packages use the entry point group ``framefold.formats`` instead.

    Parameters
    ----------
    fmt
        The format.
    replace
        Take the place of a format of the same name.

    Raises
    ------
    DataError
        If the name is taken.
    """
    if not replace and fmt.name in formats():
        raise DataError(f"a format named {fmt.name!r} exists: choose another name, or replace=True")
    _registered[fmt.name] = fmt


def formats() -> Mapping[str, Format]:
    """Return all formats by name: built in, of plug-ins, registered."""
    return {**_built_in(), **_plug_ins(), **_registered}


def get_format(name: str) -> Format:
    """Return a format by its name.

    Raises
    ------
    DataError
        Listing the names.
    """
    known = formats()
    if name not in known:
        raise DataError(
            f"unknown format {name!r}.{did_you_mean(name, known)} Formats: {', '.join(sorted(known))}"
        )
    return known[name]


@functools.cache
def _built_in() -> Mapping[str, Format]:
    loaded = (importlib.import_module(f"framefold.io.{m}").FORMAT for m in _MODULES)
    return {f.name: f for f in loaded}


@functools.cache
def _plug_ins() -> Mapping[str, Format]:
    """Load the entry points once; a broken plug-in is reported and skipped."""
    found: dict[str, Format] = {}
    for point in importlib.metadata.entry_points(group="framefold.formats"):
        try:
            fmt = point.load()
        except Exception as exc:  # noqa: BLE001  # a broken plug-in must not break the others
            warnings.warn(f"format plug-in {point.name} ({point.value}) does not load: {exc!r}", stacklevel=2)
            continue
        if isinstance(fmt, Format):
            found[fmt.name] = fmt
        else:
            warnings.warn(f"format plug-in {point.name} ({point.value}) is not a Format", stacklevel=2)
    return found


def detect(path: str) -> Format:
    """Return the format of a file or directory by its content.

    Raises
    ------
    DataError
        If none or several fit: lists every format that was tried, and why it does not.
    """
    directory = os.path.isdir(path)
    head = b"" if directory else read_head(path)
    asked = {f.name: f.sniff(path, head) for f in formats().values() if f.directory == directory}
    fits = [get_format(name) for name, reason in asked.items() if reason is None]
    if len(fits) > 1:
        ending = os.path.splitext(path)[1].lower()
        fits = [f for f in fits if ending in f.extensions] or fits
    if len(fits) == 1:
        return fits[0]
    if fits:
        names = ", ".join(repr(f.name) for f in fits)
        raise DataError(f"{path} fits several formats: {names}. Choose one with format=")
    tried = "\n".join(f"  {name}: {reason}" for name, reason in asked.items())
    what = "directory" if directory else "file"
    raise DataError(
        f"{path}: no format fits this {what}. Tried\n{tried}\n"
        "Name one with format=, or describe a raw file with nav_shape=, sig_shape= and dtype="
    )


def read_head(path: str) -> bytes:
    """Return the first bytes of a file.

    Raises
    ------
    DataError
        If it cannot be opened.
    """
    try:
        with open(path, "rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as exc:
        raise DataError(f"cannot open {path}: {exc.strerror or exc}") from exc


def open_source(
    source: Any,
    *,
    format: str | None = None,  # noqa: A002  # the word of the field
    nav_shape: tuple[int, ...] | None = None,
    sig_shape: tuple[int, ...] | None = None,
    dtype: npt.DTypeLike | None = None,
    key: str | None = None,
    strict: bool = False,
    sync_offset: int = 0,
    **options: Any,
) -> Source | LiveSource:
    """Open a file, directory, glob, list of files, or array.

    Parameters
    ----------
    source
        Path; list or glob of the files of a series; directory; numpy, scipy or pydata sparse, dask, zarr
        or h5py array; URL of a live source; or a `Source`, which is returned.
    format
        Name of a format; None: by content.
    nav_shape
        Handed to formats that need it (raw); the scan shape itself is the business of `Dataset`.
    sig_shape, dtype
        Describe raw files; elsewhere they must agree with what the file states.
    key
        Which array inside the file.
    strict
        Damage that would be survived with a warning, such as a truncated last frame, is an error.
    sync_offset
        Handed to live sources; elsewhere it is the business of `Dataset`.
    **options
        Options of the format; ``sig_dims=`` for arrays (default: the last two axes are signal).

    Raises
    ------
    DataError
        If nothing fits, a name of an option is wrong, or the data are damaged.
    """
    given = {"nav_shape": nav_shape, "sig_shape": sig_shape, "dtype": dtype, "key": key, "strict": strict}
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        if _is_url(path):
            return _open_url(path, {**given, "sync_offset": sync_offset or None}, options)
        return _open_path(path, format, given, options)
    if (
        isinstance(source, (list, tuple))
        and source
        and all(isinstance(s, (str, os.PathLike)) for s in source)
    ):
        return _open_series([os.fspath(s) for s in source], format, given, options, listed=True)
    if format is not None:
        raise DataError(f"format={format!r} applies to files, the source is a {type(source).__name__}")
    if isinstance(source, LiveSource) and not isinstance(source, Source):
        if options:
            raise DataError(f"{source.url} is made already: give {', '.join(options)} where it is made")
        return source
    opener = array_opener(source)
    if opener is not None:
        return call_opener("array", opener, source, given, options)
    if isinstance(source, Source):
        return call_opener("source", _as_it_is, source, given, options)
    raise DataError(
        f"cannot load a {type(source).__name__}: give a path, "
        "a numpy, sparse, dask, zarr or h5py array, or a Source"
    )


def _open_path(path: str, name: str | None, given: Mapping[str, Any], options: Mapping[str, Any]) -> Source:
    path = os.path.expanduser(path)
    if not os.path.exists(path):
        from framefold.io.series import find_files  # noqa: PLC0415  # needs this module

        return _open_series(find_files(path), name, given, options)
    if name is None and os.path.isdir(path) and not _is_dataset(path):
        from framefold.io.series import find_files  # noqa: PLC0415  # needs this module

        return _open_series(find_files(path), name, given, options)
    fmt = _format_of(path, name, given)
    if os.path.isdir(path) and not fmt.directory:
        from framefold.io.series import find_files  # noqa: PLC0415  # needs this module

        return _open_series(find_files(path), name, given, options)
    return call_opener(f"format {fmt.name!r}", fmt.open, path, given, options)


def _format_of(path: str, name: str | None, given: Mapping[str, Any]) -> Format:
    if name is not None:
        return get_format(name)
    if given["sig_shape"] is None or given["dtype"] is None:
        return detect(path)
    try:
        return detect(path)
    except DataError:
        # sig_shape and dtype describe a file without a signature
        return get_format("raw")


def _is_dataset(path: str) -> bool:
    return any(f.directory and f.sniff(path, b"") is None for f in formats().values())


def _open_series(
    paths: list[str],
    name: str | None,
    given: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    listed: bool = False,
) -> Source:
    from framefold.io.series import open_series  # noqa: PLC0415  # needs this module

    fmt = _format_of(paths[0], name, given)
    if fmt.gathers:
        return call_opener(f"format {fmt.name!r}", fmt.open, paths[0], given, options)
    # a shape of the scan says nothing about a single file
    one = {**given, "nav_shape": None}
    call = arguments_of(f"format {fmt.name!r}", fmt.open, one, options)
    source = open_series(paths, functools.partial(fmt.open, **call), fmt.name, listed=listed)
    check_stated(f"format {fmt.name!r}", fmt.open, source, one)
    return source


def _is_url(path: str) -> bool:
    return "://" in path and not os.path.exists(path)


def _open_url(url: str, given: Mapping[str, Any], options: Mapping[str, Any]) -> Source | LiveSource:
    scheme, _, rest = url.partition("://")
    if scheme == "file":
        return _open_path(rest, None, {k: v for k, v in given.items() if k != "sync_offset"}, options)
    from framefold.io.live.registry import open_url  # noqa: PLC0415  # only for live sources

    taken = {k: v for k, v in given.items() if v is not None and k != "strict"}
    return open_url(url, **taken, **options)  # checks its options itself


def _as_it_is(source: Source) -> Source:
    return source
