"""Kam's relation: exact algebra, and simulated shots."""

from dataclasses import replace

import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError
from framefold.sim.fxs import simulate
from framefold.sim.fxs_particle import Particle
from framefold.udfs.fxs import C2UDF, Geometry, PolarGrid
from framefold.udfs.fxs.c2_result import Correlation
from framefold.udfs.fxs.harmonics import legendre, sphere
from framefold.udfs.fxs.invariants_file import load, save
from framefold.udfs.fxs.kam import correlations, invert

GRID = PolarGrid(12, 64, 0.02, 0.32)
GEO = Geometry(distance=0.2, pixel_size=1e-4, wavelength=2e-10, centre=(50, 50), shape=(100, 100))


@pytest.fixture(scope="module")
def particle():
    return Particle.blobs(30, seed=3, radius=25.0, width=4.0)


def exact(b_l, saxs, grid=GRID):
    """Correlations that hold exactly what B_l say."""
    orders = np.arange(grid.n_phi // 2 + 1)
    c = correlations(b_l, grid.q, 2.0, orders)
    i, j = np.tril_indices(grid.n_q)
    return Correlation(
        grid=grid, orders=orders, products=np.stack([c[:, i, j]] * 2) * 50,
        amplitudes=np.zeros((2, len(orders), grid.n_q), complex), frames=np.array([50, 50]),
        weight=np.ones(grid.shape, "f4"), saxs=saxs, saxs2=saxs**2, wavelength=2.0,
    )  # fmt: skip


def test_legendre_functions_are_orthonormal_and_those_of_scipy():
    nodes, w = np.polynomial.legendre.leggauss(25)
    y = legendre(20, nodes)
    for m in (0, 1, 7, 20):
        gram = 2 * np.pi * np.einsum("lt,kt,t->lk", y[m:, m], y[m:, m], w)
        np.testing.assert_allclose(gram, np.eye(21 - m), atol=1e-12)
    assert legendre(2, np.array([0.3]))[2, 1, 0] == pytest.approx(
        -np.sqrt(15 / (8 * np.pi)) * 0.3 * np.sqrt(1 - 0.09)
    )
    directions, weights = sphere(6)
    assert weights.sum() == pytest.approx(4 * np.pi)
    assert (weights * directions[:, 2] ** 4).sum() == pytest.approx(4 * np.pi / 5)


def test_the_relation_is_the_legendre_sum_over_the_angle_between_the_vectors(particle):
    """C2(q, q', D) = 1/(4 pi) sum_l B_l P_l(cosT cosT' + sinT sinT' cosD)."""
    b = particle.invariants(GRID.q, 8)
    c = correlations(b, GRID.q, 2.0, np.arange(9))
    cos = -GRID.q * 2.0 / (4 * np.pi)
    sin = np.sqrt(1 - cos**2)
    for d in (0.0, 0.7, 2.0):
        x = np.outer(cos, cos) + np.outer(sin, sin) * np.cos(d)
        expected = sum(b[i] * np.polynomial.legendre.Legendre.basis(2 * i)(x) for i in range(5)) / (4 * np.pi)
        got = c[0] + 2 * sum(c[m] * np.cos(m * d) for m in range(1, 9))
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12 * b.max())


