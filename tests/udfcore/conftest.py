"""A source in memory that is as plain as can be: the specification that real sources are held against."""

import pytest

from framefold.udfcore.dataset import Dataset
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import ReadStats


class ArraySource:
    """Frames of an array; with `decode` they are copied into `out`, as compressed files do."""

    metadata = Metadata()
    identity = "array"

    def __init__(self, data, sig_dims=2, *, decode=False, chunk=None, valid=None):
        self.shape = Shape(data.shape, sig_dims)
        self.dtype = data.dtype
        self._flat = data.reshape((-1, *data.shape[data.ndim - sig_dims :]))
        self._flat.flags.writeable = False
        self.is_view = not decode
        self.natural_chunks = chunk or (1,) * (1 + sig_dims)
        self.valid = valid
        self.reads = []

    def read(self, tile, out=None):
        self.reads.append(tile)
        if self.valid is not None:
            assert self.valid[tile.start : tile.stop].all(), "an invalid frame was read"
        part = self._flat[(slice(tile.start, tile.stop), *tile.sig)]
        if self.is_view:
            return part
        if out is None:
            return part.copy()
        assert out.shape == part.shape and out.flags.c_contiguous
        out[...] = part
        return out

    def stats(self):
        return ReadStats(path="array")


@pytest.fixture
def array_source():
    return ArraySource


@pytest.fixture
def dataset():
    def make(data, sig_dims=2, sync_offset=0, nav_shape=None, **options):
        return Dataset(ArraySource(data, sig_dims, **options), nav_shape=nav_shape, sync_offset=sync_offset)

    return make
