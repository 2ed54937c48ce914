"""Every built-in reduction gives the same answer under any partitions, tiles, orders, ROIs and corrections."""

import numpy as np
import pytest

from framefold.testing.check_udf import check_udf
from framefold.udfs import (
    AutoUDF,
    FrameStatsUDF,
    GroupedSumUDF,
    HistogramUDF,
    LogSumUDF,
    MaxUDF,
    MeanUDF,
    MinUDF,
    MonitorUDF,
    PercentileUDF,
    PickUDF,
    StdDevUDF,
    SumSigUDF,
    SumUDF,
)  # fmt: skip


@pytest.mark.parametrize(
    "udf",
    [
        SumUDF(), SumUDF(dtype="float32"), SumSigUDF(), MeanUDF(), MaxUDF(), MinUDF(), MonitorUDF(), LogSumUDF(),
        PickUDF(), FrameStatsUDF(saturation=100), AutoUDF(np.sum), AutoUDF(np.max, monitor=True),
        AutoUDF(np.ptp), AutoUDF(np.mean),
    ],
    ids=lambda u: type(u).__name__,
)  # fmt: skip
def test_any_cut(udf):
    check_udf(udf, dtype="uint16", n=10, rtol=1e-6)


@pytest.mark.parametrize("udf", [StdDevUDF(), AutoUDF(np.std)], ids=lambda u: type(u).__name__)
def test_variance(udf):
    # where a variance is 0, rounding decides: relative to the largest value of the result
    check_udf(udf, dtype="uint16", n=10, rtol=1e-6)


@pytest.mark.parametrize(
    "udf",
    [HistogramUDF(9, (0, 100)), PercentileUDF((10, 50, 99), (-50, 300))],
    ids=lambda u: type(u).__name__,
)
def test_counts(udf):
    check_udf(udf, dtype="uint16", n=10)


def test_groups():
    labels = np.random.default_rng(0).integers(-1, 3, (3, 4))
    check_udf(GroupedSumUDF(labels, 3), shape=(3, 4, 5, 6), dtype="uint16", n=10)


@pytest.mark.slow
@pytest.mark.parametrize(
    "udf",
    [SumUDF(), MaxUDF(), StdDevUDF(), FrameStatsUDF(), AutoUDF(np.mean)],
    ids=lambda u: type(u).__name__,
)
def test_any_cut_and_dtype(udf):
    check_udf(udf, n=60, rtol=1e-6)
