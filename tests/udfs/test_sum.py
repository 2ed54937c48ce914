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


def test_with_corrections_the_data_are_float(run):
    data = frames()
    dark = np.full((6, 7), 3.0)
    got = run(SumUDF(), data, corrections=Corrections(dark=dark), tile=(3, 2, 7))["intensity"]
    assert got.dtype == np.float64
    np.testing.assert_allclose(got.data, (data - 3.0).reshape(-1, 6, 7).sum(axis=0))


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
