"""Extremes against numpy, over dtypes and layouts, NaN included."""

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.kernels.minmax import highest, lowest, max_frames, max_sig, min_frames, min_sig


def data_of(dtype, shape):
    rng = np.random.default_rng(3)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "ui":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    return rng.normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["?", "u2", "i8", "f2", "f4"])
def test_any_dtype_and_layout(dtype):
    data = data_of(dtype, (13, 6, 50))
    for tile in [data, data[:, 2:5], data[:, :, 3:7], data[:1], data[:, :1, :1], data.reshape(13, 300)]:
        rows = tile.reshape(len(tile), -1)
        for frames, sig, start, truth in (
            (max_frames, max_sig, lowest(dtype), np.max),
            (min_frames, min_sig, highest(dtype), np.min),
        ):
            acc = np.full(tile.shape[1:], start, dtype)
            frames(tile[:5], acc)
            frames(tile[5:], acc)
            np.testing.assert_array_equal(acc, truth(tile, axis=0))
            out = np.full(len(tile), start, dtype)
            sig(rows[:, :200], out)
            sig(rows[:, 200:], out)
            np.testing.assert_array_equal(out, truth(rows, axis=1))


@pytest.mark.parametrize("dtype", ["f4"])
def test_nan_wins_in_any_position(dtype):
    data = data_of(dtype, (9, 131))
    data[4, 7] = data[8, 130] = data[0, 64] = np.nan
    data[5, 7], data[1, 3] = np.inf, -np.inf
    for frames, sig, start, truth in (
        (max_frames, max_sig, lowest(dtype), np.max),
        (min_frames, min_sig, highest(dtype), np.min),
    ):
        acc, out = np.full(131, start, dtype), np.full(9, start, dtype)
        frames(data, acc)
        sig(data, out)
        np.testing.assert_array_equal(acc, truth(data, axis=0))
        np.testing.assert_array_equal(out, truth(data, axis=1))


def test_no_frames_leave_the_start():
    acc = np.full((2, 3), lowest("u2"), np.uint16)
    max_frames(np.zeros((0, 2, 3), np.uint16), acc)
    assert not acc.any()


def test_complex_and_wrong_output_are_refused():
    with pytest.raises(DataError, match="complex64 has no order"):
        max_frames(np.zeros((2, 3), np.complex64), np.zeros(3, np.complex64))
    with pytest.raises(DataError, match=r"need a C-contiguous array of uint8 \(3,\), not uint16 \(3,\)"):
        min_frames(np.zeros((2, 3), np.uint8), np.zeros(3, np.uint16))
