"""Each diagnosis on data that have the fault, and on data that have it not."""

from __future__ import annotations

import numpy as np
import pytest

import framefold as ff
from framefold.sim.ptycho import ptycho_scan
from framefold.udfs.ptycho import Ptychography, diagnose
from framefold.udfs.ptycho.diagnose import probe_at_border, regular_grid, unusable_frames


@pytest.fixture(scope="module")
def ctx():
    with ff.Context(executor="threads") as ctx:
        yield ctx


@pytest.mark.parametrize(
    "scan, regular",
    [("raster", True), ("hexagonal", True), ("jitter", False), ("spiral", False), ("random", False)],
)
def test_grids_are_told_from_other_scans(scan, regular):
    pixels = ptycho_scan(64, 16, scan=scan, step=4, probe_radius=2, subpixel=True).pixels
    said = regular_grid(pixels)
    assert (said is not None) == regular
    if scan == "raster":
        assert "regular grid of 4 px" in said
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    assert (regular_grid(1.7 * pixels @ turn) is not None) == regular


@pytest.mark.parametrize("counts, told", [(0, False), (3, True)])
def test_an_even_background_is_told(counts, told):
    scan = ptycho_scan(36, 32, photons=1e5, seed=3, background=counts)
    said = diagnose.even_background(scan.frames.mean(axis=0), scan.good)
    assert (said is not None) == told
    if said:
        # 3 counts in each of 1024 pixels; the second percentile of a mean of 36 Poisson values is 2 sigma lower
        dark = float(said.split("darker than ")[1].split()[0])
        assert abs(dark - 3) < 2.5 * np.sqrt(3 / 36)


def test_few_or_coinciding_positions_form_no_grid():
    assert regular_grid(np.indices((3, 5)).reshape(2, -1).T.astype(float)) is None
    assert regular_grid(np.zeros((40, 2))) is None
    line = np.column_stack([np.arange(40.0), np.zeros(40)])
    assert regular_grid(line) is None  # one direction only


def test_empty_and_repeated_frames_are_named():
    sample = np.random.default_rng(0).poisson(3, (6, 8, 8))
    ids = np.array([0, 3, 6, 9, 12, 15])
    assert unusable_frames(sample, ids) == []
    sample[1] = sample[5] = 0
    sample[4] = sample[2]
    empty, twins = unusable_frames(sample, ids)
    assert "2 of 6 sampled frames are empty, the first is frame 3" in empty
    assert "1 of 6 sampled frames equal an earlier one, frame 12 is frame 6" in twins


def test_power_at_the_border():
    probe = np.zeros((2, 40, 20), complex)  # the rim is 2 and 1 pixels wide
    probe[:, 2:-2, 1:-1] = 1
    assert probe_at_border(probe) is None
    probe[1, 1, 10] = np.sqrt(0.01 / 0.99 * 2 * 36 * 18) * 0.99
    assert probe_at_border(probe) is None
    probe[1, 1, 10] *= 1.02
    assert "1 % of the probe's power lies at the border" in probe_at_border(probe)


def test_runs_say_what_was_found(ctx):
    raster = ptycho_scan(36, 24, probe_radius=4, step=2, scan="raster", seed=1)
    udf = Ptychography(probe=raster.probe, recipe="3 AP")
    ctx.run_udf(raster.source(), udf)
    assert any("regular grid" in note for note in udf.notes)
    assert not any("at the border" in note for note in udf.notes)
    wide = Ptychography(probe=np.ones((24, 24)), recipe="1 AP")  # the rim is 1 pixel
    ctx.run_udf(raster.source(), wide)
    assert any(f"{100 * (1 - (22 / 24) ** 2):.2g} % of the probe's power" in note for note in wide.notes)
    sparse = ptycho_scan(36, 24, probe_radius=3, step=6, seed=1)
    thin = Ptychography(probe=sparse.probe, recipe="1 AP")
    ctx.run_udf(sparse.source(), thin)
    assert any("the frames hardly overlap" in note for note in thin.notes)
