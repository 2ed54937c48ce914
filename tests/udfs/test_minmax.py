"""Extremes per pixel against numpy."""

import numpy as np
import pytest

from framefold.errors import UDFError
from framefold.udfs.minmax import MaxUDF, MinUDF


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "f4"])
@pytest.mark.parametrize("tile", [None, (2, 3, 7)])
def test_against_numpy(run, dtype, tile):
    data = (np.random.default_rng(2).normal(size=(4, 5, 6, 7)) * 50).astype(dtype)
    if dtype == "f4":
        data[1, 2, 3, 4] = np.nan
    for udf, name, truth in ((MaxUDF(), "maximum", np.max), (MinUDF(), "minimum", np.min)):
        got = run(udf, data, tile=tile)[name]
        assert got.dtype == data.dtype
        np.testing.assert_array_equal(got.data, truth(data, axis=(0, 1)))


def test_nothing_selected_is_invalid(run):
    roi = np.zeros((4,), bool)
    got = run(MaxUDF(), np.ones((4, 2, 3), np.float32), roi=roi)["maximum"]
    assert np.isnan(got.data).all()
    assert not got.valid_mask.any()
    assert not run(MinUDF(), np.ones((4, 2, 3), np.uint8), roi=roi)["minimum"].data.any()


def test_complex_is_refused(run):
    with pytest.raises(UDFError, match="MaxUDF needs bool, integer or float data, not complex64"):
        run(MaxUDF(), np.ones((4, 2, 3), np.complex64))