def test_the_side_to_which_the_ewald_sphere_bends_does_not_matter(particle):
    """Of pairs: every Y_lm changes by the same sign, which its partner undoes (l is even)."""
    b = particle.invariants(GRID.q, 8)
    y = legendre(8, GRID.q * 2.0 / (4 * np.pi))  # cos of the polar angle with the other sign
    degrees = np.arange(0, 9, 2)
    for m in (1, 2, 5, 8):
        other = sum(b[n // 2] / (2 * n + 1) * np.outer(y[n, m], y[n, m]) for n in degrees if n >= m)
        ours = correlations(b, GRID.q, 2.0, np.array([m]))[0]
        np.testing.assert_allclose(ours, other, atol=1e-13 * abs(b).max())


@pytest.mark.parametrize("method, tolerance", [("triangular", 1e-12), ("lsq", 1e-3)])
def test_exact_correlations_give_the_invariants_back(particle, method, tolerance):
    """Oracle 9."""
    b = particle.invariants(GRID.q, 8)
    inv = invert(exact(b, particle.debye(GRID.q)), 6, method=method, covariance=False)
    for i in range(4):
        assert np.linalg.norm(inv.b_l[i] - b[i]) < tolerance * np.linalg.norm(b[i])
    assert inv.cc_half[1:] == pytest.approx(1)


def test_agreement_is_that_of_all_shells_and_not_of_the_brightest(particle):
    """Noise of 0.3 % of the intensity at small q drowns B_6 there, and is far above B_6 at large q."""
    c = exact(particle.invariants(GRID.q, 8), particle.debye(GRID.q))
    rng = np.random.default_rng(5)
    i, j = np.tril_indices(GRID.n_q)
    bright = (i < 3) & (j < 3)
    noise = rng.normal(size=(2, len(c.orders), len(i))) * bright * (0.003 * c.saxs[i] * c.saxs[j])
    noisy = invert(replace(c, products=c.products + 50 * noise), 6, covariance=False)
    assert noisy.cc_half[1:].min() > 0.9


def test_the_top_takes_what_lies_beyond(particle):
    """Solving to L + 2 and dropping the top keeps the alias of higher degrees out."""
    b = particle.invariants(GRID.q, 16)
    c = exact(b, particle.debye(GRID.q))
    inv = invert(c, 8, covariance=False)
    error = [np.linalg.norm(inv.b_l[i] - b[i]) / np.linalg.norm(b[i]) for i in range(5)]
    assert max(error[:4]) < 0.02
    top = invert(c, 10, covariance=False)
    assert np.linalg.norm(top.b_l[5] - b[5]) / np.linalg.norm(b[5]) > error[3]


def test_many_particles_count_once_and_twice(particle):
    b = particle.invariants(GRID.q, 8)
    saxs = particle.debye(GRID.q)
    three = b * 3.0
    inv = invert(exact(three, 3 * saxs), 6, n_particles=3.0, covariance=False)
    for i in range(4):
        assert np.linalg.norm(inv.b_l[i] - b[i]) < 1e-12 * np.linalg.norm(b[i])


def test_the_diameter_leaves_out_what_cannot_be_there(particle):
    b = particle.invariants(GRID.q, 8)
    inv = invert(exact(b, particle.debye(GRID.q)), 6, diameter=20.0, covariance=False)
    assert (inv.b_l[3][:2, :2] == 0).all()
    assert (inv.b_l[3][-1, -1] != 0).all()


def shots_give(particle, n):
    shots = simulate(particle, GEO, n, grid=GRID)
    udf = C2UDF(None, GRID, wavelength=2.0)
    with ff.Context() as ctx:
        return udf.correlation(ctx.run_udf(ctx.load(shots), udf))


def errors_of(particle, n):
    c = shots_give(particle, n)
    b = particle.invariants(GRID.q, 8)
    inv = invert(c, 8, covariance=False)
    return [float(np.linalg.norm(inv.b_l[i] - b[i]) / np.linalg.norm(b[i])) for i in range(1, 4)]


def test_shots_give_the_invariants(particle):
    """Oracle 9 with a tenth of the shots: errors are sqrt(10) times those of 20,000."""
    assert (np.array(errors_of(particle, 2000)) < np.array([0.01, 0.01, 0.015]) * np.sqrt(10) * 1.5).all()


@pytest.mark.slow
def test_twenty_thousand_shots_give_the_invariants(particle):
    """Oracle 9: B_2, B_4 within 1 %, B_6 within 1.5 %."""
    assert (np.array(errors_of(particle, 20_000)) < [0.01, 0.01, 0.015]).all()


def test_what_cannot_be_inverted_is_explained(particle):
    c = exact(particle.invariants(GRID.q, 8), particle.debye(GRID.q))
    with pytest.raises(DataError, match="do not know the wavelength"):
        invert(replace(c, wavelength=None))
    with pytest.raises(DataError, match="an even number"):
        invert(c, 5)
    with pytest.raises(DataError, match="needs the even orders 2 .. 34"):
        invert(c, 32)
    with pytest.raises(DataError, match="'triangular' or 'lsq'"):
        invert(c, method="magic")
    with pytest.raises(DataError, match="beyond backscattering"):
        correlations(np.zeros((1, 1, 1)), np.array([9.0]), 2.0, np.array([0]))


def test_invariants_are_saved(tmp_path, particle):
    import h5py

    inv = invert(exact(particle.invariants(GRID.q, 8), particle.debye(GRID.q)), 6)
    save(inv, tmp_path / "bl.nxs")
    with h5py.File(tmp_path / "bl.nxs") as f:
        np.testing.assert_array_equal(f["entry/data/B_l"], inv.b_l)
    np.testing.assert_array_equal(load(tmp_path / "bl.nxs").b_l, inv.b_l)
    with pytest.raises(DataError, match="exists"):
        save(inv, tmp_path / "bl.nxs")
    with h5py.File(tmp_path / "other.nxs", "w") as f:
        f["a"] = 1
    with pytest.raises(DataError, match="holds no invariants"):
        load(tmp_path / "other.nxs")
