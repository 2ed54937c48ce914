"""How the axes of the scan lie on the detector."""

from __future__ import annotations

import numpy as np
import pytest

import framefold as ff
from framefold.errors import UDFError
from framefold.sim.ptycho import ptycho_scan
from framefold.udfs.ptycho import Ptychography, ScanPositions
from framefold.udfs.ptycho.orientation import DISTINCT, oriented
from framefold.udfs.ptycho.positions import FLIPS, flipped


@pytest.fixture(scope="module")
def scan():
    return ptycho_scan(80, 32, probe_radius=6, step=3, photons=1e5, seed=2)


@pytest.fixture(scope="module")
def ctx():
    with ff.Context(executor="threads") as ctx:
        yield ctx


def wrong(scan, flip):
    return ScanPositions(oriented(scan.pixels, (1.0, 1.0), flip), units="px")


@pytest.mark.parametrize("flip", ["none", "x", "transpose-y"])
def test_trials_find_the_orientation(ctx, scan, flip):
    udf = Ptychography(positions=wrong(scan, flip), orientation="auto", recipe="3 RPIE")
    found = ctx.iterate(scan.source(), udf).to_end()
    steps = np.diff(found["positions"].data, axis=0)
    true = np.diff(scan.pixels, axis=0)
    # half a turn fits as well
    assert np.allclose(steps, true, atol=1e-6) or np.allclose(steps, -true, atol=1e-6)
    assert any("fits best (trial errors" in n and "half a turn more" in n for n in udf.notes)


def test_a_known_probe_settles_half_a_turn(ctx, scan):
    kwargs = {"positions": wrong(scan, "yx"), "probe": scan.probe, "recipe": "3 RPIE"}
    udf = Ptychography(orientation="auto", **kwargs)
    found = ctx.iterate(scan.source(), udf).to_end()
    np.testing.assert_allclose(np.diff(found["positions"].data, axis=0), np.diff(scan.pixels, axis=0))
    assert any("flip='yx' fits best" in n for n in udf.notes)


def test_flips_in_lengths_and_pixels_agree():
    pixels = np.array([[0.0, 1.0], [4.0, 7.0], [2.0, 1.0]])
    size = (2e-9, 1e-9)
    for flip in FLIPS:
        moved = oriented(pixels, size, flip) * size
        want = flipped((pixels - pixels.mean(axis=0)) * size, flip)
        np.testing.assert_allclose(moved - moved.mean(axis=0), want, atol=1e-24)
    # the four kept are one of each pair half a turn apart
    turned = {flip: oriented(pixels, (1.0, 1.0), flip) - pixels.mean(axis=0) for flip in FLIPS}
    for flip in FLIPS:
        assert sum(np.allclose(turned[d], s * turned[flip]) for d in DISTINCT for s in (1, -1)) == 1


def test_unknown_orientation_is_refused():
    with pytest.raises(UDFError, match="orientation='best'.*flip="):
        Ptychography(orientation="best")
