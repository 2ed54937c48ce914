"""What several benchmarks run over, and run: a source of many frames, a sum of whole frames."""

import numpy as np

import framefold as ff
from framefold.kernels.reduce import sum_frames
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import ReadStats


class Endless:
    """A source of many frames of which few exist."""

    is_view = True
    valid = None

    def __init__(self, block, frames):
        self.block, self.identity = block, f"endless:{frames}"
        self.shape, self.dtype = Shape((frames, *block.shape[1:]), 2), block.dtype
        self.metadata, self.natural_chunks = Metadata(), (len(block), 1, 1)

    def read(self, tile, out=None):
        first = tile.start % len(self.block)
        if first + tile.stop - tile.start > len(self.block):
            return self.block[(np.arange(tile.start, tile.stop) % len(self.block), *tile.sig)]
        return self.block[(slice(first, first + tile.stop - tile.start), *tile.sig)]

    def stats(self):
        return ReadStats()


class Whole(ff.UDF):
    """The sum, of whole frames."""

    engine = ff.EngineOptions(whole_frames=True, gil="free")

    def get_preferred_input_dtype(self):
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self):
        return {"intensity": self.buffer("sig", dtype="wide", reduce="sum")}

    def process_tile(self, tile):
        sum_frames(tile, self.results.intensity)
