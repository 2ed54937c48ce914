"""Simulated shots of particles in random orientation, as a dataset with known truth."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.counter import ReadCounter
from framefold.io.output import check_tile, output_for
from framefold.sim import kernels_fxs as kernels
from framefold.sim.fxs_coherent import add_coherent, check_coherent, places
from framefold.sim.fxs_particle import Diffraction, Particle
from framefold.sim.noise import Detector, poisson
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import ReadStats
from framefold.udfcore.tile import TileSlice
from framefold.udfs.fxs.geometry import Geometry
from framefold.udfs.fxs.grid import PolarGrid

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
DIRECT_ATOMS = 200  # below, sums over atoms are as fast as interpolation, and exact


@dataclass(frozen=True, eq=False)
class Shots:
    """Shots of a particle: any range of frames on demand, the same however it is cut.

    It is a `framefold.udfcore.source.Source`: a run reads it like a file. Frame j depends on seed and j only.

    Attributes
    ----------
    options
        As given to `simulate`.
    instrument, grid
        Detector, and polar bins where frames are polar.
    model
        What scatters.
    points
        ``(pixels, 3)``: scattering vectors of the unturned particle.
    response
        ``(pixels,)``: expected photons per unit of intensity.
    scale
        Intensity to photons.
    mask
        True where the detector is dead: panel gaps and bad pixels.
    factors
        Form factors at the points, where sums over atoms are taken.
    """

    options: dict[str, Any]
    instrument: Geometry
    grid: PolarGrid | None
    model: Particle | Diffraction
    points: Floats
    response: Floats
    scale: float
    mask: npt.NDArray[np.bool_]
    factors: Floats
    counter: ReadCounter = field(default_factory=lambda: ReadCounter("synthetic"))

    @property
    def sig(self) -> tuple[int, ...]:
        """Shape of a frame."""
        return self.grid.shape if self.grid is not None else self.instrument.shape

    @property
    def n(self) -> int:
        """Number of shots."""
        return int(self.options["n"])

    def shot(self, j: int) -> tuple[float, list[Floats]]:
        """Return pulse energy (mean 1) and the rotation matrix of each particle of shot j."""
        o = self.options
        rng = np.random.Generator(np.random.Philox(key=[o["seed"], j]))
        hit, u, normal = rng.random(), rng.random(), rng.normal()
        number = o["n_particles"]
        if o["poisson_particles"]:
            number = int(np.searchsorted(_poisson_steps(float(o["n_particles"])), u))
        if hit >= o["hit_rate"]:
            number = 0
        jitter = o["pulse_jitter"]
        energy = float(np.exp(jitter * normal - jitter**2 / 2))
        return energy, [_rotation(rng.normal(size=4)) for _ in range(int(number))]

    @property
    def pulse_energies(self) -> Floats:
        """Energy of each pulse, mean about 1, ``(n,)``."""
        return np.array([self.shot(j)[0] for j in range(self.n)])

    @property
    def hits(self) -> npt.NDArray[np.bool_]:
        """Which shots have a particle, ``(n,)``."""
        return np.array([bool(self.shot(j)[1]) for j in range(self.n)])

    def expected(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return expected photons of shots ``start .. stop``, ``(n, *sig)``."""
        out = np.zeros((stop - start, len(self.points)))

        def one(i: int) -> None:
            energy, rotations = self.shot(start + i)
            if self.options["coherent"]:
                self._add_coherent(start + i, rotations, energy * self.scale, out[i])
            else:
                for r in rotations:
                    self._add(r, energy * self.scale, out[i])
            out[i] *= self.response
            out[i] += energy * self.options["background"] * (self.response > 0)

        with ThreadPoolExecutor() as pool:
            list(pool.map(one, range(stop - start)))
        return out.reshape(-1, *self.sig).astype(np.float32)

    def _add(self, rotation: Floats, scale: float, out: Floats) -> None:
        _add_intensity(self.model, self.factors, self.points, rotation, scale, out)

    def places(self, j: int) -> Floats:
        """Return where the particles of a coherent shot are, ``(n, 3)`` in Angstrom."""
        return places(int(self.options["seed"]), j, len(self.shot(j)[1]), float(self.options["focus"]))

    def _add_coherent(self, j: int, rotations: list[Floats], scale: float, out: Floats) -> None:
        particle: Particle = self.options["particle"]
        add_coherent(particle, self.factors, self.points, rotations, self.places(j), scale, out)

    def frames(self, start: int, stop: int, out: Array | None = None) -> Array:
        """Return shots ``start .. stop`` as the detector stores them, ``(n, *sig)``."""
        o = self.options
        mean = self.expected(start, stop)
        if not o["noise"]:
            result = np.empty(mean.shape, self.dtype) if out is None else out
            result[...] = mean
            return result
        seed = int(o["seed"])
        flat = mean.reshape(len(mean), 1, -1)
        camera: Detector = o["detector"]
        counts = poisson(flat, seed, start, np.empty(flat.shape, np.uint32))
        target = np.empty(flat.shape, self.dtype) if out is None else out.reshape(flat.shape)
        camera.record(counts, self.dtype, seed, start, target)
        return target.reshape(mean.shape)

    def array(self) -> Array:
        """Return all shots, ``(n, *sig)``."""
        whole = np.empty((self.n, *self.sig), self.dtype)
        for start in range(0, self.n, 64):
            stop = min(self.n, start + 64)
            self.frames(start, stop, out=whole[start:stop])
        return whole

    # -- the rest of the source protocol

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the frames."""
        return np.dtype(self.options["dtype"])

    @property
    def shape(self) -> Shape:
        """Number of shots and shape of a frame."""
        return Shape((self.n, *self.sig), sig_dims=len(self.sig))

    @property
    def metadata(self) -> Metadata:
        """The mask, as a file would state it."""
        return Metadata(mask=self.mask if self.mask.any() else None, nav_shape=(self.n,))

    @property
    def natural_chunks(self) -> tuple[int, ...]:
        """Whole frames: a part of one costs as much."""
        return (1, *self.sig)

    @property
    def identity(self) -> str:
        """Shape, dtype and seed."""
        return f"shots{self.shape} {self.dtype} seed={self.options['seed']}"

    @property
    def is_view(self) -> bool:
        """False: frames are made when read."""
        return False

    @property
    def valid(self) -> None:
        """All frames are there."""
        return None

    def read(self, tile: TileSlice, out: Array | None = None) -> Array:
        """Return a tile."""
        check_tile(tile, self.n, self.sig, "the simulated shots")
        out = output_for(tile, self.dtype, out, "the simulated shots")
        began = time.perf_counter()
        if tile.shape[1:] == self.sig and out.flags.c_contiguous:
            self.frames(tile.start, tile.stop, out=out)
        else:
            out[...] = self.frames(tile.start, tile.stop)[(slice(None), *tile.sig)]
        self.counter.add(out.nbytes, time.perf_counter() - began)
        return out

    def stats(self) -> ReadStats:
        """Return what was made so far in this process."""
        return self.counter.stats()

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.options,)


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
    return _again(options)


def _again(options: dict[str, Any]) -> Shots:
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
            _add_intensity(model, factors, points, _rotation(rng.normal(size=4)), 1 / 64, probe)
        scale = o["photons"] / float((probe * response).sum())
    return Shots(options, geometry, grid, model, points, response, scale, mask, factors)


def _add_intensity(
    model: Particle | Diffraction,
    factors: Floats,
    points: Floats,
    rotation: Floats,
    scale: float,
    out: Floats,
) -> None:
    """Add the intensity of one turned particle to `out`."""
    if isinstance(model, Diffraction):
        kernels.interpolate(model.coefficients, model.step, points, rotation, scale, out)
    else:
        kernels.direct_intensity(model.positions, factors, model.kinds, points, rotation, scale, out)


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


def _rotation(x: Array) -> Floats:
    """Return the rotation of a quaternion; four normal numbers give uniform rotations (Shoemake 1992)."""
    w, a, b, c = x / np.linalg.norm(x)
    return np.array(
        [
            [1 - 2 * (b * b + c * c), 2 * (a * b - w * c), 2 * (a * c + w * b)],
            [2 * (a * b + w * c), 1 - 2 * (a * a + c * c), 2 * (b * c - w * a)],
            [2 * (a * c - w * b), 2 * (b * c + w * a), 1 - 2 * (a * a + b * b)],
        ]
    )


def _poisson_steps(mean: float) -> Floats:
    """Return the cumulative probabilities of 0, 1, 2, ..."""
    k = np.arange(int(mean + 12 * np.sqrt(mean) + 20))
    logs = k * np.log(mean) - mean - np.cumsum(np.log(np.maximum(k, 1)))
    return np.cumsum(np.exp(logs))
