"""Resolution by halves against the correlation of a half with the truth."""

from __future__ import annotations

import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError, UDFError
from framefold.sim.ptycho import ptycho_scan
from framefold.udfs.ptycho import Ptychography, frc
from framefold.udfs.ptycho.half_sets import _polished
from framefold.udfs.ptycho.quality import half_of, ring_correlation

RECIPE = "6 RPIE; 10 AP"


@pytest.fixture(scope="module")
def ctx():
    with ff.Context(executor="threads") as ctx:
        yield ctx


def scan_of(photons):
    return ptycho_scan(144, 32, probe_radius=6, step=2.5, photons=photons, seed=2)


@pytest.mark.parametrize("split", ["thin", "scan"])
def test_correlation_of_halves_is_the_square_of_that_with_the_truth(ctx, split):
    scan = scan_of(1e4)
    udf = Ptychography(probe=scan.probe, probe_update_start=10**6, recipe=RECIPE)
    found = frc(ctx, scan.source(), udf, split)
    y, x = (min(a, b) for a, b in zip(found.weight.shape, scan.object.shape, strict=True))
    truth = ring_correlation(found.halves[0][:y, :x], scan.object[:y, :x], found.weight[:y, :x])
    # halves with independent noise: FRC = C^2, C of either half with the truth
    # (P. Rosenthal, R. Henderson, J. Mol. Biol. 333 (2003) 721, eq. 10-12)
    size = scan.pixel_size[0]
    expected = np.interp(found.frequency * size, truth.frequency, truth.frc**2)
    # ring k has 2 pi k pixels, half of them the soft rim's: 3 sigma of a correlation of independent ones, twice
    rings = np.arange(1, found.frc.size)
    assert (np.abs(found.frc - expected)[1:] < 6 / np.sqrt(np.pi * rings)).all()
    assert np.abs(found.frc - expected)[1:].mean() < 0.1
    assert 0.5 - 1 / found.frc.size / 2 < found.frequency[-1] * size <= 0.5
    below = found.frequency[1:][(found.frc < found.half_bit)[1:]]
    assert found.reaches_pixels == (len(below) == 0)
    assert found.resolution == pytest.approx(0.5 / below[0] if len(below) else 0.5 / found.frequency[-1])


def test_more_light_resolves_more(ctx):
    found = {}
    for photons in (3e2, 1e4):
        scan = scan_of(photons)
        found[photons] = frc(ctx, scan.source(), Ptychography(probe=scan.probe, recipe=RECIPE))
    assert found[1e4].resolution < 0.7 * found[3e2].resolution
    assert found[1e4].ssnr[2:6].mean() > 10 * found[3e2].ssnr[2:6].mean()


def test_halves_add_up_however_frames_are_dealt():
    frames = np.random.default_rng(0).poisson(5, (6, 8, 8)).astype(np.uint16)
    halves = [half_of(frames, half, 3) for half in (0, 1)]
    np.testing.assert_array_equal(halves[0] + halves[1], frames)
    np.testing.assert_array_equal(half_of(frames[4:5], 0, 3), halves[0][4:5])
    assert (half_of(frames, 0, 4) != halves[0]).any()
    assert abs(np.corrcoef(halves[0].ravel(), halves[1].ravel())[0, 1]) < 4 / np.sqrt(frames.size)


def test_recipe_is_cut_and_polished():
    def cut(recipe, n, polish=20):
        return str(_polished(Ptychography(recipe=recipe).recipe, n, polish))

    assert cut("auto", None) == "15 RPIE; AP; 20 ML"
    assert cut("auto", 25) == "15 RPIE; 10 AP; 20 ML"
    assert cut("15 RPIE; modes=2; 40 AP", 10, 0) == "10 RPIE; modes=2"
    assert cut("15 RPIE; 5 ML", None) == "15 RPIE; 5 ML"


def test_wrong_arguments(ctx):
    scan = scan_of(1e3)
    with pytest.raises(UDFError, match="split='odd' is not 'thin' or 'scan'"):
        frc(ctx, scan.source(), split="odd")
    with pytest.raises(UDFError, match="n=0 must be at least 1"):
        frc(ctx, scan.source(), n=0)
    with pytest.raises(UDFError, match="leave half=1 away"):
        frc(ctx, scan.source(), Ptychography(half=1))
    with pytest.raises(UDFError, match="half=2 is not 0, 1 or None"):
        Ptychography(half=2)
    udf = Ptychography(scan.geometry, scan.pixels * scan.pixel_size, probe=scan.probe)
    with pytest.raises(DataError, match="takes counts.*'scan'"):
        frc(ctx, scan.frames.astype(np.float32) + 0.5, udf)
