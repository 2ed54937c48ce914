"""Conversion of tiles against numpy."""

import numpy as np
import pytest

from framefold.kernels.convert import convert


@pytest.mark.parametrize(
    ("dtype", "out"),
    [("u2", "f4"), ("i8", "f4"), ("f4", "f8"), ("?", "f4"), ("f2", "f4"), ("c8", "c16"), ("u1", "u4")],
)
def test_any_dtype_and_layout(dtype, out):
    data = (np.random.default_rng(1).random((11, 6, 7)) * 100).astype(dtype)
    for tile in (data, data[:, 2:4], data[:, :, 1:3], data[:3], data[:0], data[:, :1, :1]):
        got = np.full(tile.shape, -1 if out != "u4" else 7).astype(out)
        convert(tile, got)
        np.testing.assert_array_equal(got, tile.astype(out))
