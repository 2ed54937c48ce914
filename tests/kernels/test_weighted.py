"""Weighted sums per frame against numpy."""

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.kernels.weighted import weighted_sum_sig, weighted_sum_sig_reference


@pytest.mark.parametrize("dtype", ["?", "u2", "f2", "f4", "c8"])
def test_any_dtype_and_layout(dtype):
    rng = np.random.default_rng(1)
    data = (rng.random((11, 6, 7)) * 100).astype(dtype)
    weights = rng.normal(size=(6, 7)) * (rng.random((6, 7)) < 0.7)
    for part in (np.s_[:, :], np.s_[2:5, :], np.s_[:, 3:5], np.s_[:1, :1], np.s_[:0, :]):
        tile, w = data[(slice(None), *part)], weights[part].reshape(-1)
        out = np.zeros(11, np.complex128 if dtype == "c8" else np.float64)
        expected = out.copy()
        weighted_sum_sig(tile, w, out)
        weighted_sum_sig_reference(tile, w, expected)
        np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)


def test_weight_zero_hides_nan():
    data = np.ones((9, 5))
    data[:, 2] = np.nan
    out = np.zeros(9)
    weighted_sum_sig(data, np.array([1.0, 1, 0, 1, 2]), out)
    assert out.tolist() == [5.0] * 9


def test_sizes_are_checked():
    with pytest.raises(DataError, match=r"weights \(4,\) or output \(2,\) have another size"):
        weighted_sum_sig(np.zeros((2, 5)), np.zeros(4), np.zeros(2))
