"""Variance over cuts and orders against two-pass numpy, at means far above the deviation."""

import numpy as np
import pytest

from framefold.udfcore.corrections import Corrections
from framefold.udfs.stddev import StdDevUDF


def check(result, data, rtol=1e-11, ddof=0):
    flat = data.reshape(-1, *data.shape[-2:]).astype(np.complex128 if data.dtype.kind == "c" else np.float64)
    np.testing.assert_array_equal(result["num_frames"].data, [len(flat)])
    np.testing.assert_allclose(result["sum"].data, flat.sum(axis=0), rtol=1e-14)
    np.testing.assert_allclose(result["mean"].data, flat.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(result["varsum"].data, flat.var(axis=0) * len(flat), rtol=rtol, atol=1e-20)
    np.testing.assert_allclose(result["var"].data, flat.var(axis=0, ddof=ddof), rtol=rtol, atol=1e-20)
    np.testing.assert_allclose(result["std"].data, flat.std(axis=0, ddof=ddof), rtol=rtol, atol=1e-20)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4", "c8"])
@pytest.mark.parametrize("tile", [None, (2, 3, 7), (5, 4, 3)])
def test_against_numpy(run, dtype, tile):
    rng = np.random.default_rng(3)
    data = rng.integers(0, 100, (5, 8, 6, 7)).astype(dtype)
    if dtype == "c8":
        data += (1j * rng.normal(size=data.shape)).astype(dtype)
    roi = rng.random((5, 8)) < 0.6
    for partitions in (1, 4, 40):
        check(run(StdDevUDF(), data, tile=tile, partitions=partitions), data)
    check(run(StdDevUDF(ddof=1), data, tile=tile, roi=roi), data[roi], ddof=1)


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_counts_of_60000_with_a_deviation_below_one(run, dtype):
    rng = np.random.default_rng(4)
    data = (60000 + rng.integers(0, 3, (900, 3, 3))).astype(dtype)
    check(run(StdDevUDF(), data, partitions=7, tile=(16, 2, 3)), data)


def test_any_order_of_short_integers_gives_the_same_bits(run):
    data = np.random.default_rng(5).integers(0, 65535, (40, 4, 5)).astype("u2")
    first = run(StdDevUDF(), data, partitions=5)
    for order, partitions in (([4, 0, 3, 1, 2], 5), ([1, 0], 2)):
        other = run(StdDevUDF(), data, partitions=partitions, order=order)
        for name in first:
            np.testing.assert_array_equal(other[name].data, first[name].data)


def test_one_frame_and_no_frame(run):
    data = np.full((3, 2, 2), 7, np.uint8)
    one = run(StdDevUDF(), data, roi=np.array([0, 1, 0], bool))
    assert not one["std"].data.any()
    none = run(StdDevUDF(), data.astype("f4"), roi=np.zeros(3, bool))
    assert none["num_frames"].data.tolist() == [0]
    assert np.isnan(none["std"].data).all()
    assert not none["std"].valid_mask.any()
    assert np.isnan(run(StdDevUDF(ddof=1), data[:1])["var"].data).all()


def test_frames_that_are_missing_do_not_count(run):
    data = np.random.default_rng(6).integers(0, 9, (6, 2, 2)).astype("u1")
    valid = np.array([1, 1, 0, 1, 0, 1], bool)
    check(run(StdDevUDF(), data, valid=valid), data[valid])


def test_corrected_counts_of_60000_keep_their_deviation(run):
    rng = np.random.default_rng(7)
    data = (60000 + rng.integers(0, 3, (300, 3, 4))).astype("u2")
    given = Corrections(dark=0.125, gain=1.5, excluded_pixels=[(1, 1)])
    check(run(StdDevUDF(), data, corrections=given, tile=(16, 2, 4)), given.correct(data, np.float64))
