"""Moments within frames against numpy, in parts."""

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.kernels.frame_moments import add_frame_moments, add_frame_moments_reference
from framefold.kernels.logsum import add_logs, add_logs_reference, log_table


@pytest.mark.parametrize("dtype", ["?", "u2", "f2", "f8"])
def test_parts_of_frames(dtype):
    data = (np.random.default_rng(1).normal(size=(5, 6, 7)) * 3 + 60000 * (dtype == "f8")).astype(dtype)
    state = [np.zeros(5, np.int64), np.zeros(5), np.zeros(5)]
    reference = [a.copy() for a in state]
    for part in (data[:, :2], data[:, 2:], data[:, :, :0]):
        add_frame_moments(part, *state)
        if part.size:
            add_frame_moments_reference(part, *reference)
    wide = data.astype("f8").reshape(5, -1)
    for n, mean, m2 in (state, reference):
        assert (n == 42).all()
        np.testing.assert_allclose(mean, wide.mean(axis=1), rtol=1e-13)
        np.testing.assert_allclose(m2, wide.var(axis=1) * 42, rtol=1e-11)


def test_complex_is_refused():
    with pytest.raises(DataError, match="moments of frames need bool, integer or float data, not complex64"):
        add_frame_moments(np.zeros((1, 2), np.complex64), np.zeros(1, np.int64), np.zeros(1), np.zeros(1))


@pytest.mark.parametrize("dtype", ["i1", "f4"])
def test_logs(dtype):
    data = (np.random.default_rng(2).normal(size=(5, 6, 7)) * 30).astype(dtype)
    acc, expected = np.zeros((6, 7)), np.zeros((6, 7))
    add_logs(data, acc, log_table())
    add_logs_reference(data, expected)
    np.testing.assert_allclose(acc, expected, rtol=1e-13)
