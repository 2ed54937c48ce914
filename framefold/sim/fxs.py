"""Simulate shots of particles in random orientation, with known truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.sim.fxs_coherent import check_coherent
from framefold.sim.fxs_particle import Particle
from framefold.sim.fxs_shots import Shots, add_intensity, random_rotation
from framefold.sim.noise import Detector
from framefold.udfs.fxs.geometry import Geometry
from framefold.udfs.fxs.grid import PolarGrid

Floats = npt.NDArray[np.float64]
DIRECT_ATOMS = 200  # below, sums over atoms are as fast as interpolation, and exact


def simulate(
    particle: Particle,
    geometry: Geometry,
    n: int,
    *,
    grid: PolarGrid | None = None,
    photons: float | None = None,
    n_particles: float = 1,
    poisson_particles: bool = False,
    coherent: bool = False,
    focus: float = 2000.0,
    hit_rate: float = 1.0,
    pulse_jitter: float = 0.0,
    background: float = 0.0,
    detector: Detector | None = None,
    panels: tuple[int, int] = (1, 1),
    gap: int = 4,
    bad_pixels: float = 0.0,
    centre_shift: tuple[float, float] = (0.0, 0.0),
    polarisation: float = 1.0,
    noise: bool | None = None,
    dtype: npt.DTypeLike | None = None,
    seed: int = 0,
    oversampling: float = 2.0,
) -> Shots:
    """Return shots of particles in random orientation on a detector.

    Intensities of several particles add, or amplitudes where they are `coherent`. Points lie on the curved
    Ewald sphere; solid angle and polarisation are those of the geometry.

    Parameters
    ----------
    particle
        What scatters.
    geometry
        The detector.
    n
        Number of shots.
    grid
        Make polar frames on these bins instead, without solid angle and polarisation.
    photons
        Expected photons of one particle on the whole detector; None: intensities in electrons^2.
    n_particles
        Per shot; the mean, with `poisson_particles`.
    poisson_particles
        Draw the number from a Poisson distribution.
    coherent
        Add amplitudes ``F_n exp(i q r_n)`` of the particles of a shot. They are sums over atoms, slow for
        large molecules, and sampled at pixel centres.
    focus
        Standard deviation of the places r_n along each axis in Angstrom; particles may overlap.
    hit_rate
        Part of the shots that have particles at all.
    pulse_jitter
        Relative standard deviation of the (log-normal) pulse energies.
    background
        Photons per pixel of isotropic background.
    detector
        Gain, offset and read-out noise.
    panels, gap
        Panels along both axes, and dead pixels between them.
    bad_pixels
        Part of the pixels that stay dark.
    centre_shift
        By how many pixels (rows, columns) the beam lies off the centre that the geometry states.
    polarisation
        Factor of the beam, 1 for horizontal.
    noise
        Draw photons; None: where `photons` is given.
    dtype
        Of the frames; None: uint16, or float32 without noise.
    seed
        Of everything random.
    oversampling
        See `Particle.diffraction`.

    Examples
    --------
    >>> geo = Geometry(distance=0.5, pixel_size=1e-3, wavelength=2e-10, centre=(32, 32), shape=(64, 64))
    >>> shots = simulate(Particle.blobs(10), geo, 100, photons=1000)
    >>> shots.frames(3, 5).shape
    (2, 64, 64)
    """
    options = dict(locals())
    if n < 1 or n_particles <= 0 or not 0 < hit_rate <= 1:
        raise DataError(f"n={n}, n_particles={n_particles}, hit_rate={hit_rate}: positive, and at most 1")
    if photons is not None and photons <= 0:
        raise DataError(f"photons={photons} is not positive; leave it out for intensities without noise")
    if background < 0 or pulse_jitter < 0 or not 0 <= bad_pixels < 1:
        raise DataError("background, pulse_jitter and bad_pixels cannot be negative (bad_pixels is below 1)")
    if not poisson_particles and n_particles != int(n_particles):
        raise DataError(
            f"n_particles={n_particles} is no whole number: pass poisson_particles=True for a mean"
        )
    if coherent:
        check_coherent(particle, focus)
    options["noise"] = photons is not None if noise is None else noise
    if options["noise"] and photons is None:
        raise DataError("noise needs photons=: how many one particle scatters onto the detector")
    options["dtype"] = np.dtype(dtype or (np.uint16 if options["noise"] else np.float32)).str
    options["detector"] = detector or Detector()
    return again(options)


def again(options: dict[str, Any]) -> Shots:
    """Return the shots of complete options."""
    o = options
    geometry: Geometry = o["geometry"]
    particle: Particle = o["particle"]
    grid: PolarGrid | None = o["grid"]
    true = geometry
    if any(o["centre_shift"]):
        c = geometry.centre
        true = geometry.with_centre(c[0] + o["centre_shift"][0], c[1] + o["centre_shift"][1])
    k = 2 * np.pi / (geometry.wavelength * 1e10)
    if grid is None:
        t = true.frames_of_pixels()[0]
        unit = t / np.sqrt((t**2).sum(axis=0))
        points = k * np.stack([unit[1], unit[0], unit[2] - 1], axis=1)
        response = (true.solid_angle() * true.polarisation(o["polarisation"])).reshape(-1)
        mask = _dead(geometry.shape, o["panels"], o["gap"], o["bad_pixels"], o["seed"])
    else:
        points = ewald_points(grid, geometry.wavelength * 1e10).reshape(-1, 3)
        response = np.ones(len(points))
        mask = np.zeros(grid.shape, bool)
    response = np.where(mask.reshape(-1), 0.0, response)
    points = np.ascontiguousarray(points)
    q_max = float(np.linalg.norm(points, axis=1).max())
    small = len(particle.positions) <= DIRECT_ATOMS and bool((particle.weights == 1).all())
    few = small or bool(o["coherent"])
    model = particle if few else particle.diffraction(q_max, o["oversampling"])
    factors = particle.form_factors(np.linalg.norm(points, axis=1)) if few else np.zeros((0, 0))
    scale = 1.0
    if o["photons"] is not None:
        rng = np.random.default_rng(0)  # the mean over orientations, from some
        probe = np.zeros(len(points))
        for _ in range(64):
            add_intensity(model, factors, points, random_rotation(rng.normal(size=4)), 1 / 64, probe)
        scale = o["photons"] / float((probe * response).sum())
    return Shots(options, geometry, grid, model, points, response, scale, mask, factors)


def ewald_points(grid: PolarGrid, wavelength: float) -> Floats:
    """Return scattering vectors of polar bins on the Ewald sphere, ``(n_q, n_phi, 3)``; x is at phi = 0."""
    cos = -grid.q * wavelength / (4 * np.pi)  # of the polar angle of q, about the beam
    if (abs(cos) > 1).any():
        raise DataError(f"q_max={grid.q_max:g} is beyond backscattering for {wavelength:g} Angstrom")
    sin = np.sqrt(1 - cos**2)
    across = (grid.q * sin)[:, None]
    along = np.broadcast_to((grid.q * cos)[:, None], grid.shape)
    return np.stack([across * np.cos(grid.phi), across * np.sin(grid.phi), along], axis=-1)


def _dead(
    shape: tuple[int, ...], panels: tuple[int, int], gap: int, share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Return panel gaps and bad pixels."""
    mask = np.zeros(shape, bool)
    for axis, count in zip((-2, -1), panels, strict=True):
        size = shape[axis]
        for i in range(1, count):
            at = size * i // count
            index: list[Any] = [slice(None)] * len(shape)
            index[axis] = slice(max(0, at - gap // 2), at - gap // 2 + gap)
            mask[tuple(index)] = True
    if share:
        mask |= np.random.default_rng([seed, 1]).random(shape) < share
    return mask
