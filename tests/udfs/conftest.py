"""Run a UDF on an array under any cut, without files."""

import pytest

from framefold.executor.drive import Run, to_end
from framefold.executor.inline import InlineExecutor
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import ReadStats


class _ArraySource:
    metadata = Metadata()
    identity = "array"
    is_view = True
    valid = None

    def __init__(self, data, sig_dims):
        self.shape = Shape(data.shape, sig_dims)
        self.dtype = data.dtype
        self._flat = data.reshape((-1, *data.shape[data.ndim - sig_dims :]))
        self.natural_chunks = (1,) * (1 + sig_dims)

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
