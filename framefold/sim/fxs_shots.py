"""Shots of particles in random orientation: a source that makes its frames."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.io.counter import ReadCounter
from framefold.sim import kernels_fxs as kernels
from framefold.sim.fxs_coherent import add_coherent, places
from framefold.sim.fxs_particle import Diffraction, Particle
from framefold.sim.made import Made
from framefold.sim.noise import Detector, poisson
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfs.fxs.geometry import Geometry
from framefold.udfs.fxs.grid import PolarGrid

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shots(Made):
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

    what = "the simulated shots"
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
        return energy, [random_rotation(rng.normal(size=4)) for _ in range(int(number))]

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
        add_intensity(self.model, self.factors, self.points, rotation, scale, out)

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
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]  # it is among the options
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
    def identity(self) -> str:
        """Shape, dtype and seed."""
        return f"shots{self.shape} {self.dtype} seed={self.options['seed']}"

    def __reduce__(self) -> tuple[Any, ...]:
        from framefold.sim.fxs import again  # noqa: PLC0415  # it makes these objects

        return again, (self.options,)


def add_intensity(
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


def random_rotation(x: Array) -> Floats:
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
