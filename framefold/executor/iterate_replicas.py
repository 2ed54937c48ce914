"""The loop state on several hosts: the same everywhere, but for roundings of other processors."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from framefold.errors import UDFError
from framefold.executor.iterate_reduce import Comm
from framefold.udfcore.iterative import IterativeUDF
from framefold.udfcore.namespace import is_device, to_host

DRIFT = 1e-3  # of the largest value: more is no rounding


def hosted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with the arrays that lie on a device copied to the host."""
    return {name: to_host(value) if is_device(value) else value for name, value in values.items()}


def keep_alike(udf: IterativeUDF, comm: Comm, iteration: int) -> None:
    """Compare the loop state over hosts by a checksum; where it differs, all take that of the first.

    Raises
    ------
    UDFError
        If the states differ by more than rounding.
    """
    # min and max of the same number differ or not
    check = np.array([_checksum(hosted(vars(udf.loop)))])
    pair = np.concatenate([check, -check])
    comm.allreduce([(pair, "max")])
    if pair[0] != -pair[1]:
        _follow_the_first(udf, comm, iteration)


def _follow_the_first(udf: IterativeUDF, comm: Comm, iteration: int) -> None:
    """Take the loop state of the first host; processors of other kinds round in other ways.

    Raises
    ------
    UDFError
        If the states differ by more than that.
    """
    kept = dict(vars(udf.loop))
    loop = hosted(kept)
    worst = 0.0
    for name in sorted(k for k, v in loop.items() if isinstance(v, np.ndarray) and v.size):
        mine = loop[name]
        first = np.array(mine) if comm.rank == 0 else np.zeros_like(mine)
        comm.allreduce([(first, "sum")])
        if mine.dtype.kind in "fc":
            top = float(np.abs(first).max())
            worst = max(worst, float(np.abs(mine - first).max()) / (top or 1.0))
        elif not np.array_equal(mine, first):
            worst = np.inf
        vars(udf.loop)[name] = udf.xp.asarray(first) if is_device(kept[name]) else first
    most = np.array([worst])
    comm.allreduce([(most, "max")])
    if not most[0] <= DRIFT:
        raise UDFError(
            f"{type(udf).__name__}: the loop states of the hosts differ after iteration "
            f"{iteration}: plan and step must depend on setup, loop, results, iteration and rng only"
        )


def _checksum(values: Mapping[str, Any]) -> float:
    total = 0
    for name in sorted(values):
        value = values[name]
        if isinstance(value, np.ndarray):
            total = zlib.crc32(value.tobytes(), total)
    return float(total)
