"""Area binning: large pictures become means over blocks, for a screen that cannot show every pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

MAX_SIDE = 1024  # more pixels than most windows give to one picture
Numbers = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]


def block_of(shape: tuple[int, int], side: int = MAX_SIDE) -> int:
    """Return the side of the square blocks that bring `shape` down to `side`, 1 for small pictures."""
    return max(1, -(-max(shape) // side))


def bin_area(values: Numbers, valid: Flags, block: int) -> tuple[Numbers, Flags]:
    """Return means over square blocks, counting valid and finite pixels only.

    Parameters
    ----------
    values
        Real or complex, 2-D.
    valid
        Bool, same shape.
    block
        Side of a block; those at the lower and right edge may be smaller.

    Returns
    -------
    tuple
        Means (float64 or complex128) and their validity: True where a block has any valid pixel. With
        ``block == 1`` both are the arguments, NaN and infinite pixels no longer valid.
    """
    if values.dtype.kind in "fc":
        valid = valid & np.isfinite(values)
    if block == 1:
        return values, valid
    starts = [np.arange(0, n, block) for n in values.shape]
    wide = np.complex128 if values.dtype.kind == "c" else np.float64
    kept = np.where(valid, values, 0).astype(wide)
    total = np.add.reduceat(np.add.reduceat(kept, starts[1], axis=1), starts[0], axis=0)
    by_row = np.add.reduceat(valid, starts[1], axis=1, dtype=np.int64)
    count = np.add.reduceat(by_row, starts[0], axis=0)
    return total / np.maximum(count, 1), count > 0
