"""Joining the buffers of lanes: the order is fixed, so that a repeated run gives the same bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from framefold.udfcore.iterative import PassBuffer
from framefold.udfcore.namespace import xp_of

Array = npt.NDArray[Any]
Part = tuple[Array, tuple[slice, ...] | None]


class Comm(Protocol):
    """Joins arrays of equal shape over hosts."""

    rank: int
    size: int

    def allreduce(self, arrays: Sequence[tuple[Array, str]]) -> None:
        """Replace each array by its ``"sum"`` or ``"max"`` over all hosts, the same bits everywhere."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...


class Alone:
    """One host: nothing to join."""

    rank = 0
    size = 1

    def allreduce(self, arrays: Sequence[tuple[Array, str]]) -> None:
        """Leave the arrays as they are."""

    def close(self) -> None:
        """Nothing to release."""


def join(decl: PassBuffer, parts: Sequence[Part]) -> Array:
    """Return the sum (or maximum) of what the lanes hold, in a binary tree for whole buffers.

    Parameters
    ----------
    decl
        The declaration.
    parts
        For each lane its array, and the window that it covers (None: everything).
    """
    xp = xp_of(parts[0][0])
    combine = xp.maximum if decl.reduce == "max" else xp.add
    if len(parts) == 1 and parts[0][1] is None:
        return parts[0][0]
    if any(window is not None for _, window in parts):
        out = xp.full(decl.shape, neutral(decl), decl.dtype)
        if len(parts) == 1 and decl.reduce == "sum":
            array, window = parts[0]
            out[window] = array
            return out
        for array, window in parts:
            target = out if window is None else out[window]
            combine(target, array, out=target)
        return out
    arrays = [a for a, _ in parts]
    step = 1
    while step < len(arrays):
        for i in range(0, len(arrays) - step, 2 * step):
            combine(arrays[i], arrays[i + step], out=arrays[i])
        step *= 2
    return arrays[0]


def neutral(decl: PassBuffer) -> Any:
    """Return what changes nothing when it is joined: 0, or the smallest number for maxima."""
    if decl.reduce == "sum":
        return 0
    return np.iinfo(decl.dtype).min if decl.dtype.kind in "iu" else -np.inf


def allocate(decl: PassBuffer, window: tuple[slice, ...] | None, xp: Any = np) -> Array:
    """Return the array of one lane, of the namespace `xp`."""
    shape = decl.shape
    if window is not None:
        shape = np.broadcast_to(np.False_, decl.shape)[window].shape
    return xp.zeros(shape, decl.dtype)


def of_phase(decls: Mapping[str, PassBuffer], phase: str) -> list[str]:
    """Return the names of the buffers that exist in `phase`."""
    return [name for name, d in decls.items() if not d.phases or phase in d.phases]
