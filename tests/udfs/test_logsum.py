"""LogSum against the formula."""

import numpy as np
import pytest

from framefold.errors import UDFError
from framefold.udfs.logsum import LogSumUDF


@pytest.mark.parametrize("dtype", ["?", "u2", "i2", "u4", "f4"])
def test_against_the_formula(run, dtype):
    data = (np.random.default_rng(9).normal(size=(12, 6, 7)) * 3000).astype(dtype)
    if dtype == "i2":
        data[0, 0, 0], data[0, 0, 1] = 32767, -32768
    wide = data.astype("f8")
    expected = np.log(wide - wide.min(axis=(1, 2), keepdims=True) + 1).sum(axis=0)
    got = run(LogSumUDF(), data)["logsum"]
    np.testing.assert_allclose(got.data, expected, rtol=1e-12)


def test_complex_is_refused(run):
    with pytest.raises(UDFError, match="LogSumUDF needs bool, integer or float data, not complex64"):
        run(LogSumUDF(), np.ones((4, 2, 3), np.complex64))
