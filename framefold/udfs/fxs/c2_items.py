"""What is correlated: accepted frames, or differences of consecutive ones, and the group of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfs.fxs.shots import VetoCode, half_of

Array = npt.NDArray[Any]
BLOCK = 64  # frames: pairs lie inside such blocks, and tiles hold whole ones


def items_of(params: Any, row: int, ids: Array, code: Array) -> tuple[list[tuple[int, int]], Array]:
    """Return what is correlated, frames or pairs, and the group of each; leftover frames are marked.

    Parameters
    ----------
    params
        Of `C2UDF`: classes, pairing and halves.
    row
        Place of the first frame in the dataset.
    ids
        Global index of each frame.
    code
        Veto code of each frame; frames without a partner become ``UNPAIRED``.
    """
    p = params
    kept = np.flatnonzero(code == VetoCode.USED)
    label = np.zeros(len(ids), np.int64)
    if p.classes is not None:
        label = np.asarray(p.classes).reshape(-1)[ids].astype(np.int64)
    if p.pairing is None:
        items, first = [(int(i), -1) for i in kept], kept
    else:
        items = _pairs(kept, row, label, len(ids))
        first = np.array([i for i, _ in items], np.int64)
        partners = np.array([j for _, j in items], np.int64)
        alone = np.setdiff1d(kept, np.concatenate([first, partners]))
        code[alone] = VetoCode.UNPAIRED
    groups = label[first]
    if p.halves:
        groups = 2 * groups + half_of(ids[first])
    return items, groups


def _pairs(kept: Array, row: int, label: Array, n: int) -> list[tuple[int, int]]:
    """Return pairs of consecutive frames of the same class inside blocks of `BLOCK` rows."""
    pairs: list[tuple[int, int]] = []
    waiting: dict[tuple[int, int], int] = {}
    for i in kept:
        key = ((row + int(i)) // BLOCK, int(label[i]))
        if key in waiting:
            pairs.append((waiting.pop(key), int(i)))
        else:
            waiting[key] = int(i)
    return pairs
