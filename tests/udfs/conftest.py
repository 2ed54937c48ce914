"""Run a UDF on an array under any cut, without files."""

import numpy as np
import pytest

from framefold.executor.drive import Run
from framefold.executor.follow import to_end
from framefold.executor.inline import InlineExecutor
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.fold import Folder
from framefold.udfcore.make_results import ResultMaker
from framefold.udfcore.merge import Merger
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.planning import make_plan
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import ReadStats
from framefold.udfcore.task import Task
from framefold.udfcore.validate import check_run


class _ArraySource:
    metadata = Metadata()
    identity = "array"
    is_view = True

    def __init__(self, data, sig_dims, valid=None):
        self.shape = Shape(data.shape, sig_dims)
        self.dtype = data.dtype
        self._flat = data.reshape((-1, *data.shape[data.ndim - sig_dims :]))
        self.natural_chunks = (1,) * (1 + sig_dims)
        self.valid = valid

    def read(self, tile, out=None):
        view = self._flat[(slice(tile.start, tile.stop), *tile.sig)]
        view.flags.writeable = False
        return view

    def stats(self):
        return ReadStats(path="array")


@pytest.fixture
def run_on():
    """Return ``run_on(data, udf, roi=, frames=, tile=, sig_dims=)``, which gives the result."""

    def run(data, udf, roi=None, frames=None, tile=None, sig_dims=2, **options):
        dataset = Dataset(_ArraySource(data, sig_dims))
        chosen = RunOptions(roi=roi, partition_frames=frames, tile_shape=tile, **options)
        return to_end(Run(InlineExecutor(), dataset, [udf], chosen)).buffers[0]

    return run


def fold(udf, data, *, sig_dims=2, partitions=3, order=None, valid=None, tile=None, **options):
    """Return the result of `udf` over `data`, its partitions merged in `order`; `tile` is ``(depth, *sig part)``."""
    dataset = Dataset(_ArraySource(data, sig_dims, valid))
    plan = make_plan(dataset, [udf], RunOptions(tile_shape=tile, **options))
    merger = Merger(plan, [udf])
    check_run(plan, [udf], lanes=1, processes=False)
    borders = np.linspace(0, plan.n_rows, partitions + 1).astype(int).tolist()
    folder = Folder(plan)
    ids = [i for i in range(partitions) if borders[i] < borders[i + 1]]
    for i in ids if order is None else [ids[k] for k in order]:
        merger.merge(folder.fold(Task(i, borders[i], borders[i + 1])))
    delta = folder.flush()
    if delta is not None:
        merger.merge(delta)
    return ResultMaker(plan, merger, dict).snapshot(dict, final=True).buffers[0]


@pytest.fixture
def run():
    return fold
