"""Correlation by sparse differences against the definition."""

import numpy as np
import pytest

from framefold.udfs.blobfinder import kernels_correlate as kc
from framefold.udfs.blobfinder.patterns import BackgroundSubtraction, Bullseye, Disk, RadialGradient, Template

ROOM = 16


def correlation(crop, template, shifts, scaling):
    pitch, width = kc.sums_pitch(len(crop), shifts), kc.map_width(shifts)
    taps, weights = kc.template_taps(template, pitch)
    sums = np.zeros((len(crop) + 1 + ROOM) * pitch, np.float32)
    out = np.zeros((-(-(2 * shifts + 1) // kc.ROWS) * kc.ROWS) * width, np.float32)
    kc.scaled_sums(crop, scaling, sums, pitch)
    kc.correlate_taps(sums, pitch, taps, weights, out, width)
    return out.reshape(-1, width)[: 2 * shifts + 1, : 2 * shifts + 1]


@pytest.mark.parametrize(
    "pattern",
    [Disk(4.3), RadialGradient(5.0), BackgroundSubtraction(4.0, 6.5), Bullseye(7.0),
     Template(Disk(5.0).mask(9) + 0.2)],
    ids=lambda p: type(p).__name__,
)  # fmt: skip
@pytest.mark.parametrize("scaling, law", [(0, lambda c: c), (1, np.sqrt), (2, np.log1p)])
def test_against_the_definition(pattern, scaling, law):
    half, shifts = pattern.half_width, 9
    template = pattern.template(half)
    assert abs(template.sum()) < 1e-12
    crop = np.random.default_rng(0).poisson(20, (2 * (half + shifts) + 1,) * 2).astype(np.float32)
    truth = kc.correlate_reference(law(crop.astype(np.float64)), template, shifts)
    # float32 running sums of 40 values up to 40: 1e-7 x 1600, times the summed weights of about 1
    np.testing.assert_allclose(correlation(crop, template, shifts, scaling), truth, atol=5e-4)


def test_negative_pixels_do_not_spoil_the_root():
    crop = np.full((25, 25), -3.0, np.float32)
    template = Disk(3.0).template(6)
    np.testing.assert_allclose(correlation(crop, template, 6, kc.SCALE_SQRT), 0, atol=1e-6)


def test_few_taps():
    pattern = Disk(6.0)
    template = pattern.template(pattern.half_width)
    taps, _ = kc.template_taps(template, 64)
    assert len(taps) < template.size / 3


def top_of(values, search=3.0, radius=2.0):
    shifts = len(values) // 2
    width = kc.map_width(shifts)
    corr = np.zeros((len(values), width), np.float32)
    corr[:, : len(values)] = values
    out = np.empty(8, np.float32)
    kc.highest(corr.reshape(-1), width, shifts, search, radius, out)
    return out


def test_top_of_a_paraboloid_is_exact():
    y, x = np.mgrid[-4:5, -4:5]
    top = top_of(5 - 0.5 * (y - 1.3) ** 2 - 0.25 * (x + 0.6) ** 2)
    np.testing.assert_allclose(top[:4], [1, -1, 1.3, -0.6], atol=1e-5)
    np.testing.assert_allclose(top[6:], [-1.0, -0.5], atol=1e-5)


def test_ties_go_to_the_nearest():
    values = np.zeros((9, 9))
    values[4, 7] = values[3, 4] = values[1, 1] = 1.0
    np.testing.assert_array_equal(top_of(values)[:2], [-1, 0])


def test_higher_values_beyond_the_search_do_not_count():
    values = np.zeros((13, 13))
    values[6, 7], values[6, 12] = 1.0, 5.0
    top = top_of(values, search=4.0)
    np.testing.assert_array_equal(top[:2], [0, 1])
    assert top[5] == -4.0  # something higher stands beside it


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "float64", ">u2"])
def test_gather_whole_and_in_parts(dtype):
    rng = np.random.default_rng(1)
    tile = rng.integers(0, 200, (3, 40, 50)).astype(dtype)
    tile = tile.astype(tile.dtype.newbyteorder("="))
    corners = np.array([[[-4, 3], [10, 20], [30, 45]]], np.int32)
    good = np.ones((40, 50), bool)
    good[12, 22] = False
    whole = np.empty((3, 3, 12, 12), np.float32)
    kc.gather_crops(tile, 0, 0, False, good, 190.0, corners, True, whole)
    padded = np.full((3, 80, 90), np.nan)
    padded[:, 20:60, 20:70] = np.where(tile >= 190, np.inf, tile.astype(float))
    padded[:, 32, 42] = np.nan
    for m, (y, x) in enumerate(corners[0] + 20):
        np.testing.assert_array_equal(whole[:, m], padded[:, y : y + 12, x : x + 12])
    parts = np.full_like(whole, np.nan)
    for y, x in ((0, 0), (0, 23), (17, 0), (17, 23)):
        part = tile[:, y : y + 17 if y == 0 else 40, x : x + 23 if x == 0 else 50]
        kc.gather_crops(
            np.ascontiguousarray(part), y, x, False, good[y : y + part.shape[1], x : x + part.shape[2]], 190.0,
            corners, False, parts,
        )  # fmt: skip
    np.testing.assert_array_equal(parts, whole)


def test_split_bad():
    crop = np.array([[1, 2, np.nan], [np.inf, 4, 5], [3, 3, 3]], np.float32)
    good = np.empty_like(crop)
    assert kc.split_bad(crop, good) == (2, 1)
    np.testing.assert_array_equal(good, [[1, 1, 0], [0, 1, 1], [1, 1, 1]])
    np.testing.assert_array_equal(crop, [[1, 2, 3], [3, 4, 5], [3, 3, 3]])
    empty = np.full((2, 2), np.nan, np.float32)
    assert kc.split_bad(empty, np.empty_like(empty)) == (4, 0)
    assert (empty == 0).all()
