"""ROI x corrections x dtype x method x offset against numpy, on views and on decoded frames."""

import numpy as np
import pytest

from framefold.executor.drive import Run
from framefold.executor.follow import to_end
from framefold.executor.inline import InlineExecutor
from framefold.executor.local import LocalExecutor
from framefold.io.memory import ArraySource
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.plan import RunOptions

ROIS = ("none", "prefix", "suffix", "strided", "single", "empty", "random")
CORRECTIONS = ("none", "dark", "gain", "excluded", "all")
SIG = (9, 6)
DATA = np.random.default_rng(5).integers(0, 1000, (5, 7, *SIG)).astype("uint16")


@pytest.fixture(params=["inline", "threads"])
def run_udf(request):
    executor = InlineExecutor() if request.param == "inline" else LocalExecutor(2)

    def run(dataset, udf, roi=None, corrections=None):
        options = RunOptions(roi=roi, corrections=corrections, partition_frames=8)
        return to_end(Run(executor, dataset, [udf], options)).buffers[0]

    return run


@pytest.mark.parametrize("method", ["tile", "frame", "partition"])
@pytest.mark.parametrize("dtype", ["native", "float32", "float64"])
@pytest.mark.parametrize("corrections", CORRECTIONS)
@pytest.mark.parametrize("roi", ROIS)
def test_roi_corrections_dtype_method(conform, run_udf, roi, corrections, dtype, method):
    for offset in (-3, 0, 5):
        ds = Dataset(ArraySource(DATA, sig_dims=2), sync_offset=offset)
        conform(
            run_udf,
            ds,
            DATA.reshape(35, *SIG),
            roi=roi,
            corrections=corrections,
            dtype=dtype,
            method=method,
            offset=offset,
        )


def test_four_cases_that_a_peer_gets_wrong_live(run_udf):
    """16 x 16 scan of 64 x 64, frame i = i mod 200: the sums of one pixel, worked out by hand."""
    values = (np.arange(256) % 200).astype("uint16")
    data = np.broadcast_to(values[:, None, None], (256, 64, 64)).reshape(16, 16, 64, 64).copy()
    ds = Dataset(ArraySource(data, sig_dims=2))
    from framefold.udfcore.corrections import Corrections
    from framefold.udfcore.udf import UDF

    class Pixel(UDF):
        def get_result_buffers(self):
            return {"total": self.buffer("sig", dtype="float64", reduce="sum")}

        def process_tile(self, tile):
            self.results.total += tile.sum(axis=0)

    def total(**kwargs):
        return run_udf(ds, Pixel(), **kwargs)["total"].data[5, 5]

    assert total() == 21440
    assert total(corrections=Corrections(dark=np.ones((64, 64)))) == 21184
    for key, want in ((np.s_[8:], 13312), (np.s_[:, ::2], 10656), (np.s_[:8], 8128)):
        assert total(roi=ds.roi[key]) == want
