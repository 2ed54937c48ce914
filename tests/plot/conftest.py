"""Small runs on arrays in memory, and their snapshots."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from framefold.executor.drive import Run
from framefold.executor.follow import by_merge
from framefold.executor.inline import InlineExecutor
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import ReadStats
from framefold.udfcore.udf import UDF

with warnings.catch_warnings():
    # matplotlib 3.8 with newer pyparsing
    warnings.simplefilter("ignore")
    mpl = pytest.importorskip("matplotlib")


class Frames:
    """An array as a source."""

    identity = "array"
    is_view = True
    valid = None

    def __init__(self, data, axes=()):
        self.shape, self.dtype = Shape(data.shape, 2), data.dtype
        self.metadata = Metadata(axes=axes)
        self.natural_chunks = (1, 1, 1)
        self._flat = data.reshape((-1, *data.shape[-2:]))

    def read(self, tile, out=None):
        return self._flat[(slice(tile.start, tile.stop), *tile.sig)]

    def stats(self):
        return ReadStats()


class Everything(UDF):
    """Results of all kinds and shapes."""

    def get_result_buffers(self):
        return {
            "image": self.buffer("sig", dtype="float64", reduce="sum"),
            "scan": self.buffer("nav", dtype="float32"),
            "pair": self.buffer("nav", (2,), dtype="float32"),
            "wave": self.buffer("nav", dtype="complex64"),
            "curve": self.buffer("single", (5,), dtype="int64", reduce="sum"),
            "count": self.buffer("single", dtype="int64", reduce="sum"),
            "words": self.buffer("nav", dtype=object),
            "many": self.buffer("nav", (9,), dtype="float32"),
        }

    def process_frame(self, frame):
        r = self.results
        r.image += frame
        r.scan[...] = frame.sum()
        r.pair[...] = frame[0, 0], frame[0, 1]
        r.wave[...] = frame[0, 0] + 1j * frame[0, 1]
        r.curve += np.arange(5)
        r.count += 1
        r.words[...] = "x"
        r.many[...] = np.arange(9)


@pytest.fixture
def udf():
    return Everything()


@pytest.fixture
def dataset():
    def make(data, axes=()):
        return Dataset(Frames(np.ascontiguousarray(data), axes))

    return make


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.integers(0, 100, (6, 5, 8, 7)).astype("float32")


@pytest.fixture
def snapshots():
    """All snapshots of a run, the empty one first."""

    def run(dataset, *udfs, partition_frames=7, roi=None, observers=()):
        run = Run(
            InlineExecutor(),
            dataset,
            udfs,
            RunOptions(partition_frames=partition_frames, roi=roi),
            observers=observers,
        )
        return [run.snapshot(final=False), *by_merge(run)]

    return run


@pytest.fixture(autouse=True)
def no_windows():
    """Headless, and no figure survives a test."""
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    yield
    plt.close("all")
