"""Synthetic diffraction patterns against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framefold.errors import DataError
from framefold.sim import deformation as df
from framefold.sim.noise import Detector
from framefold.sim.stem import GRAIN_TURN, cbed
from framefold.testing.check_source import check_source

SIG = (64, 72)
LATTICE = ((32.0, 36.0), (1.0, 13.0), (13.0, -1.0))


def small(**options):
    return cbed(**{"scan": (3, 4), "sig": SIG, "lattice": LATTICE, "radius": 3.5, "dose": 4000.0} | options)


def test_dose_is_the_expected_total():
    scan = small(background=0.1)
    totals = scan.expected(0, 12).sum(axis=(1, 2), dtype=np.float64)
    np.testing.assert_allclose(totals, 4000 + 0.1 * 64 * 72, rtol=1e-3)
    counted = scan.array().sum(dtype=np.int64)
    mean = 12 * (4000 + 0.1 * 64 * 72)
    assert counted == pytest.approx(mean, abs=5 * math.sqrt(mean))


def test_disks_are_where_the_truth_says():
    scan = small(strain=df.smooth_random((3, 4), 0.02, 2), descan=2.0, ellipse=0.03, ellipse_angle=0.4)
    frames = scan.expected(0, 12)
    for frame, centres in zip(frames, scan.truth.centres, strict=True):
        for cy, cx in centres:
            y0, x0 = round(cy) - 5, round(cx) - 5
            if min(y0, x0) < 0 or y0 + 11 > SIG[0] or x0 + 11 > SIG[1]:
                continue
            crop = frame[y0 : y0 + 11, x0 : x0 + 11].astype(np.float64)
            y, x = np.mgrid[:11, :11]
            assert (crop * y).sum() / crop.sum() + y0 == pytest.approx(cy, abs=1e-2)
            assert (crop * x).sum() / crop.sum() + x0 == pytest.approx(cx, abs=1e-2)


def test_stretched_crystal_has_shorter_diffraction_vectors():
    plain, stretched = small(), small(strain=df.uniform((3, 4), eps_xx=0.02))
    g = plain.truth.centres[0] - plain.truth.zero
    np.testing.assert_allclose(stretched.truth.centres[5] - plain.truth.zero, g / [1, 1.02], atol=1e-12)


def test_rotated_crystal_turns_the_pattern_from_x_to_y():
    scan = small(strain=df.uniform((3, 4), theta=0.05))
    a = scan.truth.indices.tolist().index([1, 0])
    dy, dx = scan.truth.centres[0, a] - scan.truth.zero
    assert math.atan2(dy, dx) == pytest.approx(math.atan2(1.0, 13.0) + 0.05, abs=1e-12)


def test_strain_read_off_the_centres_is_the_truth():
    field = df.smooth_random((3, 4), 0.02, 1, seed=9)
    scan = small(strain=field)
    truth = scan.truth
    for n in range(12):
        G0 = truth.indices @ np.stack([truth.a, truth.b])
        T, *_ = np.linalg.lstsq(G0[:, ::-1], (truth.centres[n] - truth.zero)[:, ::-1], rcond=None)
        F = np.linalg.inv(T.T).T
        np.testing.assert_allclose(F, field.F.reshape(-1, 2, 2)[n], atol=1e-12)


def test_truth_lists_the_reflections_that_fit():
    truth = small().truth
    fits = [
        (h, k)
        for h in range(-9, 10)
        for k in range(-9, 10)
        if 3.5 <= 32 + h + 13 * k <= 63 - 3.5 and 3.5 <= 36 + 13 * h - k <= 71 - 3.5
    ]
    assert sorted(map(tuple, truth.indices.tolist())) == sorted(fits)
    assert truth.indices[0].tolist() == [0, 0]


@given(st.integers(0, 12), st.integers(0, 12))
def test_frames_do_not_depend_on_how_they_are_cut(start, stop):
    start, stop = sorted((start, stop))
    scan = small(background=0.2, missing=0.3, detector=Detector(gain=2.0, readout=1.0, offset=20))
    np.testing.assert_array_equal(scan.frames(start, stop), scan.array().reshape(12, *SIG)[start:stop])


def test_it_is_a_source():
    scan = small(background=0.1)
    check_source(scan, scan.array())
    assert scan.shape == (3, 4, 64, 72)
    assert scan.shape.sig_dims == 2


def test_missing_disks():
    scan = small(missing=0.3, scan=(20, 20))
    there = scan.truth.density > 0
    assert there[:, 0].all()
    share = 1 - there[:, 1:].mean()
    assert share == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / there[:, 1:].size))
    n, m = np.argwhere(~there)[0]
    cy, cx = scan.truth.centres[n, m]
    assert scan.expected(n, n + 1)[0, round(cy), round(cx)] == 0


def test_bend_moves_intensities_and_leaves_positions():
    flat, bent = small(), small(bend=10.0)
    np.testing.assert_array_equal(flat.truth.centres, bent.truth.centres)
    density, g = bent.truth.density, bent.truth.centres[0] - bent.truth.zero
    lean = density @ g / density.sum(1, keepdims=True)
    assert (np.diff(lean[:, 1].reshape(3, 4), axis=1) > 0).all()
    assert (np.diff(lean[:, 0].reshape(3, 4), axis=0) > 0).all()


def test_grains_are_turned_against_one_another():
    scan = small(grains=2)
    assert scan.truth.grain.tolist() == [[0, 0, 1, 1]] * 3
    turned = scan.truth.centres[3] - scan.truth.zero
    plain = scan.truth.centres[0] - scan.truth.zero
    cos, sin = math.cos(GRAIN_TURN), math.sin(GRAIN_TURN)
    np.testing.assert_allclose(turned[:, 1], cos * plain[:, 1] - sin * plain[:, 0], atol=1e-9)
    np.testing.assert_allclose(turned[:, 0], sin * plain[:, 1] + cos * plain[:, 0], atol=1e-9)


def test_ellipse_stretches_along_its_angle():
    scan, plain = small(ellipse=0.04), small()
    g = plain.truth.centres[0] - plain.truth.zero
    np.testing.assert_allclose(scan.truth.centres[0] - plain.truth.zero, g * [0.98, 1.02], atol=1e-12)


def test_descan_shifts_the_whole_pattern():
    scan, plain = small(descan=3.0), small()
    np.testing.assert_allclose(scan.truth.shift[0, 0], [-3, -3])
    np.testing.assert_allclose(scan.truth.shift[2, 1], [3, -1])
    np.testing.assert_allclose(
        scan.truth.centres[9] - plain.truth.centres[9], np.tile([3, -1], (len(plain.truth.indices), 1))
    )
    given = np.random.default_rng(0).normal(size=(3, 4, 2))
    np.testing.assert_array_equal(small(descan=given).truth.shift, given)


@pytest.mark.parametrize("structure", ["tilt", "half", "fringes"])
def test_structured_disks_keep_the_dose_and_the_place(structure):
    scan = small(structure=structure, falloff=0.0)
    plain = small(falloff=0.0).expected(0, 1)[0].astype(np.float64)
    frame = scan.expected(0, 1)[0].astype(np.float64)
    # fringes do not end on whole periods
    assert frame.sum() == pytest.approx(plain.sum(), rel=0.25 if structure == "fringes" else 1e-3)
    assert not frame[plain == 0].any()
    inside = plain > 0.999 * plain.max()
    assert frame[inside].max() / frame[inside].min() > 2


def test_dynamical_intensity_follows_two_beams():
    scan = small(structure="dynamical", thickness=0.5, thickness_wedge=0.5, falloff=0.0)
    np.testing.assert_allclose(scan.truth.thickness[1], [0.5, 2 / 3, 5 / 6, 1.0])
    n, frame = 1, scan.expected(1, 2)[0]
    t = scan.truth.thickness.ravel()[n]
    peak = scan.truth.density[n, 0]
    w = scan.phase[n]
    rocking = np.sin(np.pi * t * np.sqrt(1 + w**2)) ** 2 / (1 + w**2)
    # in the middle of each disk; the direct beam has what its rocking curve leaves
    expected = peak * np.where(np.arange(len(w)) == 0, 1 - rocking, rocking)
    centres = scan.truth.centres[n]
    near = np.abs(centres - centres.round()).max(axis=1) < 0.2
    for m in np.flatnonzero(near):
        cy, cx = centres[m].round().astype(int)
        assert frame[cy, cx] == pytest.approx(expected[m], abs=0.12 * peak)


@pytest.mark.parametrize(
    "option",
    [
        {"strain": df.uniform((3, 4), eps_yy=0.01)},
        {"dose": 5000.0},
        {"structure": "tilt"},
        {"structure": "half"},
        {"structure": "fringes"},
        {"structure": "dynamical"},
        {"falloff": 2.0},
        {"missing": 0.5},
        {"bend": 3.0},
        {"grains": 2},
        {"ellipse": 0.05},
        {"ellipse": 0.05, "ellipse_angle": 1.0},
        {"descan": 1.0},
        {"structure": "dynamical", "thickness": 0.3},
        {"structure": "dynamical", "thickness_wedge": 0.3},
        {"background": 0.1},
        {"gain": 2.0},
        {"detector": Detector(readout=3.0, offset=10)},
        {"noise": False},
        {"seed": 1},
    ],
)
def test_every_option_does_something(option):
    without_last = dict(list(option.items())[:-1])
    assert not np.array_equal(small(**option).frames(0, 12), small(**without_last).frames(0, 12))


def test_gain_multiplies_counts():
    np.testing.assert_array_equal(small(gain=3.0).frames(0, 2), 3 * small().frames(0, 2))


def test_defaults_show_about_25_disks():
    scan = cbed((2, 2), (128, 128))
    assert len(scan.truth.indices) == 25
    assert scan.dtype == np.uint16


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"structure": "tlt"}, "Did you mean 'tilt'"),
        ({"missing": 1.5}, "between 0 and 1"),
        ({"grains": 5}, "1 to 4"),
        ({"thickness_wedge": 1.0}, "structure='dynamical'"),
        ({"gain": 2.0, "detector": Detector()}, "gain= alone"),
        ({"dose": -1.0}, "cannot be negative"),
        ({"strain": df.uniform((2, 2))}, "scan shape"),
        ({"lattice": ((1, 2), (3, 4))}, "shape"),
        ({"lattice": ((32, 36), (1, 10), (2, 20))}, "parallel"),
        ({"lattice": ((1, 1), (0, 10), (10, 0))}, "no disk of radius"),
        ({"descan": np.zeros((3, 4))}, "descan"),
        ({"detector": Detector(hot=((64, 0),))}, "outside the detector"),
        ({"scan": (0, 4)}, "at least one frame"),
    ],
)
def test_refusals(options, text):
    with pytest.raises(DataError, match=text):
        small(**options)


def test_frames_outside_the_scan_are_refused():
    with pytest.raises(DataError, match="scan of 12 frames"):
        small().frames(10, 13)
