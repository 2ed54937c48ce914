"""Histogram and percentiles against numpy over all frames."""

import numpy as np
import pytest

from framefold.errors import UDFError
from framefold.udfs.histogram import HistogramUDF
from framefold.udfs.percentile import PercentileUDF


def frames(dtype):
    return (np.random.default_rng(21).gamma(2, 20, (4, 5, 6, 7)) - 20 * (np.dtype(dtype).kind != "u")).astype(
        dtype
    )


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4"])
@pytest.mark.parametrize("bins", [7, [0, 3, 10, 11.5, 200]])
@pytest.mark.parametrize("tile", [None, (3, 2, 7)])
def test_against_numpy(run, dtype, bins, tile):
    data = frames(dtype)
    roi = np.random.default_rng(2).random((4, 5)) < 0.5
    limits = [(-5.0, 60.0)] + ([None] if np.dtype(dtype).itemsize <= 2 or not isinstance(bins, int) else [])
    for limit in limits:
        for chosen in (None, roi):
            got = run(HistogramUDF(bins, limit), data, roi=chosen, tile=tile)
            flat = (data if chosen is None else data[chosen]).astype("f8")
            counts, edges = np.histogram(flat, bins=bins, range=limit)
            np.testing.assert_array_equal(got["counts"].data, counts)
            np.testing.assert_allclose(got["edges"].data, edges, rtol=1e-15)


def test_range_is_needed_for_floats(run):
    with pytest.raises(UDFError, match=r"HistogramUDF of float32 data needs the ends .* range=\(low, high\)"):
        run(HistogramUDF(), frames("f4"))
    with pytest.raises(UDFError, match=r"PercentileUDF of float32 data needs range=\(low, high\)"):
        run(PercentileUDF(), frames("f4"))
    with pytest.raises(UDFError, match="not complex64"):
        run(HistogramUDF(range=(0, 1)), np.zeros((2, 3, 3), np.complex64))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: HistogramUDF(0), "at least one bin, got bins=0"),
        (lambda: HistogramUDF([3, 2]), "edges must ascend"),
        (lambda: HistogramUDF(range=(0, np.nan)), "range must be two finite"),
        (lambda: PercentileUDF(101), "q must lie within 0 .. 100, got 101"),
        (lambda: PercentileUDF(range=(1, 1)), "range must be two finite ascending"),
    ],
)
def test_parameters(make, match):
    with pytest.raises(UDFError, match=match):
        make()


@pytest.mark.parametrize("dtype", ["?", "u1", "i2"])
def test_percentiles_of_short_integers_are_exact(run, dtype):
    data = frames(dtype)
    q = [0, 1, 33.3, 50, 99.9, 100]
    got = run(PercentileUDF(q), data, tile=(3, 2, 7))
    np.testing.assert_allclose(got["percentile"].data, np.percentile(data.astype("i8"), q), rtol=1e-12)
    assert got["error"].data.tolist() == [0]


def test_percentiles_of_floats_within_a_bin(run):
    data = frames("f4")
    low, high = float(data.min()), float(data.max())
    got = run(PercentileUDF([0, 50, 90, 100], range=(low, high)), data)
    error = got["error"].data[0]
    assert error == pytest.approx((high - low) / 65536)
    np.testing.assert_allclose(
        got["percentile"].data, np.percentile(data, [0, 50, 90, 100]), rtol=0, atol=error
    )


def test_no_frames(run):
    got = run(PercentileUDF(50), frames("u1"), roi=np.zeros((4, 5), bool))["percentile"]
    assert np.isnan(got.data).all()
    assert not got.valid_mask.any()
    assert not run(HistogramUDF(), frames("u1"), roi=np.zeros((4, 5), bool))["counts"].data.any()
