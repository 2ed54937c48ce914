"""Transforms that belong to one UDF."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from framefold.udfcore.udf import UDF

if TYPE_CHECKING:
    from framefold.udfcore.pre import Transform


def Pipe(transforms: Sequence[Transform], udf: UDF) -> UDF:  # reads as a constructor
    """Return a copy of `udf` that sees the data after `transforms`, after those of the run's ``pre=``.

    Parameters
    ----------
    transforms
        Applied in order.
    udf
        Any UDF; the object itself is not changed.

    Examples
    --------
    >>> from framefold.udfs import SumUDF
    >>> from framefold.udfcore.pre import Bin
    >>> Pipe([Bin(2)], SumUDF()).pre_transforms
    (Bin(2),)
    """
    twin = udf.copy()
    twin.pre_transforms = (*udf.pre_transforms, *transforms)
    return twin
