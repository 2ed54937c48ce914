"""Lattice fits against numpy's least squares, outliers and random numbers."""

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.udfs.blobfinder.kernels_lattice import fit_lattice_reference
from framefold.udfs.blobfinder.lattice import Lattice, LatticeFit, Lattices, as_lattice, fit_block, indices_on

HK = np.array([(h, k) for h in range(-2, 3) for k in range(-2, 3)], dtype=np.float64)
TRUE = np.array([[63.2, 65.1], [2.0, 21.0], [22.5, -1.0]])


def fitted(centers, sigma, usable=None, hk=HK, **options):
    n, m = centers.shape[:2]
    f32 = np.float32
    out = Lattices(
        np.empty((n, 2), f32), np.empty((n, 2), f32), np.empty((n, 2), f32), np.empty((n, 3), f32),
        np.empty(n, f32), np.empty(n, np.int32), np.empty((n, m), bool),
    )  # fmt: skip
    usable = np.ones((n, m), bool) if usable is None else usable
    fit_block(centers.astype(f32), sigma.astype(f32), usable, hk, LatticeFit(**options), out)
    return out


def noisy(n, sigma, seed=0):
    rng = np.random.default_rng(seed)
    at = np.column_stack([np.ones(len(HK)), HK]) @ TRUE
    s = np.broadcast_to(sigma, (n, len(HK)))[..., None].repeat(2, axis=-1)
    return at + rng.normal(size=(n, len(HK), 2)) * s, s


def test_against_lstsq():
    sigma = np.random.default_rng(1).uniform(0.02, 0.5, len(HK))
    centers, s = noisy(20, sigma)
    out = fitted(centers, s, rounds=0)
    for f in range(20):
        truth = fit_lattice_reference(
            centers[f].astype(np.float32).astype(float), s[f].astype(np.float32), HK
        )
        # results are stored in float32: 4e-6 of 64
        np.testing.assert_allclose(np.stack([out.zero[f], out.a[f], out.b[f]]), truth, atol=1e-5)
    assert (out.used == len(HK)).all() and out.selector.all()


def test_covariance_is_the_scatter():
    centers, s = noisy(4000, 0.1)
    out = fitted(centers, s)
    for i, v in ((0, out.a), (2, out.b)):
        assert np.var(v, axis=0).mean() == pytest.approx(out.cov[:, i].mean(), rel=0.15)
    mixed = np.mean((out.a - out.a.mean(0)) * (out.b - out.b.mean(0)))
    assert mixed == pytest.approx(out.cov[:, 1].mean(), abs=0.1 * float(out.cov[:, 0].mean()))
    assert out.residual.mean() == pytest.approx(0.1 * np.sqrt(1 - 3 / 25), rel=0.05)


def test_outliers_are_rejected():
    n = 400
    centers, s = noisy(n, 0.05)
    rng = np.random.default_rng(2)
    out_of_place = rng.permuted(np.tile(np.arange(len(HK)) < 5, (n, 1)), axis=1)
    # all to the same side: least squares would follow
    centers[out_of_place] += rng.uniform(1.0, 4.0, (n, len(HK), 2))[out_of_place]
    out = fitted(centers, s)
    for v, truth in ((out.zero, TRUE[0]), (out.a, TRUE[1]), (out.b, TRUE[2])):
        spread = v.std(axis=0)
        assert (np.abs(v.mean(axis=0) - truth) < np.maximum(3 * spread / np.sqrt(n), 2e-3)).all()
        assert (spread < 0.05).all()
    assert not (out.selector & out_of_place).mean() > 0.01


def test_unusable_disks_do_not_count():
    centers, s = noisy(3, 0.05)
    usable = np.ones((3, len(HK)), bool)
    usable[1, 4:] = False
    centers[2, 7] = np.nan
    out = fitted(centers, s, usable)
    assert out.used.tolist() == [25, 0, 24]
    assert np.isnan(out.a[1]).all() and np.isnan(out.cov[1]).all() and np.isnan(out.residual[1])
    assert not out.selector[1].any() and not out.selector[2, 7]


def test_disks_on_a_line_give_nothing():
    centers, s = noisy(1, 0.05)
    line = HK[:, 0] == 0
    usable = np.broadcast_to(line, (1, len(HK)))
    assert np.isnan(fitted(centers, s, usable, min_peaks=5).a).all()


def test_excess_scatter_widens_the_error():
    centers, s = noisy(500, 0.1)
    modest, honest = fitted(centers, s / 4), fitted(centers, s)
    assert modest.cov[:, 0].mean() == pytest.approx(honest.cov[:, 0].mean(), rel=0.15)


@pytest.mark.parametrize(
    "given, message",
    [
        (((0, 0), (0, 20), (0, 10)), "parallel"),
        (((0, 0), (0, 20)), r"\(zero, a, b\)"),
        ("none", r"\(zero, a, b\)"),
        (((0, 0), (0, np.nan), (20, 0)), "not finite"),
        (((0, 0), (0, 0), (20, 0)), "parallel or vanish"),
    ],
)
def test_no_lattice(given, message):
    with pytest.raises(DataError, match=message):
        as_lattice(given)


@pytest.mark.parametrize("option", [{"min_peaks": 2}, {"rounds": -1}, {"sigma_floor": 0.0}])
def test_fit_options(option):
    with pytest.raises(DataError):
        LatticeFit(**option)


def test_indices_on_the_detector():
    lattice = Lattice((60.0, 70.0), (3.0, 20.0), (22.0, 1.0))
    hk = indices_on(lattice, (128, 130), 6.0)
    assert hk[0].tolist() == [0, 0]
    grid = np.mgrid[-20:21, -20:21].reshape(2, -1).T
    at = grid @ lattice.rows()[1:] + lattice.zero
    inside = ((at >= 6) & (at <= np.array([128, 130]) - 7)).all(axis=1)
    assert {tuple(v) for v in hk.tolist()} == {tuple(v) for v in grid[inside].tolist()}
    far = np.hypot(*(hk @ lattice.rows()[1:]).T)
    assert (np.diff(far) > -1e-5).all()


def test_spacing_is_the_shortest_vector():
    assert Lattice((0, 0), (0.0, 20.0), (5.0, 38.0)).spacing == pytest.approx(np.hypot(5, 2))
