"""Indices of the nearest lattice points against lattices that were turned and moved on purpose."""

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.sim import deformation
from framefold.sim.stem import cbed
from framefold.udfs.blobfinder.correlate import CropCorrelation
from framefold.udfs.blobfinder.kernels_match import match_nearest
from framefold.udfs.blobfinder.lattice import LatticeFit, as_lattice, indices_on
from framefold.udfs.blobfinder.strain_udf import StrainUDF

START = np.array([[64.0, 64.0], [0.5, 15.0], [15.0, -0.5]])
HK = indices_on(as_lattice(START), (128, 128), 5.0).astype(float)


def turned(degrees, shift=(0.0, 0.0)):
    """Return the centres of all disks of a turned lattice, and their indices."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rows = START.copy()
    rows[1:] = START[1:] @ np.array([[c, -s], [s, c]])
    rows[0] += shift
    return rows


@pytest.mark.parametrize(
    "degrees, shift", [(0, (0, 0)), (3, (5, -6)), (8, (0, 1)), (-12, (0, 0)), (4, (9, 9))]
)
def test_indices_of_turned_lattices(degrees, shift):
    rows = turned(degrees, shift)
    rng = np.random.default_rng(0)
    # where the crops look the nearest disk is found, whichever that is
    nodes = np.mgrid[-12:13, -12:13].reshape(2, -1).T
    at = rows[0] + nodes @ rows[1:]
    places = START[0] + np.asarray(shift, float) + HK @ START[1:]
    found = np.argmin(np.hypot(*(places[:, None] - at).transpose(2, 0, 1)), axis=1)
    centers = (at[found] + rng.normal(0, 0.1, (len(HK), 2)))[None].astype(np.float32)
    usable = rng.random((1, len(HK))) > 0.2
    sigma = np.full_like(centers, 0.1)
    hk, matched = np.empty((1, len(HK), 2)), np.empty((1, len(HK)), bool)
    match_nearest(centers, sigma, usable, START, HK, 0.3, hk, matched)
    np.testing.assert_array_equal(hk[0][matched[0]], nodes[found][matched[0]])
    # every disk that any usable crop found counts once
    distinct = {tuple(n) for n in nodes[found][usable[0]]}
    assert matched.sum() == len(distinct)
    assert len({tuple(n) for n in hk[0][matched[0]]}) == len(distinct)


def test_too_few_and_too_far():
    centers = (START[0] + HK @ START[1:])[None].astype(np.float32)
    sigma, usable = np.full_like(centers, 0.1), np.ones((1, len(HK)), bool)
    centers[0, -1] += 6.0  # 8.5 px: more than 0.3 of 15
    hk, matched = np.empty((1, len(HK), 2)), np.empty((1, len(HK)), bool)
    match_nearest(centers, sigma, usable, START, HK, 0.3, hk, matched)
    assert matched[0, :-1].all() and not matched[0, -1]
    usable[0, 4:] = False
    match_nearest(centers, sigma, usable, START, HK, 0.3, hk, matched)
    assert not matched.any()


def test_strain_of_a_crystal_turned_out_of_reach(inline):
    field = deformation.step((4, 8), eps_xx=0.01, theta=np.radians(10.0))
    lattice = ((64, 64), (0.5, 15), (15, -0.5))
    scan = cbed((4, 8), (128, 128), lattice, 4.0, strain=field, dose=200_000, seed=4)
    t = scan.truth
    reference = np.stack([t.a, t.b])
    # beyond half of the spacing either of two disks may be found
    near, wide = LatticeFit(match="nearest"), CropCorrelation(search=8.0)
    plain, followed = (
        inline.run_udf(inline.load(scan), StrainUDF(lattice, 4.0, wide, fit=f, reference=reference))
        for f in (None, near)
    )
    far = np.abs(field.theta) > 0.15
    assert far.any() and followed["valid"].data.all()
    # disks found in another's place spoil the plain fit, which is seen
    assert not plain["valid"].data[far].any()
    assert plain["residual"].data[far].mean() > 5 * followed["residual"].data[far].mean()
    for name in ("eps_xx", "eps_yy", "eps_xy", "theta"):
        sigma = {"theta": "sigma_theta"}.get(name, name.replace("eps", "sigma"))
        off = followed[name].data - getattr(field, name)
        assert np.mean(np.abs(off) < 3 * followed[sigma].data) > 0.95


def test_the_same_where_nothing_moves(inline):
    scan = cbed((3, 4), (96, 96), dose=30_000, seed=1)
    lattice = (scan.truth.zero, scan.truth.a, scan.truth.b)
    ours, other = (
        inline.run_udf(inline.load(scan), StrainUDF(lattice, scan.radius, fit=f))
        for f in (None, LatticeFit(match="nearest"))
    )
    np.testing.assert_array_equal(other["a"].data, ours["a"].data)


def test_refused():
    with pytest.raises(DataError, match="neither 'expected' nor 'nearest'"):
        LatticeFit(match="best")
    with pytest.raises(DataError, match="half a lattice vector"):
        LatticeFit(match="nearest", tolerance=0.7)
