"""Simulated shots against sums over atoms, Debye's formula and statistics."""

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.sim.fxs import simulate
from framefold.sim.fxs_particle import Particle
from framefold.sim.kernels_fxs import direct_reference
from framefold.udfs.fxs import Geometry, PolarGrid

GEO = Geometry(distance=0.5, pixel_size=1e-3, wavelength=2e-10, centre=(16, 16), shape=(32, 32))

PDB = """HEADER    TEST
ATOM      1  N   MET A   1      27.340  24.430   2.614  1.00  9.67           N
ATOM      2  CA  MET A   1      26.266  25.413   2.842  1.00 10.38           C
ATOM      3  C   MET A   1      26.913  26.639   3.531  0.50  9.62           C
ATOM      4  O   MET A   1      27.886  26.463   4.263  1.00  9.62           O
END
"""


@pytest.fixture(scope="module")
def particle():
    return Particle.blobs(15, seed=2, radius=25, width=4)


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    return x / np.linalg.norm(x, axis=1, keepdims=True) * rng.uniform(0.01, 0.3, (400, 1))


def test_sums_over_atoms_are_the_definition(particle, points):
    f = particle.form_factors(np.linalg.norm(points, axis=1))[particle.kinds]
    expected = direct_reference(particle.positions, f, points)
    np.testing.assert_allclose(particle.intensity(points), expected, rtol=1e-9, atol=1e-9 * expected.max())


def test_the_grid_is_the_sum_over_atoms(particle, points):
    exact, grid = particle.intensity(points), particle.diffraction(0.31).intensity(points)
    assert np.sqrt(((grid - exact) ** 2).mean() / (exact**2).mean()) < 1.5e-3


def test_atoms_come_from_a_file_with_their_form_factors(tmp_path, points):
    pytest.importorskip("gemmi", reason="structure files need the extra framefold[fxs]")
    path = tmp_path / "small.pdb"
    path.write_text(PDB)
    p = Particle.from_file(path)
    # at q = 0 form factors are the electrons: N 7, C 6, half a C, O 8
    assert p.intensity(np.zeros((1, 3)))[0] == pytest.approx((7 + 6 + 3 + 8) ** 2, rel=1e-3)
    assert p.positions.shape == (4, 3)
    path.write_text("END\n")
    with pytest.raises(DataError, match="has no atoms"):
        Particle.from_file(path)
    with pytest.raises(DataError, match="cannot read the structure"):
        Particle.from_file(tmp_path / "none.pdb")


def test_invariants_of_degree_0_are_debyes_formula(particle):
    q = np.linspace(0.02, 0.3, 6)
    b = particle.invariants(q, 4)
    saxs = particle.debye(q)
    np.testing.assert_allclose(b[0], 4 * np.pi * np.outer(saxs, saxs), rtol=1e-10)
    assert min(np.linalg.eigvalsh(x).min() for x in b) > -1e-9 * b.max()


def test_a_frame_depends_on_seed_and_number_only(particle):
    shots = simulate(particle, GEO, 40, photons=2000, pulse_jitter=0.3, hit_rate=0.7, seed=5)
    whole = shots.array()
    np.testing.assert_array_equal(shots.frames(7, 9), whole[7:9])
    again = simulate(particle, GEO, 40, photons=2000, pulse_jitter=0.3, hit_rate=0.7, seed=5)
    np.testing.assert_array_equal(again.frames(0, 40), whole)
    other = simulate(particle, GEO, 40, photons=2000, pulse_jitter=0.3, hit_rate=0.7, seed=6)
    assert (other.frames(0, 40) != whole).any()
    assert (whole[~shots.hits] == 0).all()
    assert (whole[shots.hits].sum(axis=(1, 2)) > 0).all()


def test_photons_are_counted_as_asked_for(particle):
    shots = simulate(particle, GEO, 200, photons=3000, seed=1)
    counts = shots.array().sum(axis=(1, 2))
    expected = shots.expected(0, 200).sum(axis=(1, 2))
    # photons are Poisson about what is expected of each orientation
    assert ((counts - expected) ** 2 / expected).mean() == pytest.approx(1, abs=4 * np.sqrt(2 / 200))
    assert expected.mean() == pytest.approx(3000, rel=0.1)  # 64 orientations fix the scale


def test_the_mean_over_orientations_is_debyes_formula(particle):
    grid = PolarGrid(5, 16, 0.05, 0.25)
    frames = simulate(particle, GEO, 3000, grid=grid).array()
    mean = frames.mean(axis=(0, 2))
    error = frames.mean(axis=2).std(axis=0) / np.sqrt(3000)
    assert (abs(mean - particle.debye(grid.q)) < 4.5 * error).all()


def test_a_turned_detector_sees_the_turned_pattern(particle):
    """Polar bins and pixels lie on the same Ewald sphere: intensities agree where they meet."""
    polar = simulate(particle, GEO, 3, grid=PolarGrid(200, 512, 0.001, 0.09), seed=3).array()
    frames = simulate(particle, GEO, 3, seed=3, polarisation=0.0).array()
    response = GEO.solid_angle() * GEO.polarisation(0.0)
    q, chi = GEO.q(), GEO.chi()
    inside = (q > 0.01) & (q < 0.08)
    i = ((q - 0.001) / (0.089 / 200)).astype(int)
    p = np.floor(chi / (2 * np.pi) * 512 + 0.5).astype(int) % 512
    for a, b in zip(frames / response, polar, strict=True):
        assert np.corrcoef(a[inside], b[i[inside], p[inside]])[0, 1] > 0.9995


def test_particles_add_their_intensities(particle):
    one = simulate(particle, GEO, 500, grid=PolarGrid(4, 8, 0.02, 0.2), seed=1).array().mean()
    three = (
        simulate(particle, GEO, 500, grid=PolarGrid(4, 8, 0.02, 0.2), n_particles=3, seed=2).array().mean()
    )
    assert three / one == pytest.approx(3, rel=0.1)
    mean = simulate(
        particle, GEO, 2000, grid=PolarGrid(1, 4, 0.02, 0.2), n_particles=0.5, poisson_particles=True
    )
    counts = np.array([len(mean.shot(j)[1]) for j in range(2000)])
    assert counts.mean() == pytest.approx(0.5, abs=4 * np.sqrt(0.5 / 2000))
    assert counts.var() == pytest.approx(0.5, rel=0.2)


def test_gaps_and_bad_pixels_are_dark_and_masked(particle):
    shots = simulate(particle, GEO, 3, photons=1e5, panels=(2, 1), gap=4, bad_pixels=0.05, background=1.0)
    assert shots.mask[14:18].all()
    assert 0.1 < shots.mask.mean() < 0.25
    assert (shots.array()[:, shots.mask] == 0).all()
    assert shots.metadata.mask is shots.mask


@pytest.mark.parametrize(
    "kw, message",
    [
        ({"photons": -1}, "photons=-1 is not positive"),
        ({"noise": True}, "noise needs photons="),
        ({"hit_rate": 0}, "hit_rate=0"),
        ({"n_particles": 1.5}, "pass poisson_particles=True"),
        ({"background": -1}, "cannot be negative"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(particle, kw, message):
    with pytest.raises(DataError, match=message):
        simulate(particle, GEO, 3, **kw)
