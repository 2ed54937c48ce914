"""Sums and means over cuts, ROIs and dtypes against numpy."""

import numpy as np
import pytest

from framefold.errors import UDFError
from framefold.udfcore.corrections import Corrections
from framefold.udfs.mean import MeanUDF
from framefold.udfs.sum import SumUDF
from framefold.udfs.sumsig import SumSigUDF

TILES = [None, (2, 3, 7), (5, 2, 3), (100, 6, 7)]


def frames(dtype="u2", nav=(4, 5), sig=(6, 7)):
    rng = np.random.default_rng(11)
    data = rng.integers(0, 120, (*nav, *sig)).astype(dtype)
    return data + (1j * rng.integers(0, 9, data.shape)).astype(dtype) if np.dtype(dtype).kind == "c" else data


@pytest.mark.parametrize("dtype", ["u2", "i4", "f4", "c8"])
@pytest.mark.parametrize("tile", TILES)
def test_against_numpy(run, dtype, tile):
    data = frames(dtype)
    wide = data.astype({"u": "u8", "i": "i8", "f": "f8", "c": "c16"}[data.dtype.kind])
    roi = np.random.default_rng(1).random((4, 5)) < 0.5
    for chosen in (None, roi):
        flat = wide.reshape(-1, 6, 7) if chosen is None else wide[chosen]
        got = run(SumUDF(), data, roi=chosen, tile=tile)["intensity"]
        assert got.dtype == wide.dtype
        np.testing.assert_array_equal(got.data, flat.sum(axis=0))
        got = run(SumSigUDF(), data, roi=chosen, tile=tile)["intensity"]
        assert got.dtype == wide.dtype
        np.testing.assert_array_equal(got.raw_data, flat.sum(axis=(1, 2)))
        assert got.valid_mask.sum() == len(flat)
        got = run(MeanUDF(), data, roi=chosen, tile=tile)["mean"]
        np.testing.assert_allclose(got.data, flat.mean(axis=0), rtol=1e-15)


@pytest.mark.parametrize("udf", [SumUDF, SumSigUDF])
def test_dtype_casts_the_result(run, udf):
    data = frames()
    exact = run(udf(), data)["intensity"].data
    got = run(udf(dtype="float32"), data)
    assert list(got) == ["intensity"]
    assert got["intensity"].dtype == np.float32
    np.testing.assert_array_equal(got["intensity"].data, exact.astype("f4"))
    with pytest.raises(UDFError, match="'intensity' is computed as complex128 from data of dtype complex64"):
        run(udf(dtype="float32"), frames("c8"))
    with pytest.raises(UDFError, match="dtype=int32 would lose it"):
        run(udf(dtype="int32"), frames("f4"))


def test_mean_dtype(run):
    data = frames()
    got = run(MeanUDF(dtype="float32"), data)["mean"]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got.data, data.reshape(-1, 6, 7).mean(axis=0), rtol=1e-6)
    with pytest.raises(UDFError, match="'mean' is computed as float64"):
        run(MeanUDF(dtype="uint16"), data)


@pytest.mark.parametrize("dtype", ["u2", "c8"])
@pytest.mark.parametrize("tile", TILES)
def test_corrections(run, dtype, tile):
    data = frames(dtype)
    rng = np.random.default_rng(3)
    given = Corrections(rng.random((6, 7)) * 9, rng.random((6, 7)) + 0.5, rng.random((6, 7)) < 0.3)
    corrected = given.correct(data.reshape(-1, 6, 7), "c16" if dtype == "c8" else "f8")
    roi = rng.random((4, 5)) < 0.5
    for chosen in (None, roi):
        flat = corrected if chosen is None else corrected[chosen.reshape(-1)]
        got = run(SumUDF(), data, corrections=given, tile=tile, roi=chosen)["intensity"]
        assert got.dtype == flat.dtype
        np.testing.assert_allclose(got.data, flat.sum(axis=0), rtol=1e-12)
        got = run(MeanUDF(), data, corrections=given, tile=tile, roi=chosen)["mean"]
        np.testing.assert_allclose(got.data, flat.mean(axis=0), rtol=1e-12)
        got = run(SumSigUDF(), data, corrections=given, tile=tile, roi=chosen)["intensity"]
        np.testing.assert_allclose(got.raw_data, flat.sum(axis=(1, 2)), rtol=1e-12)
        assert got.dtype == flat.dtype
    assert run(SumUDF(dtype="complex64"), data, corrections=given)["intensity"].dtype == np.complex64


def test_gain_stages_and_transforms_leave_the_corrections_to_the_engine(run):
    from framefold.udfcore.pre import Crop

    rng = np.random.default_rng(4)
    data = frames()
    stages = Corrections(gain_stages=(rng.random((3, 6, 7)), rng.random((3, 6, 7))))
    expected = stages.correct(data.reshape(-1, 6, 7), "f8").sum(axis=0)
    np.testing.assert_allclose(run(SumUDF(), data, corrections=stages)["intensity"].data, expected, rtol=1e-5)
    given = Corrections(rng.random((6, 7)) * 9, rng.random((6, 7)) + 0.5, rng.random((6, 7)) < 0.3)
    expected = given.correct(data.reshape(-1, 6, 7), "f8").sum(axis=0)[1:4, 2:]
    crop = Crop((slice(1, 4), slice(2, 7)))
    got = run(SumUDF(), data, corrections=given, pre=(crop,))["intensity"].data
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("nav", [(3,), (2, 2, 2), ()])
def test_other_numbers_of_axes(run, nav):
    data = frames(nav=nav, sig=(9,))
    flat = data.reshape(-1, 9)
    np.testing.assert_array_equal(run(SumUDF(), data, sig_dims=1)["intensity"].data, flat.sum(axis=0))
    np.testing.assert_array_equal(run(SumSigUDF(), data, sig_dims=1)["intensity"].data, data.sum(axis=-1))
    one = frames(nav=nav, sig=(1, 1))
    np.testing.assert_array_equal(run(SumUDF(), one)["intensity"].data, one.reshape(-1, 1, 1).sum(axis=0))


def test_nothing_selected(run):
    none = np.zeros((4, 5), bool)
    assert not run(SumUDF(), frames(), roi=none)["intensity"].data.any()
    assert run(SumSigUDF(), frames(), roi=none)["intensity"].raw_data.shape == (0,)
    mean = run(MeanUDF(), frames(), roi=none)["mean"]
    assert np.isnan(mean.data).all()
    assert not mean.valid_mask.any()


def test_sum_per_frame_where_pixels_are_replaced_by_a_value_or_cannot_be(run):
    data = frames("f4")
    data[:, :, 2, 3] = np.nan  # under an excluded pixel
    bad = np.zeros((6, 7), bool)
    bad[2, 3] = bad[0, 0] = True
    for given in (Corrections(2.0, 1.5, bad), Corrections(2.0, 1.5, bad, mask_value=4)):
        expected = given.correct(data.reshape(-1, 6, 7), "f8").sum(axis=(1, 2))
        got = run(SumSigUDF(), data, corrections=given, tile=(3, 2, 7))["intensity"]
        np.testing.assert_allclose(got.raw_data, expected, rtol=1e-12)
    none = run(SumSigUDF(), data, corrections=Corrections(excluded_pixels=np.ones((6, 7), bool)))["intensity"]
    assert np.isnan(none.data).all()
