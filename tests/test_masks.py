"""Masks against one-pixel-at-a-time formulas."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framefold import masks
from framefold.errors import DataError

# (cx, cy, size_x, size_y): on a pixel, between pixels, in a corner, outside, near an edge
GEOMETRIES = [(4, 4, 9, 9), (3.3, 5.7, 12, 9), (0, 0, 7, 5), (-2, 3, 8, 6), (15.5, 2.5, 16, 11)]


def per_pixel(fn, size_x, size_y):
    return np.array([[fn(x, y) for x in range(size_x)] for y in range(size_y)])


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("radius", [0, 1, 2.5, 4, 20])
def test_circular_and_ring_by_definition(geometry, radius):
    cx, cy, nx, ny = geometry
    disk = per_pixel(lambda x, y: (x - cx) ** 2 + (y - cy) ** 2 <= radius**2, nx, ny)
    wide = per_pixel(lambda x, y: (x - cx) ** 2 + (y - cy) ** 2 <= (radius + 2) ** 2, nx, ny)
    np.testing.assert_array_equal(masks.circular(*geometry, radius), disk)
    np.testing.assert_array_equal(masks.ring(*geometry, radius + 2, radius), wide & ~disk)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("inner, outer", [(0, 3), (0.3, 5), (2, 6)])
def test_antialiased_ring_by_definition(geometry, inner, outer):
    cx, cy, nx, ny = geometry
    middle, width = (inner + outer) / 2, outer - inner

    def weight(x, y):
        if inner < 0.5 and (x, y) == (round(cx), round(cy)):
            return 1 - inner
        return min(1, max(0, width / 2 + 0.5 - abs(math.dist((x, y), (cx, cy)) - middle)))

    expected = per_pixel(weight, nx, ny)
    np.testing.assert_allclose(masks.ring(*geometry, outer, inner, antialiased=True), expected, atol=1e-12)
    if inner == 0:
        np.testing.assert_allclose(masks.circular(*geometry, outer, antialiased=True), expected, atol=1e-12)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("n_bins", [None, 3])
def test_radial_bins_add_up_to_one(geometry, n_bins):
    bins = masks.radial_bins(*geometry, n_bins=n_bins, use_sparse=False)
    total = bins.sum(axis=0)
    cx, cy, nx, ny = geometry
    # the patched centre pixel is counted by the second ring too, when rings are a pixel wide
    r = per_pixel(lambda x, y: math.dist((x, y), (cx, cy)), nx, ny)
    np.testing.assert_allclose(total[r > 1], 1, atol=1e-12)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("normalize", [False, True])
def test_sparse_bins_equal_dense_ones(geometry, normalize):
    dense = masks.radial_bins(*geometry, n_bins=4, normalize=normalize, use_sparse=False, dtype="float32")
    coo = masks.radial_bins(*geometry, n_bins=4, normalize=normalize, use_sparse=True, dtype="float32")
    assert dense.dtype == coo.dtype == np.float32
    np.testing.assert_array_equal(coo.todense(), dense)


def test_normalized_bins_each_add_up_to_one():
    # inner radius above 1/2: the centre pixel is not patched
    bins = masks.radial_bins(
        8, 8, 17, 17, radius=7, radius_inner=1, n_bins=6, normalize=True, use_sparse=False
    )
    np.testing.assert_allclose(bins.sum(axis=(1, 2)), 1, atol=1e-12)


def test_bins_turn_sparse_when_rings_are_thin():
    assert hasattr(masks.radial_bins(32, 32, 64, 64), "todense")
    assert isinstance(masks.radial_bins(32, 32, 64, 64, radius=30, n_bins=1), np.ndarray)


@pytest.mark.parametrize(
    "x, y, width, height, columns, rows",
    [
        (1, 2, 3, 2, range(1, 5), range(2, 5)),  # both corners are inside
        (4, 4, -2, -3, range(2, 5), range(1, 5)),  # backwards
        (2, 3, -1, 2, range(1, 3), range(3, 6)),
        (1, 1, 0, 3, (), ()),  # no width
        (-3, -3, 4, 5, range(2), range(3)),  # cut off
        (-5, -5, 2, 2, (), ()),  # outside
        (20, 20, 3, 3, (), ()),
        (1.5, 2.5, 2.2, 3.1, range(1, 4), range(2, 6)),  # corners are truncated
    ],
)
def test_rectangular(x, y, width, height, columns, rows):
    expected = per_pixel(lambda i, j: i in columns and j in rows, 9, 7)
    np.testing.assert_array_equal(masks.rectangular(x, y, width, height, 9, 7), expected)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_polar_map_and_ellipse(geometry):
    cx, cy, nx, ny = geometry
    r, phi = masks.polar_map(*geometry)
    np.testing.assert_allclose(r * np.cos(phi), per_pixel(lambda x, y: x - cx, nx, ny), atol=1e-12)
    np.testing.assert_allclose(r * np.sin(phi), per_pixel(lambda x, y: y - cy, nx, ny), atol=1e-12)
    stretched, _ = masks.polar_map(*geometry, stretch_y=2.0)
    expected = per_pixel(lambda x, y: math.hypot((y - cy) / 2, x - cx), nx, ny)
    np.testing.assert_allclose(stretched, expected, atol=1e-12)
    turned, _ = masks.polar_map(*geometry, angle=0.7)
    np.testing.assert_allclose(turned, r, atol=1e-12)


def test_gradients():
    assert masks.gradient_x(3, 2).tolist() == [[0, 1, 2], [0, 1, 2]]
    assert masks.gradient_y(3, 2, dtype="int16").tolist() == [[0, 0, 0], [1, 1, 1]]
    disk = masks.radial_gradient(4, 4, 9, 9, radius=3)
    np.testing.assert_allclose(disk[4, 4:], [0, 1 / 3, 2 / 3, 1, 0], atol=1e-12)


def test_gradient_with_background():
    r = np.array([0.0, 2.0, 3.5, 4.0, 4.25, 4.5, 6.0, 6.1])
    result = masks.radial_gradient_background_subtraction(r, r0=4, r_outer=6)
    np.testing.assert_allclose(result, [0, 0.5, 1, 0, -0.5, -1, -1, 0], atol=1e-12)


def test_balanced_templates_see_no_background():
    template = masks.radial_gradient_background_subtraction(masks.polar_map(10, 10, 21, 21)[0], 5, 8)
    balanced = masks.balance(template)
    assert balanced.sum() == pytest.approx(0, abs=1e-9)
    np.testing.assert_array_equal(balanced[template > 0], template[template > 0])
    for antialiased in (False, True):
        mask = masks.background_subtraction(10, 10, 21, 21, 8, 5, antialiased=antialiased)
        assert mask.sum() == pytest.approx(0, abs=1e-9)
        assert mask[10, 10] == 1


def test_stack_of_disks():
    stack = masks.sparse_circular_multi_stack([0, 2, 2], [4, 1, 7], [4.9, 2, 0], 9, 6, radius=1.5)
    disks = [masks.circular(x, y, 9, 6, 1.5) for x, y in [(4, 4), (1, 2), (7, 0)]]
    expected = np.stack([disks[0], np.zeros((6, 9), dtype=bool), disks[1] | disks[2]])
    np.testing.assert_array_equal(stack.todense(), expected)


@given(
    st.tuples(st.floats(-5, 20), st.floats(-5, 20), st.integers(1, 15), st.integers(1, 15)),
    st.floats(0.5, 12),
    st.integers(1, 9),
    st.floats(-10, 10),
)
def test_segments_share_out_their_ring(geometry, radius, n, rotation):
    parts = masks.segments(*geometry, radius, n=n, rotation=rotation)
    np.testing.assert_array_equal(parts.sum(axis=0), masks.annuli(*geometry, (0, radius))[0])


def test_quadrants_go_from_x_to_y():
    right_down, left_down, left_up, right_up = masks.segments(4, 4, 9, 9, 6)
    assert right_down[5, 5] and left_down[5, 3] and left_up[3, 3] and right_up[3, 5]
    assert masks.segments(4, 4, 9, 9, 6, rotation=-math.pi / 4)[0][4, 5]


def test_annuli_by_definition():
    radii = (0, 1.5, 2, 4)
    rings = masks.annuli(3.3, 5.7, 12, 9, radii)
    for mask, low, high in zip(rings, radii, radii[1:], strict=False):
        expected = per_pixel(lambda x, y, a=low, b=high: a <= math.dist((x, y), (3.3, 5.7)) < b, 12, 9)
        np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: masks.circular(1, 1, 0, 5, 2), "at least one pixel"),
        (lambda: masks.annuli(1, 1, 5, 5, (3, 2)), "growing radii"),
        (lambda: masks.segments(1, 1, 5, 5, 3, n=0), "n >= 1"),
        (lambda: masks.radial_bins(1, 1, 5, 5, radius=2, radius_inner=3), "radius > radius_inner"),
        (lambda: masks.balance(np.ones((2, 2))), "negative values"),
        (lambda: masks.background_subtraction(2, 2, 5, 5, 22, 20), "widen the ring"),
        (lambda: masks.sparse_template_multi_stack([], [], [], np.ones((2, 2)), 5, 5), "same length"),
    ],
)
def test_refusals(call, text):
    with pytest.raises(DataError, match=text):
        call()
