"""Numbers per frame and sums per class against numpy."""

import numpy as np
import pytest

from framefold.errors import UDFError
from framefold.udfs.frame_stats import FrameStatsUDF
from framefold.udfs.grouped_sum import GroupedSumUDF


@pytest.mark.parametrize("dtype", ["?", "u1", "i4", "f4"])
@pytest.mark.parametrize("tile", [None, (3, 2, 3)])
def test_frame_stats(run, dtype, tile):
    rng = np.random.default_rng(5)
    data = rng.integers(0, 256, (4, 5, 6, 7)).astype(dtype)
    got = run(FrameStatsUDF(), data, tile=tile)
    wide = data.astype("f8")
    np.testing.assert_array_equal(got["minimum"].data, data.min(axis=(2, 3)))
    np.testing.assert_array_equal(got["maximum"].data, data.max(axis=(2, 3)))
    assert got["maximum"].dtype == data.dtype
    np.testing.assert_allclose(got["mean"].data, wide.mean(axis=(2, 3)), rtol=1e-13)
    np.testing.assert_allclose(got["std"].data, wide.std(axis=(2, 3)), rtol=1e-12)
    limit = {"?": 1, "u1": 255, "i4": 2**31 - 1, "f4": np.inf}[dtype]
    np.testing.assert_array_equal(got["saturated"].data, (data >= limit).sum(axis=(2, 3)))
    roi = rng.random((4, 5)) < 0.5
    got = run(FrameStatsUDF(saturation=200), data, tile=tile, roi=roi)
    np.testing.assert_array_equal(got["saturated"].raw_data, (data[roi] >= 200).sum(axis=(1, 2)))


def test_frame_stats_refuses_complex(run):
    with pytest.raises(UDFError, match="FrameStatsUDF needs bool, integer or float data"):
        run(FrameStatsUDF(), np.zeros((2, 3, 3), np.complex64))


@pytest.mark.parametrize("dtype", ["u1", "c8"])
@pytest.mark.parametrize("tile", [None, (3, 2, 7), (3, 2, 3)])
def test_grouped_sum(run, dtype, tile):
    rng = np.random.default_rng(6)
    data = rng.integers(0, 256, (4, 5, 6, 7)).astype(dtype)
    labels = rng.integers(-1, 3, (4, 5))
    labels[labels == 1] = 0  # class 1 is empty
    for roi in (None, rng.random((4, 5)) < 0.6):
        got = run(GroupedSumUDF(labels, 4), data, tile=tile, roi=roi)
        chosen = np.ones((4, 5), bool) if roi is None else roi
        for k in range(4):
            members = data[(labels == k) & chosen]
            assert got["count"].data[k] == len(members)
            np.testing.assert_array_equal(got["sum"].data[k], members.sum(axis=0, dtype=got["sum"].dtype))
            if len(members):
                np.testing.assert_allclose(got["mean"].data[k], members.mean(axis=0), rtol=1e-6)
            else:
                assert np.isnan(got["mean"].data[k]).all()
                assert not got["mean"].valid_mask[k].any()


def test_grouped_sum_parameters(run):
    with pytest.raises(UDFError, match=r"label 5 does not fit in n=3 classes 0 .. 2"):
        GroupedSumUDF([0, 5], 3)
    with pytest.raises(UDFError, match="labels are integers, not float64"):
        GroupedSumUDF([0.0, 1.0])
    with pytest.raises(UDFError, match="no frame belongs to a class"):
        GroupedSumUDF([-1, -1])
    assert GroupedSumUDF([0, 5]).params.n == 6
