"""Save results to a file, and read them back; the ending chooses the format."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framefold.errors import DataError, did_you_mean
from framefold.io import save_arrays, save_pictures
from framefold.io.save_model import SavedResult, detach


@dataclass(frozen=True)
class _Saver:
    holds: str
    write: Callable[[Path, SavedResult], None]
    read: Callable[[Path], SavedResult] | None = None


def _write_nexus(path: Path, result: SavedResult) -> None:
    from framefold.io import save_nexus  # loads h5py

    save_nexus.write(path, result)


def _read_nexus(path: Path) -> SavedResult:
    from framefold.io import save_nexus  # loads h5py

    return save_nexus.read(path)


def _write_cxi(path: Path, result: SavedResult) -> None:
    from framefold.io import save_cxi  # loads h5py

    save_cxi.write(path, result)


_NEXUS = _Saver("everything, NeXus", _write_nexus, _read_nexus)
_SAVERS = {
    ".nxs": _NEXUS,
    ".h5": _NEXUS,
    ".hdf5": _NEXUS,
    ".zarr": _Saver("everything", save_arrays.write_zarr, save_arrays.read_zarr),
    ".npz": _Saver("everything", save_arrays.write_npz, save_arrays.read_npz),
    ".cxi": _Saver("a reconstruction: object, probe, positions", _write_cxi),
    ".npy": _Saver("the values of one result", save_arrays.write_npy, save_arrays.read_npy),
    ".tif": _Saver("one image", save_pictures.write_tif),
    ".tiff": _Saver("one image", save_pictures.write_tif),
    ".csv": _Saver("results of one axis, as a table", save_pictures.write_csv),
    ".png": _Saver("one image, to look at", save_pictures.write_png),
}


def save_result(path: str | os.PathLike[str], result: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Write `result` to `path`.

    The file appears under its name when it is complete: a full disk or an error leaves nothing behind, and
    an older file untouched.

    Parameters
    ----------
    path
        The ending chooses the format: ``.nxs``, ``.h5``, ``.zarr`` and ``.npz`` keep everything,
        ``.npy``, ``.tif``, ``.csv`` and ``.png`` hold one result.
    result
        What `Context.run_udf` returned for one UDF, or a mapping of names to arrays.
    overwrite
        Replace an existing file.

    Raises
    ------
    DataError
        If the ending is unknown, the file exists or cannot be written, or the result does not fit it.
    """
    target = Path(path)
    saver = _saver(target)
    saved = detach(result)
    with_new_file(target, lambda temporary: saver.write(temporary, saved), overwrite=overwrite)


def load_results(path: str | os.PathLike[str]) -> SavedResult:
    """Read results that `save_result` wrote to ``.nxs``, ``.h5``, ``.zarr``, ``.npz`` or ``.npy``.

    Returns
    -------
    SavedResult
        The same names, arrays, masks, kinds, axes, damage and provenance; ``.npy`` has values only.

    Raises
    ------
    DataError
        If there is no such file, or it holds no results.
    """
    source = Path(path)
    saver = _saver(source)
    if not source.exists():
        raise DataError(f"{source}: no such file")
    if saver.read is None:
        whole = ", ".join(s for s, v in _SAVERS.items() if v.read)
        raise DataError(
            f"{source}: {source.suffix} is for other programs, results are read back from {whole}"
        )
    return saver.read(source)


def _saver(path: Path) -> _Saver:
    saver = _SAVERS.get(path.suffix.lower())
    if saver is None:
        known = "\n".join(f"  {suffix}  {s.holds}" for suffix, s in _SAVERS.items())
        raise DataError(
            f"{path}: unknown ending {path.suffix!r}.{did_you_mean(path.suffix, _SAVERS)} Known are:\n{known}"
        )
    return saver


def with_new_file(target: Path, write: Callable[[Path], None], *, overwrite: bool) -> None:
    """Let `write` fill a temporary file or folder beside `target`, then rename it.

    Raises
    ------
    DataError
        If `target` exists and `overwrite` is False, its folder does not exist, or writing fails.
    """
    check_target(target, overwrite=overwrite)
    temporary = temporary_name(target)
    try:
        write(temporary)
        move_into_place(temporary, target, overwrite=overwrite)
    except (OSError, RuntimeError) as exc:  # h5py reports a full disk as either
        raise DataError(f"{target} could not be written: {exc}") from exc
    finally:
        remove(temporary)


def check_target(target: Path, *, overwrite: bool) -> None:
    """Raise `DataError` if `target` must not or cannot be written."""
    if target.exists() and not overwrite:
        raise DataError(f"{target} exists: give another name, or overwrite=True")
    if not target.parent.is_dir():
        raise DataError(f"{target}: the folder {target.parent} does not exist")


def temporary_name(target: Path) -> Path:
    """Return an unused hidden name beside `target`, with its ending."""
    return target.with_name(f".{target.stem}.{secrets.token_hex(4)}{target.suffix}")


def move_into_place(temporary: Path, target: Path, *, overwrite: bool) -> None:
    """Rename `temporary` to `target`; an older folder goes after the new one is complete."""
    check_target(target, overwrite=overwrite)
    if target.is_dir():
        old = temporary_name(target)
        target.rename(old)
        temporary.rename(target)
        remove(old)
    else:
        temporary.replace(target)


def remove(path: Path) -> None:
    """Remove a file or folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
