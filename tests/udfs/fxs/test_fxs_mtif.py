"""Filtering: radial terms by quadrature; noise-free in is out; noise goes down."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import spherical_jn

from framefold.errors import DataError
from framefold.sim.fxs_particle import Particle
from framefold.udfs.fxs.kam import Invariants
from framefold.udfs.fxs.mtif import filter_invariants, radial_terms, zeros_of_bessel

Q = np.linspace(0.01, 0.3, 40)


@pytest.fixture(scope="module")
def particle():
    return Particle.blobs(20, seed=4, radius=22.0, width=4.0)


@pytest.fixture(scope="module")
def truth(particle):
    return Invariants(Q, np.arange(0, 7, 2), particle.invariants(Q, 6), np.full(4, np.nan), 1.0)


def diameter_of(particle):
    """Blobs reach four standard deviations beyond their centres, on both sides."""
    return particle.diameter + 8 * 4.0


def noisy(truth, level, seed=0):
    """Noise relative to SAXS SAXS', symmetric, as correlations of finite numbers of shots have it."""
    rng = np.random.default_rng(seed)
    root = np.sqrt(np.diag(truth.b_l[0]))
    noise = rng.normal(size=truth.b_l.shape)
    noise = (noise + noise.swapaxes(1, 2)) / np.sqrt(2) * level * np.outer(root, root)
    noise[0] = 0
    return Invariants(truth.q, truth.degrees, truth.b_l + noise, truth.cc_half, 1.0)


def error(inv, truth):
    root = np.sqrt(np.diag(truth.b_l[0]))
    d = (inv.b_l - truth.b_l) / np.outer(root, root)
    return np.sqrt((d[1:] ** 2).mean(axis=(1, 2)))


def test_zeros_are_those_of_the_tables():
    """Abramowitz and Stegun, table 10.6: j_1 at 4.493409, 7.725252; j_2 at 5.763459."""
    assert zeros_of_bessel(1, 8.0) == pytest.approx([4.493409, 7.725252], abs=1e-6)
    assert zeros_of_bessel(2, 6.0) == pytest.approx([5.763459], abs=1e-6)
    assert zeros_of_bessel(0, 7.0) == pytest.approx([np.pi, 2 * np.pi])


def _integral(degree, a, b, end):
    return quad(
        lambda r: spherical_jn(degree, a * r) * spherical_jn(degree, b * r) * r * r, 0, end, limit=200
    )[0]


@pytest.mark.parametrize("degree", [0, 2, 4])
def test_radial_terms_are_their_integrals(degree):
    diameter = 60.0
    zeros = zeros_of_bessel(degree, 0.3 * diameter)
    q = np.array([0.05, 0.17, zeros[0] / diameter, 0.3])  # the third meets a zero
    phi = radial_terms(degree, q, diameter)
    for i, k in enumerate(q):
        for n in range(2):
            expected = _integral(degree, zeros[n] / diameter, k, diameter)
            assert phi[i, n] == pytest.approx(expected, rel=1e-7, abs=1e-7 * diameter**3)


def test_noise_free_invariants_pass(particle, truth):
    filtered = filter_invariants(truth, diameter_of(particle)).invariants
    assert (error(filtered, truth) < 2e-3).all()


def test_noise_goes_down_in_every_degree(particle, truth):
    dirty = noisy(truth, 0.02)
    found = filter_invariants(dirty, diameter_of(particle))
    clean = error(found.invariants, truth)
    # what stays of independent noise is the root of the share of free numbers: (terms / rings), in both directions
    assert (clean < 1.2 * found.terms[1:] / len(Q) * error(dirty, truth)).all()
    assert (found.terms[1:] < len(Q)).all()


def test_a_diameter_that_is_half_too_large_still_helps(particle, truth):
    dirty = noisy(truth, 0.02)
    wide = error(filter_invariants(dirty, 1.5 * diameter_of(particle)).invariants, truth)
    assert (wide < error(dirty, truth)).all()


def test_missing_pairs_are_filled_from_the_model(particle, truth):
    b = truth.b_l.copy()
    b[1:, 5, 20] = b[1:, 20, 5] = b[1:, 12, 13] = b[1:, 13, 12] = np.nan
    gap = Invariants(truth.q, truth.degrees, b, truth.cc_half, 1.0)
    found = filter_invariants(gap, diameter_of(particle))
    assert np.isfinite(found.invariants.b_l).all()
    root = np.sqrt(np.diag(truth.b_l[0]))
    for i, j in ((5, 20), (12, 13)):
        assert (abs(found.invariants.b_l[1:, i, j] - truth.b_l[1:, i, j]) < 0.02 * root[i] * root[j]).all()


def test_what_cannot_be_filtered_is_explained(truth):
    with pytest.raises(DataError, match="is not positive"):
        filter_invariants(truth, 0.0)
    with pytest.raises(DataError, match="a smaller l_max"):
        filter_invariants(truth, 1.0)
