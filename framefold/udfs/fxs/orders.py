"""Which angular orders are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.fxs.grid import PolarGrid


def choose_orders(
    orders: Any, grid: PolarGrid, diameter: float | None, *, holes: bool = False
) -> npt.NDArray[np.int64]:
    """Return the angular orders as ascending integers.

    Parameters
    ----------
    orders
        ``"all"``, ``"even"``, a slice, or numbers.
    grid
        Orders go up to ``n_phi / 2``.
    diameter
        Of the particle in Angstrom: nothing is above ``q_max * diameter``; 4 orders more are kept.
    holes
        The mask has holes inside rings. They mix orders, so that the correction needs all of them.

    Raises
    ------
    DataError
        If an order does not exist, or some are left out although there are holes.
    """
    most = grid.n_phi // 2
    every = np.arange(most + 1, dtype=np.int64)
    if isinstance(orders, str):
        if orders not in ("all", "even"):
            raise DataError(f"orders={orders!r} is not 'all', 'even', a slice or a list of numbers")
        chosen = every if orders == "all" else every[::2]
    elif isinstance(orders, slice):
        chosen = every[orders]
    else:
        chosen = np.unique(np.asarray(orders, dtype=np.int64))
        if len(chosen) and (chosen[0] < 0 or chosen[-1] > most):
            raise DataError(f"orders {chosen[0]} .. {chosen[-1]}: n_phi={grid.n_phi} has 0 .. {most}")
    if holes:
        if len(chosen) < len(every):
            raise DataError(
                "the mask has holes inside rings, which mix angular orders: orders='all' is needed"
            )
        return every
    if diameter is not None:
        limit = int(np.ceil(grid.q_max * diameter)) + 4
        if limit > most:
            raise DataError(
                f"orders up to {limit} are needed for q_max={grid.q_max:g} and diameter={diameter:g}: "
                f"n_phi={grid.n_phi} has {most}; use n_phi={2 * limit} or more"
            )
        chosen = chosen[chosen <= limit]
    if not len(chosen):
        raise DataError(f"orders={orders!r} leaves none of 0 .. {most}")
    return chosen
