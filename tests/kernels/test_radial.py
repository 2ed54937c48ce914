"""Radial sums against numpy and against areas known in closed form."""

import numpy as np
import pytest

from framefold.kernels.radial import add_radial, polar_radius, radial_bins, radial_reference, select_part

SIG = (33, 41)
CENTER = (15.3, 20.6)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_parts_add_up(split, dtype):
    data = np.random.default_rng(0).integers(0, 1000, (6, *SIG)).astype(dtype)
    entries = radial_bins(SIG, CENTER, 12, 14.0, split=split)
    total, square = np.zeros((2, 6, 12))
    for rows in (slice(0, 10), slice(10, 33)):
        for cols in (slice(0, 20), slice(20, 41)):
            bins = select_part(entries, SIG, (rows, cols))
            add_radial(data[:, rows, cols], bins, total, square)
    np.testing.assert_allclose(total, radial_reference(data, *entries, 12), rtol=1e-12)
    np.testing.assert_allclose(square, radial_reference(data.astype("f8") ** 2, *entries, 12), rtol=1e-12)


def test_index_map_is_the_floor_of_the_radius():
    pixel, bins, weights = radial_bins(SIG, CENTER, 7, 10.5)
    y, x = np.divmod(pixel, SIG[1])
    np.testing.assert_array_equal(bins, np.floor(np.hypot(y - CENTER[0], x - CENTER[1]) / 1.5))
    assert np.all(weights == 1)


@pytest.mark.parametrize("ellipse", [None, (1.3, 30.0)])
@pytest.mark.parametrize(("n_bins", "r_max"), [(14, 14.0), (40, 13.0), (3, 12.0)])
def test_split_areas_are_those_of_rings(n_bins, r_max, ellipse):
    _, bins, weights = radial_bins(SIG, CENTER, n_bins, min(r_max, 12.0), ellipse, split=True)
    area = np.bincount(bins, weights, minlength=n_bins)
    edges = np.linspace(0, min(r_max, 12.0), n_bins + 1)
    np.testing.assert_allclose(area, np.pi * np.diff(edges**2), rtol=1e-2, atol=5e-3)


def test_shares_of_a_pixel_sum_to_one():
    pixel, _, weights = radial_bins(SIG, CENTER, 60, 80.0, split=True)
    np.testing.assert_allclose(np.bincount(pixel, weights), np.ones(SIG[0] * SIG[1]), rtol=1e-12)


def test_valid_pixels_only():
    valid = np.random.default_rng(0).random(SIG) > 0.5
    for split in (False, True):
        pixel, _, _ = radial_bins(SIG, CENTER, 5, 60.0, split=split, valid=valid)
        np.testing.assert_array_equal(np.unique(pixel), np.flatnonzero(valid))


def test_ellipse_has_equal_area_and_the_stated_axis():
    r, ry, rx = polar_radius((81, 81), (40.0, 40.0), (2.0, 90.0))  # long axis along y
    assert r[40 + 20, 40] == pytest.approx(20 / np.sqrt(2))
    assert r[40, 40 + 20] == pytest.approx(20 * np.sqrt(2))
    # derivatives against differences
    assert ry[60, 55] == pytest.approx((r[61, 55] - r[59, 55]) / 2, rel=1e-2)
    assert rx[60, 55] == pytest.approx((r[60, 56] - r[60, 54]) / 2, rel=1e-2)
