"""Errors that all positions share are found; maps and their parameters agree."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.linalg import expm

import framefold as ff
from framefold.sim.ptycho import ptycho_scan
from framefold.udfcore.metadata import Metadata
from framefold.udfs.ptycho import Ptychography, ScanPositions, affine
from framefold.udfs.ptycho.affine import affine_of, linear_part, matrix_of

PIXELS = np.random.default_rng(3).uniform(0, 40, (30, 2))


def mapped(pixels, matrix):
    centre = pixels.mean(axis=0)
    return (pixels - centre) @ np.asarray(matrix).T + centre


def test_matrices_are_exponentials():
    s, r, a, b = 0.04, -0.05, 0.02, 0.03
    exact = expm(np.array([[s + a, b - r], [b + r, s - a]]))
    np.testing.assert_allclose(matrix_of((s, r, a, b)), exact, rtol=1e-12)


@pytest.mark.parametrize("angle", [0.01, -1.5])
def test_rotations_have_the_sign_of_scan_positions(angle):
    turned = ScanPositions(PIXELS, units="px", rotation_deg=angle).pixels(Metadata(), (30,), (1e-9, 1e-9))[0]
    found = affine_of(PIXELS, turned - PIXELS)
    assert found.rotation_deg == pytest.approx(angle, rel=1e-9, abs=0)
    assert (found.scale, found.stretch) == pytest.approx((1, 1), rel=1e-9)


def test_parameters_of_known_maps():
    found = affine_of(PIXELS, mapped(PIXELS, [[1.03, 0], [0, 0.99]]) - PIXELS)
    assert found.stretch == pytest.approx(1.03 / 0.99, rel=1e-9)
    assert found.scale == pytest.approx(np.sqrt(1.03 * 0.99), rel=1e-9)
    sheared = affine_of(PIXELS, mapped(PIXELS, [[1, np.sin(0.02)], [0, np.cos(0.02)]]) - PIXELS)
    assert sheared.shear == pytest.approx(np.degrees(0.02), rel=1e-9)


def test_no_map_leaves_the_room_that_is_kept():
    room = affine.farthest(PIXELS)
    for signs in np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1).T:
        moved = mapped(PIXELS, matrix_of(tuple(signs * affine.RANGES)))
        assert np.linalg.norm(moved - PIXELS, axis=1).max() <= room


def test_positions_on_a_line_have_no_linear_part():
    line = np.outer(np.arange(20.0), [1, 2])
    assert not linear_part(line, 0.1 * line).any()


@pytest.mark.parametrize("truth", [0.0, 0.031, -0.012, 0.2])
def test_a_line_is_searched_downhill(monkeypatch, truth):
    def trial(job, point, start, probe):
        yield "pass"
        return 3 * (point[1] - truth) ** 2 + 0.1

    monkeypatch.setattr(affine, "_trial", trial)
    tried = {}
    steps = affine._along(None, tried, (0.01, 0.0, 0.0, 0.0), 1, 0.02, None, None)
    found = None
    try:
        while True:
            next(steps)
    except StopIteration as end:
        found = end.value
    # beyond the range the best is the last step inside
    assert found == (0.01, pytest.approx(min(truth, 0.04), abs=1e-6), 0.0, 0.0)
    assert len(tried) <= 6


@pytest.mark.parametrize("noise, axes", [(0.003, [0, 1, 0, 1, 2, 3, 0, 1]), (0.008, [1, 1, 1])])
def test_few_counts_cannot_tell_a_scale(monkeypatch, noise, axes):
    searched = []

    def along(job, tried, best, axis, width, start, probe):
        searched.append(axis)
        tried[best] = 0.1
        yield "pass"
        return best

    monkeypatch.setattr(affine, "_along", along)
    monkeypatch.setattr(affine, "middle", lambda job: np.arange(len(PIXELS)))
    said = []
    loop = SimpleNamespace(
        object=np.ones((1, 4, 4)), probe=np.ones((1, 4, 4)), dark=np.zeros(len(PIXELS), bool),
        update_probe=False, moves=np.zeros_like(PIXELS),
    )  # fmt: skip
    setup = SimpleNamespace(noise=noise, canvas=SimpleNamespace(steps=4))
    job = SimpleNamespace(
        loop=loop, setup=setup, start_pixels=PIXELS, say=said.append, probe_changed=lambda: None,
        positions_changed=lambda: None,
    )  # fmt: skip
    list(affine.find_affine(job))
    assert searched == axes
    assert any("too few counts" in note for note in said) == (noise > affine.FEW)


@pytest.fixture(scope="module")
def scan():
    # many counts: with few, E of amplitudes has its minimum at a scale up to 1 % too large
    return ptycho_scan(81, 28, probe_radius=5.5, step=2.4, photons=1e7, dtype="u4", subpixel=True, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("scale, rotation, jitter", [(0.98, -2, 0.4), (1.02, 0, 0), (1, 2, 0), (1.02, 2, 1)])
def test_common_errors_of_positions_are_found(scan, scale, rotation, jitter):
    angle = np.radians(rotation)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    rng = np.random.default_rng(1)
    stated = mapped(scan.pixels, scale * turn) + jitter * rng.normal(size=scan.pixels.shape)
    udf = Ptychography(refine_positions="affine")
    with ff.Context(executor="threads") as ctx:
        found = ctx.iterate(replace(scan, stated=stated).source(), udf).to_end()
    off = found["positions"].data - scan.pixels
    rms = np.sqrt(((off - off.mean(axis=0)) ** 2).mean())
    assert rms < 0.1
    assert any("as a whole were corrected by scale" in note for note in udf.notes)
