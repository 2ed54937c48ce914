"""Checkpoints of iterative reductions: the loop state and the history in one HDF5 file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from framefold.errors import DataError

VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes
    ----------
    loop
        The loop state.
    history
        Figures by name.
    iteration
        Iterations done.
    udf, data
        Who wrote it, and from which data.
    """

    loop: Mapping[str, Any]
    history: Mapping[str, np.ndarray[Any, Any]]
    iteration: int
    udf: str
    data: str


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint under a temporary name and rename it: a crash leaves the old one.

    Raises
    ------
    DataError
        If it cannot be written.
    """
    import h5py  # noqa: PLC0415  # only with checkpoints

    part = path.with_name(f".{path.name}.part")
    try:
        with h5py.File(part, "w") as file:
            file.attrs.update(
                {
                    "framefold_checkpoint": VERSION,
                    "iteration": checkpoint.iteration,
                    "udf": checkpoint.udf,
                    "data": checkpoint.data,
                }
            )
            loop, plain = file.create_group("loop"), {}
            for name, value in checkpoint.loop.items():
                if isinstance(value, np.ndarray):
                    loop.create_dataset(name, data=value)
                else:
                    plain[name] = _plain(name, value)
            loop.attrs["plain"] = json.dumps(plain)
            history = file.create_group("history")
            for name, column in checkpoint.history.items():
                history.create_dataset(name, data=np.asarray(column))
        os.replace(part, path)
    except OSError as exc:
        part.unlink(missing_ok=True)
        raise DataError(f"the checkpoint {path} could not be written: {exc}") from exc


def load_checkpoint(path: Path, udf: str, data: str) -> Checkpoint:
    """Read a checkpoint of the same UDF and the same data.

    Raises
    ------
    DataError
        If there is none, it is another kind of file, or it belongs to other data.
    """
    import h5py  # noqa: PLC0415  # as above

    if not path.exists():
        raise DataError(f"resume: {path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("framefold_checkpoint") != VERSION:
                raise DataError(f"resume: {path} is not a checkpoint of this version of framefold")
            wrote, of = str(file.attrs["udf"]), str(file.attrs["data"])
            loop = {name: item[()] for name, item in file["loop"].items()}
            loop.update(json.loads(file["loop"].attrs["plain"]))
            history = {name: item[()] for name, item in file["history"].items()}
            iteration = int(file.attrs["iteration"])
    except OSError as exc:
        raise DataError(f"resume: {path} cannot be read: {exc}") from exc
    if wrote != udf:
        raise DataError(f"resume: {path} was written by {wrote}, not {udf}")
    if of != data:
        raise DataError(f"resume: {path} belongs to other data:\n  there {of}\n  here  {data}")
    return Checkpoint(loop, history, iteration, wrote, of)


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (bool, int, float, str, type(None))):
        return value
    if isinstance(value, (tuple, list)):
        return [_plain(name, v) for v in value]
    raise DataError(
        f"the loop state {name!r} is a {type(value).__name__}: checkpoints hold arrays, numbers and text"
    )
