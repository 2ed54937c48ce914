"""Units and extents of calibrated axes."""

from __future__ import annotations

import pytest

from framefold.plot.calibration import aspect, extent, ruler
from framefold.udfcore.metadata import Axis


@pytest.mark.parametrize(
    "axis, n, scale, units",
    [
        (Axis("x", 0.5e-9, 0, "m"), 100, 0.5, "nm"),
        (Axis("x", 55e-6, 0, "m"), 256, 0.055, "mm"),
        (Axis("x", 2e-4, 0, "rad"), 100, 0.2, "mrad"),
        (Axis("kx", 1e8, 0, "1/m"), 64, 0.1, "1/nm"),
        (Axis("x", 1.0, 0, "px"), 100, 1.0, "px"),
        (Axis("x", 0.25, 0, "A"), 10, 0.25, "A"),
        (Axis("x", 3.0, 0, "furlong"), 10, 3.0, "furlong"),
        (Axis("x", 0.0, 0, "px"), 10, 1.0, "px"),
        (Axis("x", -0.5e-9, 0, "m"), 100, -0.5, "nm"),
        (Axis("x", 2.0, 0, ""), 100, 2.0, "px"),
    ],
)
def test_prefix_makes_numbers_readable(axis, n, scale, units):
    r = ruler(axis, n)
    assert (r.scale, r.units) == (pytest.approx(scale), units)


def test_pixel_centres_lie_on_the_calibrated_values():
    axes = (Axis("y", 2e-9, 10e-9, "m"), Axis("x", 0.5e-9, -3e-9, "m"))
    (left, right, bottom, top), y, x = extent(axes, (4, 8))
    assert (top, bottom) == pytest.approx((9.0, 17.0))
    assert (left, right) == pytest.approx((-3.25, 0.75))
    assert (y.label, x.label) == ("y (nm)", "x (nm)")


def test_frames_are_counted_not_measured():
    assert ruler(Axis("frame"), 9).label == "frame"
    assert ruler(Axis("kx"), 9).label == "kx (px)"


def test_counts_have_no_unit():
    assert ruler(Axis("iteration", 1.0, 1.0, ""), 5).label == "iteration"


def test_pictures_are_true_to_scale_unless_they_would_be_strips():
    px = (Axis("y"), Axis("x"))
    _, y, x = extent(px, (64, 64))
    assert aspect((64, 64), y, x) == "equal"
    assert aspect((1, 64), y, x) == "auto"
    _, y, x = extent((Axis("y", 1, 0, "s"), Axis("x", 1, 0, "eV")), (64, 64))
    assert aspect((64, 64), y, x) == "auto"
