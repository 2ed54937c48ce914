"""One small cluster and one kind of dataset for all tests of executors."""

from __future__ import annotations

import numpy as np
import pytest

from framefold.executor.dask import DaskExecutor
from framefold.executor.inline import InlineExecutor
from framefold.executor.local import LocalExecutor
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import ReadStats


class Frames:
    """The plainest source: an array."""

    is_view = True
    valid = None
    identity = "frames of a test"

    def __init__(self, data, sig_dims):
        self.shape = Shape(data.shape, sig_dims=sig_dims)
        self.dtype = data.dtype
        self.metadata = Metadata()
        self.natural_chunks = (1,) * (sig_dims + 1)
        self._flat = data.reshape(-1, *data.shape[data.ndim - sig_dims :])

    def read(self, tile, out=None):
        return self._flat[(slice(tile.start, tile.stop), *tile.sig)]

    def stats(self):
        return ReadStats()


@pytest.fixture(scope="session")
def dataset():
    """Make a dataset of an array whose last two axes are the signal."""
    return lambda data, sig_dims=2: Dataset(Frames(np.ascontiguousarray(data), sig_dims))


@pytest.fixture(scope="session")
def cluster():
    """Two worker processes of one thread, started once."""
    executor = DaskExecutor(workers=2)
    executor.map(abs, [1])
    yield executor
    executor.close()


@pytest.fixture(params=["inline", "threads", "dask"])
def executor(request):
    """Each kind of executor."""
    if request.param == "dask":
        return request.getfixturevalue("cluster")
    return InlineExecutor() if request.param == "inline" else LocalExecutor(2)
