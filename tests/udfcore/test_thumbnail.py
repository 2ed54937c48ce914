"""Results in notebooks: small pictures that decode to the values, without a drawing library."""

import base64
import io
import re

import numpy as np
import pytest

import framefold as ff
from framefold.udfcore.thumbnail import GREY, colours, curve_html, picture_html, png


@pytest.fixture
def results():
    data = np.random.default_rng(0).integers(0, 100, (6, 5, 8, 7)).astype("uint16")
    roi = np.zeros((6, 5), bool)
    roi[:3] = True
    with ff.Context(executor="inline") as ctx:
        return ctx.run_udf(data, [ff.udfs.SumUDF(), ff.udfs.SumSigUDF(), ff.udfs.CoMUDF()], roi=roi), data


def decoded(text):
    image = pytest.importorskip("PIL.Image")
    found = re.findall(r"data:image/png;base64,([^']+)", text)
    return [np.asarray(image.open(io.BytesIO(base64.b64decode(f)))) for f in found]


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 17)])
def test_the_file_decodes_to_the_pixels(shape):
    image = pytest.importorskip("PIL.Image")
    rgb = np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype(np.uint8)
    assert np.array_equal(np.asarray(image.open(io.BytesIO(png(rgb)))), rgb)


def test_colours_are_those_of_viridis():
    mpl = pytest.importorskip("matplotlib")
    values = np.linspace(0, 1, 256).reshape(16, 16)
    low, high = np.quantile(values, (0.001, 0.999))
    wanted = 255 * mpl.colormaps["viridis"](np.clip((values - low) / (high - low), 0, 1))[..., :3]
    # straight lines between sixteen places miss the map by 6.7 levels at most; its 256 steps and rounding add 1
    assert np.abs(colours(values, np.ones(values.shape, bool)) - wanted).max() < 8


def test_pixels_without_a_value_are_grey():
    values = np.array([[1.0, np.nan], [2.0, 3.0]])
    rgb = colours(values, np.array([[True, True], [False, True]]))
    assert (rgb == GREY).all(axis=-1).tolist() == [[False, True], [True, False]]
    assert (colours(values, np.zeros((2, 2), bool)) == GREY).all()


def test_large_pictures_are_thinned_out():
    (small,) = decoded(picture_html(np.arange(1000 * 300).reshape(1000, 300), np.ones((1000, 300), bool)))
    assert small.shape == (91, 28, 3)


def test_gaps_in_a_curve_are_gaps():
    values = np.array([0.0, 1.0, np.nan, 3.0, 4.0, 5.0])
    text = curve_html(values, np.array([True, True, True, True, False, True]))
    lines = re.findall(r"points='([^']+)'", text)
    assert [len(line.split()) for line in lines] == [2, 1, 1]
    ys = [float(p.split(",")[1]) for line in lines for p in line.split()]
    assert ys[0] == pytest.approx(57)  # the least value at the bottom
    assert ys[-1] == pytest.approx(3)  # the largest on top
    assert curve_html(values, np.zeros(6, bool)) == ""


def test_a_result_is_a_table_with_a_picture_each(results):
    (total, scan, com), data = results
    text = total._repr_html_()
    (picture,) = decoded(text)
    assert picture.shape == (8, 7, 3)
    assert "intensity" in text
    assert f"{data[:3].sum((0, 1)).max():.5g}" in text
    assert "100 % valid" in text
    (picture,) = decoded(scan["intensity"]._repr_html_())
    assert ((picture == GREY).all(axis=-1) == (np.arange(6) >= 3)[:, None]).all()  # outside the ROI
    assert (
        len(decoded(com._repr_html_())) == 2 * 3 + 6
    )  # three pairs, the pair of a regression matrix, images


def test_results_of_other_kinds_do_not_fail():
    class Odd(ff.UDF):
        def get_result_buffers(self):
            return {
                "words": self.buffer("nav", dtype=object),
                "count": self.buffer("single", dtype="int64", reduce="sum"),
                "wave": self.buffer("nav", dtype="complex64"),
                "many": self.buffer("nav", (9,), dtype="float32"),
                "cube": self.buffer("single", (3, 4, 5), dtype="float32", reduce="sum"),
            }

        def process_frame(self, frame):
            r = self.results
            r.words[...] = "x"
            r.count += 1
            r.wave[...] = 1j

    with ff.Context(executor="inline") as ctx:
        steps = list(ctx.run_udf_iter(np.ones((4, 3, 5, 5)), Odd()))
    text = steps[-1]._repr_html_()
    assert text.startswith("12 frames, complete")
    assert "words" in text
    assert "(9 in all)" in text
