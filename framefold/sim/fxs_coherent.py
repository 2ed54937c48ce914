"""Shots in which the particles interfere: amplitudes add, each with the phase of its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.sim import kernels_fxs as kernels
from framefold.sim.fxs_particle import Particle

Floats = npt.NDArray[np.float64]


def check_coherent(particle: Particle, focus: float) -> None:
    """Raise `DataError` where amplitudes of a particle cannot be added."""
    if focus < 0:
        raise DataError(f"focus={focus} is negative: it is the spread of the places in Angstrom")
    if not (particle.weights == 1).all():
        raise DataError("coherent shots are sums over whole atoms: some occupancies are not 1")


def places(seed: int, j: int, count: int, focus: float) -> Floats:
    """Return where the particles of shot j are, ``(count, 3)`` in Angstrom, normal about the beam."""
    rng = np.random.Generator(np.random.Philox(key=[seed, j]).jumped())  # leaves orientations as they are
    return focus * rng.normal(size=(count, 3))


def add_coherent(
    particle: Particle, factors: Floats, points: Floats, rotations: Sequence[Any], at: Floats, scale: float,
    out: Floats,
) -> None:  # fmt: skip
    """Add ``scale * |sum_n exp(i q t_n) F(R_n q)|^2`` to `out`.

    Parameters
    ----------
    particle
        F is its sum over atoms.
    factors
        ``(kinds, points)`` form factors.
    points
        ``(k, 3)``, q.
    rotations, at
        R_n, and t_n ``(n, 3)``.
    """
    if not len(rotations):
        return
    atoms = np.concatenate([particle.positions @ r + t for r, t in zip(rotations, at, strict=True)])
    kinds = np.tile(particle.kinds, len(rotations))
    kernels.direct_intensity(atoms, factors, kinds, points, np.eye(3), scale, out)
