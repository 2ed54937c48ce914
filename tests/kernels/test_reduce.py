"""Sums against numpy, over dtypes, layouts and the sizes at which the loops change."""

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.kernels.reduce import sum_frames, sum_frames_reference, sum_sig, sum_sig_reference, wide_dtype

DTYPES = ["?", "u2", "u4", "u8", "i1", "i2", "f2", "f4", "c8"]


def random(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "ui":
        info = np.iinfo(dtype)
        return rng.integers(
            info.min // 64 if dtype.itemsize == 8 else info.min,
            info.max // 64 if dtype.itemsize == 8 else info.max,
            shape,
            dtype=dtype,
            endpoint=True,
        )
    if dtype.kind == "c":
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


def equal(a, b):
    if a.dtype.kind in "ui":
        np.testing.assert_array_equal(a, b)
    else:
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_any_dtype_and_layout(dtype):
    data = random((19, 6, 11), dtype)
    tiles = [
        data,
        data[:, 2:5],
        data[::2],
        data[:, :, 3:7],
        data[:3],
        data[:0],
        data[:, :1, :1],
        data.reshape(19, 66),
    ]
    for tile in tiles:
        acc = np.zeros(tile.shape[1:], wide_dtype(dtype))
        expected = acc.copy()
        for _ in range(2):
            sum_frames(tile, acc)
            sum_frames_reference(tile, expected)
        equal(acc, expected)
        out = np.zeros(tile.shape[0], wide_dtype(dtype))
        expected = out.copy()
        for _ in range(2):
            sum_sig(tile, out)
            sum_sig_reference(tile, expected)
        equal(out, expected)


@pytest.mark.parametrize(("dtype", "value"), [("u2", 65535), ("i2", -32768), ("u1", 255), ("i1", -128)])
def test_full_scale_does_not_overflow(dtype, value):
    deep = np.full((65537 + 3, 2), value, dtype)  # beyond one flush of 32 bits
    acc = np.zeros(2, wide_dtype(dtype))
    sum_frames(deep, acc)
    assert acc.tolist() == [value * len(deep)] * 2
    out = np.zeros(2, wide_dtype(dtype))
    sum_sig(np.ascontiguousarray(deep.T), out)
    assert out.tolist() == [value * len(deep)] * 2


def test_more_pixels_than_a_block():
    data = random((9, 8192 * 2 + 5), "u2")
    acc = np.zeros(data.shape[1], np.uint64)
    sum_frames(data, acc)
    np.testing.assert_array_equal(acc, data.sum(axis=0, dtype="u8"))


def test_float32_accumulates_in_double():
    data = np.full((1000, 3), 16777216.0, np.float32)
    data[1::2] = 1.0
    acc = np.zeros(3)
    sum_frames(data, acc)
    assert acc.tolist() == [500 * 16777216.0 + 500] * 3


def test_nan_and_inf_go_through():
    data = np.ones((9, 4), np.float32)
    data[3, 1], data[8, 2] = np.nan, np.inf
    acc, out = np.zeros(4), np.zeros(9)
    sum_frames(data, acc)
    sum_sig(data, out)
    np.testing.assert_array_equal(acc, [9, np.nan, np.inf, 9])
    np.testing.assert_array_equal(np.isnan(out), np.arange(9) == 3)


def test_read_only_and_view_results():
    data = random((8, 5, 4), "u2")
    data.flags.writeable = False
    big = np.zeros((7, 4), np.uint64)
    sum_frames(data[:, :3], big[2:5])
    np.testing.assert_array_equal(big[2:5], data[:, :3].sum(axis=0))
    assert not big[:2].any() and not big[5:].any()


def test_wrong_accumulators_are_refused():
    data = np.zeros((3, 4), np.uint16)
    with pytest.raises(DataError, match="uint16 accumulate in uint64, the accumulator is float32"):
        sum_frames(data, np.zeros(4, np.float32))
    with pytest.raises(DataError, match=r"tile \(3, 4\) and accumulator \(5,\)"):
        sum_frames(data, np.zeros(5, np.uint64))
    with pytest.raises(DataError, match=r"tile \(3, 4\) and output \(4,\)"):
        sum_sig(data, np.zeros(4, np.uint64))
    with pytest.raises(DataError, match="C-contiguous"):
        sum_frames(data, np.zeros((4, 2), np.uint64)[:, 0])
    with pytest.raises(DataError, match="cannot sum"):
        wide_dtype("M8[s]")
