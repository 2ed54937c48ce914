"""Pictures of fields: bytes, colours, arrows, curves and the read-out."""

from __future__ import annotations

import numpy as np
import pytest

from framefold.plot.panels import Field
from framefold.udfcore.metadata import Axis
from framefold.udfcore.plotspec import PlotSpec
from framefold.web.look import Look
from framefold.web.render import grid_of, read_out, render

NM = Axis("x", 2e-9, 1e-9, "m")


def field(values, valid=None, axes=(), label="a"):
    values = np.asarray(values)
    return Field(label, values, np.ones(values.shape, bool) if valid is None else np.asarray(valid), axes)


def pixels(*axes):
    return axes or (Axis("y"), Axis("x"))


def test_an_image_is_bytes_between_its_limits():
    values = np.arange(6.0).reshape(2, 3)
    picture = render(
        PlotSpec("image", ("a",)), [field(values, axes=pixels())], Look(mode="manual", manual=(0, 5))
    )
    assert picture.pixels.tolist() == [[1, 52, 103], [153, 204, 255]]  # 1 + 254 * v / 5, rounded
    assert (picture.low, picture.high) == (0, 5)


def test_what_is_not_valid_is_grey_or_shown():
    found = field([[1.0, 2.0, np.nan]], [[True, False, True]], pixels())
    look = Look(mode="manual", manual=(1, 2))
    assert render(PlotSpec("image", ("a",)), [found], look).pixels.tolist() == [[1, 0, 0]]
    shown = Look(mode="manual", manual=(1, 2), mark=False)
    assert render(PlotSpec("image", ("a",)), [found], shown).pixels.tolist() == [[1, 255, 0]]


def test_large_images_are_binned():
    values = np.kron(np.array([[0.0, 1.0], [2.0, 3.0]]), np.ones((1024, 1024)))
    picture = render(
        PlotSpec("image", ("a",)), [field(values, axes=pixels())], Look(mode="manual", manual=(0, 3))
    )
    assert picture.pixels.shape == (1024, 1024)
    assert picture.pixels[0, 0] == 1
    assert picture.pixels[-1, -1] == 255


def test_flags_are_drawn_as_numbers():
    picture = render(PlotSpec("image", ("a",)), [field([[True, False]], axes=pixels())], Look())
    assert picture.pixels.tolist() == [[255, 1]]


def test_complex_numbers_become_opaque_colours():
    picture = render(PlotSpec("image", ("a",)), [field([[1 + 0j, 0j]], axes=pixels())], Look())
    rgba = picture.rgba.view(np.uint8).reshape(1, 2, 4)
    assert picture.kind == "hue-phase"
    assert (rgba[..., 3] == 255).all()
    assert rgba[0, 0, 0] > rgba[0, 0, 2]  # angle 0 is red
    assert rgba[0, 1, :3].max() == 0  # length 0 is black


def test_an_arrow_points_where_the_vector_does():
    y, x = field([[0.0]], axes=pixels(), label="y"), field([[3.0]], axes=pixels(), label="x")
    picture = render(PlotSpec("vectors", ("y", "x")), [y, x], Look())
    shaft = picture.segments[:, 0]
    assert shaft == pytest.approx([-0.5, 0, 0.5, 0])  # along +x, one pixel long, about the pixel's middle
    heads = picture.segments[:, 1:]
    assert heads[2:] == pytest.approx(np.array([[0.5, 0.5], [0, 0]]))  # both strokes end at the tip
    assert heads[1, 0] == pytest.approx(-heads[1, 1])


def test_down_is_down():
    y, x = field([[3.0]], axes=pixels(), label="y"), field([[0.0]], axes=pixels(), label="x")
    x0, y0, x1, y1 = render(PlotSpec("vectors", ("y", "x")), [y, x], Look()).segments[:, 0]
    assert (x0, x1) == (pytest.approx(0), pytest.approx(0))
    assert y1 > y0  # rows grow downwards on the page, too


def test_curves_over_a_calibrated_axis():
    picture = render(PlotSpec("line", ("a",)), [field([1.0, 2.0, 3.0], [True, False, True], (NM,))], Look())
    assert picture.x.tolist() == pytest.approx([1, 3, 5])  # nm
    ((label, values),) = picture.lines
    assert label == "a"
    assert np.array_equal(values, [1, np.nan, 3], equal_nan=True)


def test_a_table_of_numbers():
    picture = render(PlotSpec("table", ("a",), units="counts"), [field(5)], Look())
    assert picture.rows == [("a", "5 counts")]


def test_the_read_out_tells_place_and_exact_value():
    axes = (Axis("y", 2e-9, 0.0, "m"), Axis("x", 1e-9, 0.0, "m"))
    values = np.arange(12).reshape(3, 4) * 1001
    valid = np.ones((3, 4), bool)
    valid[2, 3] = False
    picture = render(PlotSpec("image", ("a",)), [field(values, valid, axes)], Look())
    assert read_out(picture, 1.4, 2.9) == "[1, 1]  y = 2 nm, x = 1 nm:  a = 5005"
    assert read_out(picture, 3.0, 4.0).endswith("a = 11011 (not valid)")
    assert read_out(picture, 4.6, 0.0) == ""


@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_places_and_pixels_agree(scale):
    grid = grid_of(field(np.zeros((3, 4)), axes=(Axis("y", scale, 7.0, "s"), Axis("x", 0.5, 0.0, "s"))))
    for row in range(3):
        for column in range(4):
            assert grid.place(0.5 * column, 7.0 + scale * row) == (row, column)
    left, right, bottom, top = grid.rectangle()
    assert (left, right) == (-0.25, 1.75)
    assert (top, bottom) == (7.0 - scale / 2, 7.0 + 2.5 * scale)
