"""Run a UDF as if its frames came in sectors to several processes: what ``partial_frames=True`` promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.dataset import Dataset
from framefold.udfcore.fold import Folder
from framefold.udfcore.live import AcquisitionStart, Block, LiveOptions, PieceGrid, SectorSpec
from framefold.udfcore.live_dataset import BoundSource
from framefold.udfcore.live_plan import LiveGeometry
from framefold.udfcore.merge import Frozen, Merger
from framefold.udfcore.plan import Plan, RunOptions
from framefold.udfcore.planning import make_plan
from framefold.udfcore.task import LiveTask
from framefold.udfcore.udf import UDF

Array = npt.NDArray[Any]


def fold_sectors(
    udf: UDF, data: Array, sig_dims: int, options: RunOptions, cuts: Sequence[int], order: Sequence[int]
) -> tuple[Plan, Frozen] | None:
    """Return what the head holds when every sector was folded by itself.

    Parameters
    ----------
    udf
        Runs here: give a copy.
    data
        Whole frames.
    sig_dims
        Signal axes at the end of `data`.
    options
        With borders; transforms and repaired pixels need whole frames.
    cuts
        Where the last signal axis is cut.
    order
        In which the parts are merged: permutes partitions x sectors.

    Returns
    -------
    None where the engine would put the sectors together first.
    """
    sig = data.shape[data.ndim - sig_dims :]
    flat = data.reshape(-1, *sig)
    edges = [0, *cuts, sig[-1]]
    sectors = tuple(
        SectorSpec(
            i, part, PieceGrid(tuple(s.stop - s.start for s in part), ((0,) * sig_dims,)), f"sector {i}"
        )
        for i, part in enumerate(
            (*(slice(0, n) for n in sig[:-1]), slice(a, b))
            for a, b in zip(edges[:-1], edges[1:], strict=True)
        )
    )
    start = AcquisitionStart(len(flat), sig, data.dtype, None, sectors)
    nav = data.shape[: data.ndim - sig_dims]
    dataset = Dataset(BoundSource("sectors", nav, LiveGeometry(start, LiveOptions())))
    plan = make_plan(dataset, [udf], replace(options, tile_shape=None))
    assert plan.live is not None
    if any(plan.live.apart):
        return None
    plan = replace(plan, live=replace(plan.live, groups=len(sectors)))
    assert plan.live is not None
    merger = Merger(plan, [udf])
    folders = [Folder(replace(plan, live=replace(plan.live, own=(i,)))) for i in range(len(sectors))]
    borders = options.borders or (0,)
    units = [(k, i) for k in range(len(borders) - 1) for i in range(len(sectors))]
    for at in order:
        if at >= len(units):
            continue
        k, i = units[at]
        merger.merge(folders[i].fold(_task(plan, flat, k, borders[k], borders[k + 1], sectors[i])))
    for folder in folders:
        delta = folder.flush()
        if delta is not None:
            merger.merge(delta)
    return plan, merger.finish()[0]


def _task(plan: Plan, flat: Array, index: int, start: int, stop: int, sector: SectorSpec) -> LiveTask:
    ids = plan.rows.frame_ids(start, stop)
    first, n = int(ids[0]), int(ids[-1] - ids[0]) + 1
    part = np.ascontiguousarray(flat[(slice(first, first + n), *sector.part)])[np.newaxis]
    valid = np.ones((n, 1), dtype=bool)
    return LiveTask(index, start, stop, block=Block(index, first, n, (part,), (valid,)))
