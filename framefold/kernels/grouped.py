"""Sums of frames by class."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.kernels.formula import or_formula
from framefold.kernels.reduce import sum_frames


def sum_grouped_reference(
    tile: npt.NDArray[Any], labels: npt.NDArray[np.int64], acc: npt.NDArray[Any]
) -> None:
    """Do what `sum_grouped` does, by numpy."""
    one = labels.reshape(-1, *(1,) * (tile.ndim - 1))
    for label in range(acc.shape[0]):
        acc[label] += np.where(one == label, tile, 0).sum(axis=0, dtype=acc.dtype)


@or_formula(sum_grouped_reference)
def sum_grouped(tile: npt.NDArray[Any], labels: npt.NDArray[np.int64], acc: npt.NDArray[Any]) -> None:
    """Add each frame of `tile`, ``(depth, *part)``, to ``acc[label]``; negative labels are left out.

    `acc`: ``(classes, *part)`` of dtype `framefold.kernels.reduce.wide_dtype`, any strides.
    """
    # runs of equal labels: classes are mostly regions of the scan, so that one call takes many frames
    borders = np.flatnonzero(np.diff(labels)) + 1
    for a, b in zip([0, *borders.tolist()], [*borders.tolist(), len(labels)], strict=True):
        if a == b or labels[a] < 0:
            continue
        target = acc[labels[a]]
        if target.flags.c_contiguous:
            sum_frames(tile[a:b], target)
        else:
            part = np.zeros(target.shape, target.dtype)
            sum_frames(tile[a:b], part)
            target += part
