"""Variance sums against exact integers, two-pass numpy and each other, at hard offsets."""

from fractions import Fraction

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.kernels import stddev


def variance_sums(frames, cuts):
    """Return sum and M2 of `frames`, folded in tiles that end at `cuts`, by the kernel for the dtype."""
    sig = frames.shape[1:]
    edges = [0, *cuts, len(frames)]
    tiles = [frames[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]
    if stddev.is_short(frames.dtype):
        s1, s2 = np.zeros(sig, np.int64), np.zeros(sig, np.int64)
        for tile in tiles:
            stddev.power_sums(tile, s1, s2)
        n = np.full(sig, len(frames), np.int64)
        return s1, stddev.moments_of_power_sums(n, s1, s2)
    shift = stddev.first_mean(tiles[0])
    s1, s2 = np.zeros_like(shift), np.zeros_like(shift)
    for tile in tiles:
        stddev.deviation_sums(tile, shift, s1, s2)
    return stddev.moments_of_deviations(len(frames), shift, s1, s2)


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i2", "u4", "f2", "f4", "c8"])
def test_any_dtype_and_layout(dtype):
    rng = np.random.default_rng(1)
    data = rng.integers(0, 100, (45, 6, 5)).astype(dtype)
    if np.dtype(dtype).kind == "c":
        data += 1j * rng.normal(size=data.shape)
    for frames in (data, data[:, 2:5], data[:, :, 1:3], data[:1], data[:, :1, :1], data.reshape(45, 30)):
        for cuts in ([], [1], [8, 41]):
            if cuts and cuts[-1] >= len(frames):
                continue
            total, m2 = variance_sums(frames, cuts)
            expected_sum, expected_m2 = stddev.moments_reference(frames)
            np.testing.assert_allclose(total, expected_sum, rtol=1e-13)
            np.testing.assert_allclose(m2, expected_m2, rtol=1e-12, atol=1e-9 if len(frames) == 1 else 0)


@pytest.mark.parametrize("dtype", ["u2", "i2"])
@pytest.mark.parametrize("value", [0, 8191, 8192, 30000])
def test_exact_where_32_bit_sums_would_overflow(dtype, value):
    """Values around the limit of the fast path, and extremes in one frame of many."""
    rng = np.random.default_rng(2)
    info = np.iinfo(dtype)
    data = np.full((70, 5), value, dtype) - rng.integers(0, 2, (70, 5)).astype(dtype) * (value > 0)
    data[33, 2], data[41, 3] = info.max, info.min
    s1, s2 = np.zeros(5, np.int64), np.zeros(5, np.int64)
    for tile in (data[:37], data[37:]):
        stddev.power_sums(tile, s1, s2)
    wide = data.astype(object)
    assert s1.tolist() == wide.sum(axis=0).tolist()
    assert s2.tolist() == (wide**2).sum(axis=0).tolist()
    m2 = stddev.moments_of_power_sums(np.full(5, 70), s1, s2)
    exact = [
        float(sum((Fraction(int(x)) - Fraction(int(s), 70)) ** 2 for x in col))
        for col, s in zip(data.T, s1, strict=True)
    ]
    np.testing.assert_allclose(m2, exact, rtol=1e-14)


@pytest.mark.parametrize("step", [-1, 1, 3])
def test_one_frame_in_a_million_that_differs_by_one(step):
    n, value = 10**6, 60000
    s1, s2 = n * value + step, (n - 1) * value**2 + (value + step) ** 2
    m2 = stddev.moments_of_power_sums(np.array([n]), np.array([s1]), np.array([s2]))
    assert m2[0] == pytest.approx(float(step**2 * Fraction(n - 1, n)), rel=1e-15)


def test_more_pixels_than_a_block_with_one_bright_block():
    data = np.ones((40, 3 * 8192 + 7), np.uint16)
    data[::2, 8192 + 5] = 60000
    s1, s2 = np.zeros(data.shape[1], np.int64), np.zeros(data.shape[1], np.int64)
    expected = s1.copy(), s2.copy()
    stddev.power_sums(data, s1, s2)
    stddev.power_sums_reference(data, *expected)
    np.testing.assert_array_equal(s1, expected[0])
    np.testing.assert_array_equal(s2, expected[1])


@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
def test_accuracy_at_a_mean_of_1e5_standard_deviations(dtype):
    rng = np.random.default_rng(4)
    n = 3000
    if dtype == "u2":
        data = (60000 + rng.integers(0, 2, (n, 4))).astype(dtype)
    elif dtype == "f4":
        data = (2.0**16 + rng.integers(0, 3, (n, 4))).astype(dtype)
    else:
        data = 1e5 + rng.normal(size=(n, 4))
    exact = []
    for column in data.T:
        values = [Fraction(float(x)) for x in column]
        mean = sum(values) / n
        exact.append(float(sum((v - mean) ** 2 for v in values)))
    _, m2 = variance_sums(data, [7, 100, 1500])
    np.testing.assert_allclose(m2, exact, rtol=1e-11)
    # in two partitions, merged
    if dtype != "u2":
        parts = [variance_sums(part, [7]) for part in (data[:1000], data[1000:])]
        counts = [np.full(4, 1000), np.full(4, 2000)]
        stddev.merge_moments(counts[0], *parts[0], counts[1], *parts[1])
        np.testing.assert_allclose(parts[0][1], exact, rtol=1e-11)
        np.testing.assert_array_equal(counts[0], 3000)


def test_merge_with_different_counts_per_pixel():
    rng = np.random.default_rng(5)
    data = rng.normal(size=(20, 3)) + 1j * rng.normal(size=(20, 3))
    dest = [np.zeros(3, np.int64), np.zeros(3, np.complex128), np.zeros(3)]
    for a, b, pixels in ((0, 7, [0, 1]), (7, 20, [1, 2]), (0, 0, [0])):
        part = [np.zeros(3, np.int64), np.zeros(3, np.complex128), np.zeros(3)]
        if b > a:
            part[0][pixels] = b - a
            part[1][pixels], part[2][pixels] = stddev.moments_reference(data[a:b, pixels])
        stddev.merge_moments(*dest, *part)
    assert dest[0].tolist() == [7, 20, 13]
    for j, column in enumerate([data[:7, 0], data[:, 1], data[7:, 2]]):
        total, m2 = stddev.moments_reference(column)
        np.testing.assert_allclose([dest[1][j], dest[2][j]], [total, m2], rtol=1e-13)


def test_nan_stays_in_its_pixel():
    data = np.ones((9, 3), np.float32)
    data[5, 1] = np.nan
    total, m2 = variance_sums(data, [4])
    np.testing.assert_array_equal(total, [9, np.nan, 9])
    np.testing.assert_array_equal(m2, [0, np.nan, 0])


def test_wrong_arrays_are_refused():
    with pytest.raises(DataError, match="integers of up to 16 bits, not float32"):
        stddev.power_sums(np.zeros((2, 3), np.float32), np.zeros(3, np.int64), np.zeros(3, np.int64))
    with pytest.raises(
        DataError, match=r"a tile of 3 pixels needs C-contiguous int64 sums.*not int64 \(4,\)"
    ):
        stddev.power_sums(np.zeros((2, 3), np.uint8), np.zeros(4, np.int64), np.zeros(3, np.int64))
