"""Limits and hues against numpy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from framefold.plot.colour import INVALID, hue_image, hue_rgb, limits, wheel


def test_limits_are_quantiles_of_valid_finite_values():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(100, 100))
    valid = rng.random((100, 100)) > 0.3
    values[0, :5] = np.nan, np.inf, -np.inf, 1e30, 1e30
    valid[0, 3:5] = False
    good = values[valid & np.isfinite(values)]
    assert limits(values, valid) == pytest.approx(tuple(np.quantile(good, (0.001, 0.999))))


def test_a_hot_pixel_does_not_hide_the_rest():
    values = np.random.default_rng(2).random((64, 64))
    values[3, 3] = 1e9
    assert limits(values)[1] < 1.01


def test_large_images_are_sampled():
    values = np.tile(np.arange(1024.0), (1024, 1))  # limits along the fast axis need all columns
    low, high = limits(values)
    assert low == pytest.approx(1, abs=2)
    assert high == pytest.approx(1022, abs=2)


@pytest.mark.parametrize(
    "values, options, expected",
    [
        (np.zeros((4, 4)), {}, (0.0, 1.0)),
        (np.full((4, 4), -3.0), {}, (-3.0, 0.0)),
        (np.full((4, 4), np.nan), {}, (0.0, 1.0)),
        (np.full((4, 4), np.nan), {"symmetric": True}, (-1.0, 1.0)),
        (np.zeros((4, 4)), {"positive": True}, (0.1, 1.0)),
        (np.full((4, 4), 5.0), {"positive": True}, (0.5, 5.0)),
        (np.array([[-1.0, 4.0]]), {"symmetric": True}, (-4.0, 4.0)),
        (np.array([[True, False]]), {}, (0.0, 1.0)),
    ],
)
def test_limits_of_odd_cases(values, options, expected):
    assert limits(values, **options) == pytest.approx(expected, rel=1e-2, abs=2e-3)


@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.floats()),
    st.booleans(),
    st.booleans(),
)
def test_limits_are_always_usable(values, symmetric, positive):
    values = np.clip(values, -1e300, 1e300)
    low, high = limits(values, symmetric=symmetric, positive=positive)
    assert np.isfinite([low, high]).all()
    assert low < high
    if positive and not symmetric:
        assert low > 0


def test_one_bright_pixel_in_an_empty_image_is_seen():
    values = np.zeros((256, 256))
    values[9, 9] = 7
    assert limits(values) == (0, 7)


def _luminance(rgb):
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_no_direction_is_brighter_than_another():
    rgb = hue_rgb(np.linspace(-np.pi, np.pi, 361), np.ones(361))
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    # CIE lightness; HSV spreads over 32 .. 97
    lightness = 116 * np.cbrt(_luminance(rgb)) - 16
    assert np.ptp(lightness) < 9


def test_no_hue_is_clipped():
    rgb = hue_rgb(np.linspace(-np.pi, np.pi, 361), np.ones(361))
    assert rgb.min() > 0.001
    assert rgb.max() < 0.999


def test_brightness_zero_is_black_and_angles_are_periodic():
    assert np.allclose(hue_rgb(np.array([0.3, 2.0]), np.zeros(2)), 0)
    a = hue_rgb(np.array([0.7]), np.array([0.5]))
    assert np.allclose(a, hue_rgb(np.array([0.7 + 2 * np.pi]), np.array([0.5])))


def test_invalid_and_nan_pixels_are_grey():
    z = np.array([[1 + 1j, np.nan], [1j, 2]])
    valid = np.array([[True, True], [False, True]])
    rgb = hue_image(z, valid, 2.0)
    assert np.allclose(rgb[0, 1], INVALID)
    assert np.allclose(rgb[1, 0], INVALID)
    assert not np.allclose(rgb[0, 0], INVALID)


def test_the_wheel_shows_the_colours_of_the_picture():
    n = 65
    disk = wheel(n)
    up = hue_image(np.array([[0.75j]]), np.ones((1, 1), bool), 1.0)[0, 0]
    assert np.allclose(disk[n // 8, n // 2, :3], up)
    assert disk[0, 0, 3] == 0
    assert disk[n // 2, n // 2, 3] == 1
