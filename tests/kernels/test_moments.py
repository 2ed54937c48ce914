"""Moments against numpy in float64."""

import numpy as np
import pytest

from framefold.kernels.mask_runs import runs_of_dense
from framefold.kernels.moments import add_moments, moments_reference

SIG = (11, 17)
CENTER = (4.5, 8.25)


def disk(r):
    y, x = np.ogrid[: SIG[0], : SIG[1]]
    return (y - CENTER[0]) ** 2 + (x - CENTER[1]) ** 2 <= r * r


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4", "f8"])
@pytest.mark.parametrize("mask", [disk(100), disk(4), disk(5) & ~disk(2)], ids=["whole", "disk", "ring"])
def test_parts_add_up(dtype, mask):
    data = np.random.default_rng(0).integers(0, 120, (7, *SIG)).astype(dtype)
    out = np.zeros((7, 3))
    for rows in (slice(0, 3), slice(3, 11)):
        for cols in (slice(0, 8), slice(8, 17)):
            runs = runs_of_dense(mask[None, rows, cols])
            origin = (rows.start - CENTER[0], cols.start - CENTER[1])
            add_moments(data[:, rows, cols], runs, origin, out)
    np.testing.assert_allclose(out, moments_reference(data, mask, CENTER), rtol=1e-13, atol=1e-9)


def test_error_of_the_centre_of_mass():
    rng = np.random.default_rng(1)
    sig = (256, 256)
    data = np.zeros((4, *sig), dtype=np.uint16)
    y, x = rng.integers(0, 256, (2, 4, 10_000))
    for f in range(4):
        np.add.at(data[f], (y[f], x[f]), 1)
    out = np.zeros((4, 3))
    add_moments(data, runs_of_dense(np.ones((1, *sig), bool)), (-128.0, -128.0), out)
    np.testing.assert_allclose(out[:, 1] / out[:, 0] + 128, y.mean(1), atol=1e-12, rtol=0)
    np.testing.assert_allclose(out[:, 2] / out[:, 0] + 128, x.mean(1), atol=1e-12, rtol=0)


def test_empty():
    out = np.zeros((2, 3))
    add_moments(np.ones((2, *SIG), "u2"), runs_of_dense(np.zeros((1, *SIG), bool)), (0.0, 0.0), out)
    assert not out.any()


def test_largest_values_do_not_overflow():
    data = np.full((1, 300, 400), 65535, dtype=np.uint16)
    out = np.zeros((1, 3))
    add_moments(data, runs_of_dense(np.ones((1, 300, 400), bool)), (0.0, 0.0), out)
    total = 65535 * 300 * 400
    np.testing.assert_array_equal(out, [[total, total * 149.5, total * 199.5]])
