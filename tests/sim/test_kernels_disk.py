"""Disk kernels against counting points of a fine grid."""

import math

import numpy as np
import pytest

from framefold.sim import kernels_disk as kd

# (cy, cx, radius): between pixels, on one, tiny, cut by each border, outside
DISKS = [
    (10.3, 11.7, 6),
    (10, 12, 5.5),
    (8.2, 9.4, 0.7),
    (1.2, 3, 4),
    (18.8, 22.9, 5),
    (10, -30, 4),
    (-2.5, 25, 4),
]


def drawn(cy, cx, radius, ny=0.0, nx=0.0, shape=(20, 24)):
    frame = np.zeros(shape)
    kd.add_disk(frame, cy, cx, radius, 1.0, ny, nx)
    return frame


def points(shape, n=64):
    return (np.arange(s * n) / n + 0.5 / n - 0.5 for s in shape)


def pooled(fine, n=64):
    return fine.reshape(fine.shape[0] // n, n, fine.shape[1] // n, n).mean(axis=(1, 3))


@pytest.mark.parametrize(("cy", "cx", "radius"), DISKS)
def test_disk_equals_reference(cy, cx, radius):
    reference = kd.disk_reference((20, 24), cy, cx, radius)
    # counting 64 x 64 points misses up to about one row's length along the edge, 1/64 / 4
    np.testing.assert_allclose(drawn(cy, cx, radius), reference, atol=5e-3)


def test_disk_adds_to_what_is_there():
    frame = np.full((20, 24), 2.0)
    kd.add_disk(frame, 10, 12, 5, 3.0, 0.0, 0.0)
    np.testing.assert_allclose(frame, 2 + 3 * drawn(10, 12, 5))


@pytest.mark.parametrize("offset", [(0, 0), (0.25, 0.4), (0.5, 0.5), (0.71, 0.13)])
def test_area_and_centre_of_a_disk(offset):
    cy, cx = 10 + offset[0], 11 + offset[1]
    frame = drawn(cy, cx, 6)
    y, x = np.mgrid[:20, :24]
    assert frame.sum() == pytest.approx(math.pi * 36, rel=1e-5)
    # a disk of exact pixel areas has its centre of mass up to .0015 px off: each pixel counts at its middle
    assert (frame * y).sum() / frame.sum() == pytest.approx(cy, abs=2e-3)
    assert (frame * x).sum() / frame.sum() == pytest.approx(cx, abs=2e-3)


@pytest.mark.parametrize("angle", [0, 0.5, math.pi / 2, 2.5, math.pi, -math.pi / 2, 4.0])
def test_half_a_disk(angle):
    ny, nx = math.sin(angle), math.cos(angle)
    y, x = points((20, 24))
    y, x = y[:, None] - 10.3, x[None] - 11.7
    inside = (y * y + x * x <= 36) & (ny * y + nx * x >= 0)
    # one of 16 lines may be taken or left where the cut is horizontal
    np.testing.assert_allclose(drawn(10.3, 11.7, 6, ny, nx), pooled(inside.astype(float)), atol=0.1)


@pytest.mark.parametrize(
    ("kind", "strength", "level", "atol"),
    [
        (kd.TILT, 0.6, lambda u: 1 + 0.6 * u / 6, 0.02),
        # over one px the average of a cosine of period 5 px falls short of its middle by 6 %
        (kd.FRINGES, 0.7, lambda u: 1 + 0.7 * np.cos(2 * np.pi * u / 5 + 0.4), 0.07),
        (
            kd.DARK,
            0.0,
            lambda u: np.sin(np.pi * 0.8 * np.sqrt(1 + (0.4 + u / 3) ** 2)) ** 2 / (1 + (0.4 + u / 3) ** 2),
            0.03,
        ),
        (
            kd.BRIGHT,
            0.0,
            lambda u: (
                1 - np.sin(np.pi * 0.8 * np.sqrt(1 + (0.4 + u / 3) ** 2)) ** 2 / (1 + (0.4 + u / 3) ** 2)
            ),
            0.03,
        ),
    ],
)
@pytest.mark.parametrize("place", [(10.3, 11.7), (2.2, 21.5)])
def test_structured_disk_equals_reference(kind, strength, level, atol, place):
    ny, nx = 0.6, 0.8
    frame = np.zeros((20, 24))
    kd.add_structured_disk(frame, *place, 6.0, 1.0, kind, ny, nx, strength, 0.4, 0.8, 2.0)
    y, x = points((20, 24))
    y, x = y[:, None] - place[0], x[None] - place[1]
    fine = np.where(y * y + x * x <= 36, level(ny * y + nx * x), 0.0)
    np.testing.assert_allclose(frame, pooled(fine), atol=atol)


def test_render_speed(benchmark):
    """100 frames of 25 disks; measured by `make bench`."""
    rng = np.random.default_rng(0)
    out = np.zeros((100, 128, 128), dtype=np.float32)
    centres = rng.uniform(10, 118, (100, 25, 2))
    density = np.full((100, 25), 2.0)
    kind, direction = np.zeros(25, dtype=np.int64), np.zeros((25, 2))
    options = (density, 6.0, kind, direction, 0.0, np.zeros((100, 25)), np.ones(100), np.zeros(25))
    kd.render(out, centres, *options)
    before = out.sum(dtype=np.float64)
    benchmark.pedantic(kd.render, args=(out, centres, *options), rounds=20)
    assert before == pytest.approx(100 * 25 * 2 * math.pi * 36, rel=1e-4)
