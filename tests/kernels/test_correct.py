"""The correction kernels against loops over pixels."""

import numpy as np
import pytest

from framefold.kernels import correct


def slow_neighbours(bad):
    """Return {pixel: set of neighbours} by the definition: the smallest box with a good pixel."""
    out = {}
    for pixel in map(tuple, np.argwhere(bad)):
        for radius in range(1, max(bad.shape) + 1):
            box = [
                q
                for q in np.ndindex(bad.shape)
                if not bad[q] and max(abs(a - b) for a, b in zip(pixel, q)) <= radius
            ]
            if box:
                break
        out[pixel] = {int(np.ravel_multi_index(q, bad.shape)) for q in box}
    return out


@pytest.mark.parametrize("shape", [(7,), (5, 6), (3, 4, 3)])
@pytest.mark.parametrize("density", [0.1, 0.6, 0.95])
def test_neighbours_are_the_smallest_box_with_good_pixels(shape, density):
    rng = np.random.default_rng(7)
    bad = rng.random(shape) < density
    bad.flat[0] = False
    pixels, starts, sources = correct.good_neighbours(bad)
    expected = slow_neighbours(bad)
    assert [tuple(map(int, np.unravel_index(p, shape))) for p in pixels] == sorted(
        tuple(map(int, k)) for k in expected
    )
    for k, p in enumerate(pixels):
        where = tuple(map(int, np.unravel_index(p, shape)))
        assert set(sources[starts[k] : starts[k + 1]].tolist()) == expected[where]


def test_a_wide_gap_takes_its_rims():
    bad = np.zeros((4, 20), bool)
    bad[:, 5:14] = True
    pixels, starts, sources = correct.good_neighbours(bad)
    middle = list(pixels).index(9)  # row 0, column 9: five columns to either rim
    cols = set((sources[starts[middle] : starts[middle + 1]] % 20).tolist())
    assert cols == {4, 14}


def test_all_bad_has_no_neighbours():
    pixels, starts, sources = correct.good_neighbours(np.ones((2, 3), bool))
    assert len(pixels) == 6
    assert not starts.any()
    assert not sources.size


@pytest.mark.parametrize("dtype", ["?", "u2", "f2", "f8", "c8"])
@pytest.mark.parametrize("depth", [1, 7])
def test_linear_part(dtype, depth):
    rng = np.random.default_rng(depth)
    raw = (rng.random((depth, 3, 5)) * 2).astype(dtype)
    dark, gain = rng.random(15), rng.random(15)
    out = np.empty(raw.shape, np.result_type(raw, np.float64))
    correct.correct(raw, dark, gain, out)
    expected = (raw.astype(out.dtype) - dark.reshape(3, 5)) * gain.reshape(3, 5)
    np.testing.assert_allclose(out, expected, rtol=1e-14)


def test_more_pixels_than_four_frames_of_cache():
    raw = np.arange(5 * 40000, dtype=np.uint32).reshape(5, 40000)
    dark, gain = np.full(40000, 3.0), np.full(40000, 2.0)
    out = np.empty(raw.shape)
    correct.correct(raw, dark, gain, out)
    np.testing.assert_array_equal(out, (raw.astype(float) - 3) * 2)


def test_gain_stages():
    rng = np.random.default_rng(8)
    raw = rng.integers(0, 2**16, (6, 50), dtype=np.uint16)
    pedestal, gain = rng.random((3, 50)), rng.random((3, 50))
    out = np.empty((6, 50))
    correct.correct_stages(raw, pedestal, gain, out)
    for (i, j), value in np.ndenumerate(raw):
        code, adc = divmod(int(value), 2**14)
        if code == 2:
            assert np.isnan(out[i, j])
        else:
            g = {0: 0, 1: 1, 3: 2}[code]
            assert out[i, j] == pytest.approx((adc - pedestal[g, j]) * gain[g, j], rel=1e-14)
