"""Pictures of reconstructions hold what they say."""

import numpy as np
import pytest

from framefold.sim.coherent import coherent_pattern
from framefold.udfs.cdi import CDI, ER, LLK, multistart

pytest.importorskip("matplotlib", reason="extra framefold[plot] is not installed")
from framefold.plot.cdi import Show, middle_slice, multistart_figure, start_figure


def test_what_is_drawn_of_a_volume():
    support = np.zeros((20, 20, 20), bool)
    support[4:9, 10:14, 2:6] = True
    part = middle_slice(support, support)
    assert part == (6, slice(8, 16), slice(0, 8))
    assert support[part].any()


@pytest.mark.parametrize("shape", [(24, 24), (12, 14, 16)])
def test_figure_of_a_state(shape):
    pattern = coherent_pattern(shape, photons=1e5, beam_stop=3)
    state = (LLK() * ER() ** 3) ** 4 * CDI(pattern.iobs, pattern.support, mask=pattern.mask, pixel_size=1e-8)
    figure = start_figure(state)
    measured, obj, history = figure.axes[:3]
    assert measured.images[0].get_array().mask.sum() == 9
    assert obj.get_xlabel() == "x (nm)"
    errors = history.lines[0].get_ydata()
    np.testing.assert_allclose(errors, [f["error"] for _, f in state.history])
    figure.draw_without_rendering()


def test_figure_of_many_starts():
    pattern = coherent_pattern((24, 24), photons=1e5)
    found = multistart(CDI(pattern.iobs), "ER**10*Sup*HIO**20*AutoCorrelationSupport", n=5, keep=4)
    figure = multistart_figure(found)
    titles = [ax.get_title() for ax in figure.axes]
    assert "5 starts" in titles
    curve = figure.axes[4].lines[0]
    np.testing.assert_array_equal(curve.get_ydata(), found.prtf.value)
    heights = [bar.get_height() for bar in figure.axes[5].patches]
    np.testing.assert_allclose(heights, found.weights)
    figure.draw_without_rendering()


def test_show_writes_pictures(tmp_path):
    pattern = coherent_pattern((16, 16))
    show = Show(str(tmp_path / "at{cycle}.png"))
    show * ER() ** 2 * CDI(pattern.iobs, pattern.support)
    assert [p.name for p in tmp_path.iterdir()] == ["at2.png"]
