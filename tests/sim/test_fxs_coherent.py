"""Interfering particles against the sum of amplitudes with the phases of their places."""

from dataclasses import replace

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.sim.fxs import simulate
from framefold.sim.fxs_particle import Particle
from framefold.udfs.fxs import Geometry, PolarGrid

GEO = Geometry(distance=0.5, pixel_size=1e-3, wavelength=2e-10, centre=(8, 8), shape=(16, 16))
GRID = PolarGrid(8, 32, 0.01, 0.1)
BLOBS = Particle.blobs(6, seed=2, radius=25, width=4)


def test_amplitudes_add_with_the_phases_of_their_places():
    shots = simulate(BLOBS, GEO, 4, n_particles=3, coherent=True, focus=150.0, grid=GRID, seed=3)
    q = shots.points
    form = BLOBS.form_factors(np.linalg.norm(q, axis=1))[0]
    for j, frame in enumerate(shots.array()):
        total = np.zeros(len(q), complex)
        for rotation, place in zip(shots.shot(j)[1], shots.places(j), strict=True):
            for atom in BLOBS.positions:
                total += form * np.exp(1j * (q @ rotation.T) @ atom) * np.exp(1j * q @ place)
        np.testing.assert_allclose(frame.reshape(-1), abs(total) ** 2, rtol=1e-4, atol=1e-4)


def test_one_particle_does_not_interfere():
    one = simulate(BLOBS, GEO, 5, coherent=True, grid=GRID, seed=3).array()
    np.testing.assert_allclose(one, simulate(BLOBS, GEO, 5, grid=GRID, seed=3).array(), rtol=1e-4, atol=1e-4)


def test_at_one_place_amplitudes_add_forwards():
    """At q -> 0 the intensity of n particles is n^2 times that of one; of particles apart it is n times."""
    grid = PolarGrid(1, 8, 1e-5, 2e-5)
    single = simulate(BLOBS, GEO, 1, grid=grid).array()
    for coherent, factor in ((True, 16), (False, 4)):
        got = simulate(BLOBS, GEO, 1, n_particles=4, coherent=coherent, focus=0.0, grid=grid).array()
        np.testing.assert_allclose(got, factor * single, rtol=1e-5)


def test_interference_averages_to_the_sum_of_intensities():
    """Places spread over many periods: cross terms average to 0, within 4.5 standard errors."""
    grid = PolarGrid(3, 8, 0.04, 0.1)
    frames = simulate(BLOBS, GEO, 2000, n_particles=2, coherent=True, focus=1000.0, grid=grid).array()
    rings = frames.mean(axis=2)
    error = rings.std(axis=0) / np.sqrt(2000)
    assert (abs(rings.mean(axis=0) - 2 * BLOBS.debye(grid.q)) < 4.5 * error).all()


def test_shots_are_photons_and_what_cannot_interfere_is_refused():
    shots = simulate(
        BLOBS, GEO, 6, photons=500, n_particles=2, poisson_particles=True, coherent=True, hit_rate=0.5
    )
    whole = shots.array()
    np.testing.assert_array_equal(shots.frames(2, 4), whole[2:4])
    assert (whole[~shots.hits] == 0).all()
    with pytest.raises(DataError, match="some occupancies are not 1"):
        simulate(replace(BLOBS, weights=np.full(6, 0.5)), GEO, 2, coherent=True)
    with pytest.raises(DataError, match="focus=-1.0 is negative"):
        simulate(BLOBS, GEO, 2, coherent=True, focus=-1.0)
