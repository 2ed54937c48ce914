"""ROI x corrections x dtype x method x offset on live streams against numpy: live equals offline."""

import numpy as np
import pytest

import framefold as ff
from framefold.io.live.memory import MemoryLiveSource

SIG = (9, 6)
DATA = np.random.default_rng(5).integers(0, 1000, (35, *SIG)).astype("uint16")


@pytest.fixture(params=["inline", "threads"])
def run_udf(request):
    with ff.Context(executor=request.param, **({"workers": 2} if request.param == "threads" else {})) as ctx:

        def run(dataset, udf, roi=None, corrections=None):
            return ctx.run_udf(dataset, udf, roi=roi, corrections=corrections, publish_interval=0.01)

        yield run


@pytest.mark.parametrize("method", ["tile", "frame", "partition"])
@pytest.mark.parametrize("dtype", ["native", "float32", "float64"])
@pytest.mark.parametrize("corrections", ["none", "all"])
@pytest.mark.parametrize("roi", ["none", "suffix", "strided", "empty"])
def test_roi_corrections_dtype_method(conform, run_udf, roi, corrections, dtype, method):
    for offset, sectors, pieces in ((-3, 1, 1), (0, 3, 3), (5, 2, 3)):
        source = MemoryLiveSource(
            DATA, sectors=sectors, pieces=pieces, block_frames=6, nav_shape=(5, 7), sync_offset=offset
        )
        ds = ff.Context(executor="inline").load(source)
        conform(
            run_udf,
            ds,
            DATA,
            roi=roi,
            corrections=corrections,
            dtype=dtype,
            method=method,
            offset=offset,
        )
