"""The slow, suspicious fold behind ``InlineExecutor(debug=True)``: finds UDFs that only work in one process.

Everything that would travel is pickled and unpickled; tiles are read-only copies that turn to NaN (or to the
largest integer) as soon as they are given back, and so do the buffers of finished partitions.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np

from framefold.errors import ParameterError, UDFError
from framefold.udfcore.fold import Folder
from framefold.udfcore.plan import Plan
from framefold.udfcore.task import Partial


def through_pickle(obj: Any, what: str) -> Any:
    """Return what a worker would get of `obj`.

    Raises
    ------
    ParameterError
        If it cannot be pickled.
    """
    import cloudpickle  # noqa: PLC0415  # comes with dask

    try:
        return pickle.loads(cloudpickle.dumps(obj))  # noqa: S301  # our own
    except Exception as exc:
        raise ParameterError(f"debug: {what} cannot be sent to workers: {exc}") from exc


def check_disjoint(plan: Plan) -> None:
    """Check that the tiles of every lane cover each pixel once.

    Raises
    ------
    UDFError
        If not.
    """
    for lane in plan.lanes:
        seen = np.zeros(lane.scheme.sig_shape, dtype=np.int64)
        for members in lane.parts_of:
            for index in members:
                seen[lane.scheme.parts[index]] += 1
        if not (seen == 1).all():
            raise UDFError(
                f"debug: the tiles of {lane.udfs} cover some pixels {seen.min()} to {seen.max()} times"
            )


def poison(array: Any) -> None:
    """Overwrite what nobody may look at any more."""
    if not isinstance(array, np.ndarray) or not array.size:
        return
    array.flags.writeable = True
    if array.dtype.kind in "fc":
        array[...] = np.nan
    elif array.dtype.kind in "iu":
        array[...] = np.iinfo(array.dtype).max
    elif array.dtype.kind == "b":
        np.logical_not(array, out=array)


class DebugFolder(Folder):
    """A folder whose tiles and buffers are useless as soon as they are given back."""

    def __init__(self, plan: Plan) -> None:
        check_disjoint(plan)
        super().__init__(through_pickle(plan, "the plan (UDF parameters, dataset, corrections)"))
        for _, _, tiles in self._lanes:
            tiles.cut = _poisoning(tiles.cut)  # type: ignore[method-assign]

    def fold(self, task: Any, cancelled: Any = None) -> Partial:
        """Return the partial of `task`, after a journey."""
        partial = super().fold(through_pickle(task, "the task (patched parameters)"), cancelled)
        return _travelled(partial)

    def flush(self) -> Partial | None:
        """Return the large buffers, after a journey."""
        delta = super().flush()
        return None if delta is None else _travelled(delta)


def _travelled(partial: Partial) -> Partial:
    arrived: Partial = through_pickle(partial, "the partial result")
    for arrays in partial.arrays:
        for array in arrays.values():
            poison(array)
    return arrived


def _poisoning(cut: Any) -> Any:
    """Wrap `Tiles.cut`: each tile is a read-only copy, poisoned when the next one is asked for."""

    def tiles(*args: Any) -> Any:
        for start, stop, index, tile in cut(*args):
            if not isinstance(tile, np.ndarray):
                yield start, stop, index, tile
                continue
            owned = tile.copy()
            shown = owned.view()
            shown.flags.writeable = False
            yield start, stop, index, shown
            poison(owned)

    return tiles
