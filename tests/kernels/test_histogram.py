"""Histogram kernels against numpy, at the edges of bins."""

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.kernels.grouped import sum_grouped, sum_grouped_reference
from framefold.kernels.histogram import (
    count_bins,
    count_values,
    count_values_reference,
    possible_values,
)


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "i2"])
def test_every_value(dtype):
    rng = np.random.default_rng(1)
    values = possible_values(dtype)
    data = rng.choice(values, (5, 3, 7)).astype(dtype)
    data[0, 0, :2] = values[0], values[-1]
    counts, expected = np.zeros(len(values), np.int64), np.zeros(len(values), np.int64)
    for tile in (data, data[:, 1:], data[:, :, :2], data[:0]):
        count_values(tile, counts)
        count_values_reference(tile, expected)
    np.testing.assert_array_equal(counts, expected)
    with pytest.raises(DataError, match="int64 counters, not int64"):
        count_values(data, np.zeros(3, np.int64))


@pytest.mark.parametrize("dtype", ["u4", "f4", "f8"])
@pytest.mark.parametrize(
    "edges", [np.linspace(0, 1, 11), np.linspace(-3, 50, 8), np.array([0.0, 1, 1.5, 40, 41])]
)
def test_bins(dtype, edges):
    rng = np.random.default_rng(2)
    data = (rng.random((4, 50)) * 60).astype(dtype)
    data[0, : len(edges)] = np.abs(edges).astype(dtype)  # exactly on edges
    if dtype != "u4":
        data[1, :3] = np.nan, np.inf, -np.inf
    counts, expected = np.zeros(len(edges) - 1, np.int64), np.zeros(len(edges) - 1, np.int64)
    count_bins(data, edges, counts)
    expected += np.histogram(data, bins=edges)[0]
    np.testing.assert_array_equal(counts, expected)


def test_groups():
    rng = np.random.default_rng(3)
    data = rng.integers(0, 9, (12, 4, 5)).astype("u2")
    labels = np.array([0, 0, 2, 2, 2, -1, 1, 0, 2, 2, -1, -1])
    acc, expected = np.zeros((3, 8, 5), np.uint64), np.zeros((3, 4, 5), np.uint64)
    sum_grouped(data, labels, acc[:, 2:6])
    sum_grouped_reference(data, labels, expected)
    np.testing.assert_array_equal(acc[:, 2:6], expected)
    wide = np.zeros((3, 4, 9), np.uint64)
    sum_grouped(data, labels, wide[:, :, 1:6])
    np.testing.assert_array_equal(wide[:, :, 1:6], expected)
    sum_grouped(data[:0], labels[:0], acc)
