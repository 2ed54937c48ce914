"""Starts shown by the viewers of runs."""

import numpy as np
import pytest

from framefold.plot.cdi_snapshot import StartsRun
from framefold.sim.coherent import coherent_pattern
from framefold.udfs.cdi import CDI, multistart

RECIPE = "ER**5*Sup*HIO**10*AutoCorrelationSupport"


class Recorder:
    """A viewer that keeps what it was shown."""

    def connect(self, run):
        self.run = run

    def begin(self, first, udfs):
        self.first, self.udfs, self.seen = first, udfs, []

    def update(self, snapshot):
        self.seen.append(snapshot)

    def close(self, final):
        self.final = final


@pytest.mark.parametrize("shape", [(16, 20), (8, 12, 10)])
def test_snapshots_hold_the_best_start(shape):
    cdi = CDI(coherent_pattern(shape, 0.4, photons=1e5).iobs)
    view = Recorder()
    run = StartsRun(cdi, 5, view)
    found = multistart(cdi, RECIPE, n=5, keep=2, on_batch=run.batch)
    run.close(found)
    assert np.isnan(view.first["llk_free"].data).all()
    assert [s.n_frames for s in view.seen] == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(np.isfinite(view.seen[2]["llk_free"].data), [True] * 3 + [False] * 2)
    final = view.final
    assert final.final
    np.testing.assert_allclose(final["llk_free"].data, [s.rank for s in found.starts])
    assert final["object"].data.shape == shape[-2:]
    assert final["support"].data.any()
    np.testing.assert_array_equal(final["prtf"].data, found.prtf.value)


def test_a_viewer_may_end_the_starts():
    cdi = CDI(coherent_pattern((16, 16), 0.4, photons=1e5).iobs)
    view = Recorder()
    run = StartsRun(cdi, 50, view)

    def batch(starts):
        if len(starts) == 3:
            view.run.cancel()
        return run.batch(starts)

    assert len(multistart(cdi, RECIPE, n=50, keep=2, on_batch=batch).starts) == 3


def test_live_figures_follow(tmp_path):
    pytest.importorskip("matplotlib", reason="extra framefold[plot] is not installed")
    from framefold.plot.live import LiveFigure

    cdi = CDI(coherent_pattern((16, 16), 0.4, photons=1e5).iobs)
    view = LiveFigure(path=tmp_path / "page.png")
    run = StartsRun(cdi, 3, view)
    run.close(multistart(cdi, RECIPE, n=3, keep=2, on_batch=run.batch))
    assert len(view.figure.axes) >= 5
    assert (tmp_path / "page.png").exists()
