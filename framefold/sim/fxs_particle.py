"""Particles that scatter X-rays: blobs, or the atoms of a structure file."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, FramefoldError
from framefold.sim import kernels_fxs as kernels
from framefold.udfs.fxs.harmonics import invariants, sphere

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[Any]
_REACH, _SIGMA = 5, 0.95  # grid steps: at twice the sampling the error of the spreading is below 1e-4


@dataclass(frozen=True, eq=False)
class Particle:
    """Atoms, each with a form factor ``f(q) = sum_i a_i exp(-b_i (q / 4 pi)^2) + c``.

    Attributes
    ----------
    positions
        ``(n, 3)`` in Angstrom, about the centre of mass.
    kinds
        ``(n,)``: form factor of each atom.
    coefficients
        ``(kinds, 9)``: a1 .. a4, b1 .. b4 (Angstrom^2), c; those of the International Tables for atoms.
    weights
        ``(n,)``: occupancies.
    name
        Of the particle.

    Examples
    --------
    >>> p = Particle.blobs(20, seed=1)
    >>> p.intensity(np.zeros((1, 3)))[0] == p.form_factors(np.zeros(1))[0, 0] ** 2 * 400
    np.True_
    """

    positions: Floats
    kinds: npt.NDArray[np.int64]
    coefficients: Floats
    weights: Floats
    name: str = "particle"

    @classmethod
    def blobs(cls, n: int = 30, seed: int = 0, *, radius: float = 30.0, width: float = 5.0) -> Particle:
        """Return `n` Gaussian blobs of standard deviation `width` at random places in a sphere (Angstrom)."""
        if n < 1 or radius <= 0 or width <= 0:
            raise DataError(f"blobs(n={n}, radius={radius}, width={width}): all must be positive")
        rng = np.random.default_rng(seed)
        direction = rng.normal(size=(n, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        at = direction * radius * rng.random((n, 1)) ** (1 / 3)
        form = np.zeros((1, 9))
        form[0, 0], form[0, 4] = 1.0, (4 * math.pi * width) ** 2 / 2
        return cls(at - at.mean(axis=0), np.zeros(n, np.int64), form, np.ones(n), f"{n} blobs")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Particle:
        """Read the atoms of a PDB or mmCIF file, also compressed (``.gz``), with gemmi.

        Raises
        ------
        FramefoldError
            If gemmi is not installed.
        DataError
            If the file has no atoms.
        """
        try:
            import gemmi  # noqa: PLC0415  # extra framefold[fxs]
        except ImportError as exc:
            raise FramefoldError("structure files need gemmi: pip install 'framefold[fxs]'") from exc
        try:
            structure = gemmi.read_structure(os.fspath(path))
        except (RuntimeError, OSError, ValueError) as exc:
            raise DataError(f"cannot read the structure {path}: {exc}") from exc
        at, names, weights = [], [], []
        for model in structure:
            for found in model.all():
                p = found.atom.pos
                at.append((p.x, p.y, p.z))
                names.append(found.atom.element.name)
                weights.append(found.atom.occ)
            break  # the other models are the same molecule again
        if not at:
            raise DataError(f"{path} has no atoms")
        elements, kinds = np.unique(names, return_inverse=True)
        table = np.array([_it92(gemmi.Element(str(e))) for e in elements])
        positions, occupancy = np.array(at), np.array(weights)
        mass = np.array([gemmi.Element(str(e)).weight for e in elements])[kinds] * occupancy
        centre = (positions * mass[:, None]).sum(axis=0) / mass.sum()
        return cls(positions - centre, kinds.astype(np.int64), table, occupancy, structure.name or str(path))

    @property
    def diameter(self) -> float:
        """Twice the distance of the outermost atom from the centre, in Angstrom."""
        return 2 * float(np.linalg.norm(self.positions, axis=1).max())

    @property
    def gyration(self) -> float:
        """Radius of gyration, by the forward scattering of each atom, in Angstrom."""
        f = self.form_factors(np.zeros(1))[:, 0][self.kinds] * self.weights
        return float(np.sqrt((f * (self.positions**2).sum(axis=1)).sum() / f.sum()))

    def form_factors(self, q: Array) -> Floats:
        """Return ``(kinds, len(q))`` form factors at lengths of q in 1/Angstrom."""
        s2 = (np.asarray(q) / (4 * math.pi)) ** 2
        a, b, c = self.coefficients[:, :4], self.coefficients[:, 4:8], self.coefficients[:, 8]
        return (a[:, :, None] * np.exp(-b[:, :, None] * s2)).sum(axis=1) + c[:, None]

    def intensity(self, points: Array) -> Floats:
        """Return ``|F|^2`` at ``(k, 3)`` scattering vectors in 1/Angstrom, by a sum over atoms."""
        points = np.ascontiguousarray(points, dtype=np.float64)
        out = np.zeros(len(points))
        for weight in np.unique(self.weights):
            if weight != self.weights[0]:
                return self._weighted(points)
        factors = self.weights[0] * self.form_factors(np.linalg.norm(points, axis=1))
        kernels.direct_intensity(self.positions, factors, self.kinds, points, np.eye(3), 1.0, out)
        return out

    def _weighted(self, points: Array) -> Floats:
        f = self.form_factors(np.linalg.norm(points, axis=1))
        re = np.zeros(len(points), np.complex128)
        for r, k, w in zip(self.positions, self.kinds, self.weights, strict=True):
            re += w * f[k] * np.exp(1j * (points @ r))
        return np.abs(re) ** 2

    def debye(self, q: Array) -> Floats:
        """Return the mean of ``|F|^2`` over orientations: ``sum f f' sin(q r) / (q r)`` (Debye 1915)."""
        q = np.asarray(q, dtype=np.float64)
        f = self.form_factors(q)[self.kinds] * self.weights[:, None]
        r = np.linalg.norm(self.positions[:, None] - self.positions, axis=2)
        return np.array([fi @ np.sinc(r * qi / np.pi) @ fi for qi, fi in zip(q, f.T, strict=True)])

    def diffraction(self, q_max: float, oversampling: float = 2.0) -> Diffraction:
        """Return ``|F|^2`` on a grid up to `q_max`, for particles of many atoms.

        Parameters
        ----------
        q_max
            In 1/Angstrom.
        oversampling
            Box over twice the diameter: 2 interpolates intensities to about 1e-3.
        """
        box = 2 * oversampling * max(self.diameter, 10.0)
        dq = 2 * math.pi / box
        keep = math.ceil(q_max / dq) + 3
        m = _good_length(4 * keep)  # twice the sampling that q_max needs
        step = box / m
        total = np.zeros((2 * keep + 1,) * 3, np.complex64)
        f = np.arange(-keep, keep + 1)
        radius = dq * np.sqrt((f[:, None, None] ** 2 + f[:, None] ** 2 + f**2).astype(np.float32))
        narrow = np.exp(-0.5 * (2 * np.pi * f / m * _SIGMA) ** 2)
        import scipy.fft  # noqa: PLC0415  # loaded with the rest of numba code anyway

        for kind in range(len(self.coefficients)):
            mine = self.kinds == kind
            grid = np.zeros((m, m, m), np.float32)
            kernels.spread(self.positions[mine], self.weights[mine], step, _REACH, _SIGMA, grid)
            half = scipy.fft.rfftn(grid, overwrite_x=True, workers=-1)
            # only non-negative frequencies of the last axis are there; F(-q) is the conjugate
            upper = half[np.ix_(f, f, np.arange(keep + 1))]
            whole = np.empty_like(total)
            whole[:, :, keep:] = upper
            whole[:, :, :keep] = upper[::-1, ::-1, :0:-1].conj()
            form = np.interp(
                radius, (table := np.linspace(0, float(radius.max()), 4096)), self.form_factors(table)[kind]
            )
            total += (form * whole).astype(np.complex64)
        total /= (narrow[:, None, None] * narrow[:, None] * narrow).astype(np.float32)
        from scipy.ndimage import spline_filter  # noqa: PLC0415  # as above

        return Diffraction(spline_filter(np.abs(total) ** 2, order=3, output=np.float32), dq, q_max)

    def invariants(self, q: Array, l_max: int, model: Diffraction | None = None) -> Floats:
        """Return ``B_l(q, q')`` for even l up to `l_max`, ``(l_max // 2 + 1, n_q, n_q)``.

        Parameters
        ----------
        q
            Of the shells in 1/Angstrom.
        l_max
            Largest order, even.
        model
            From `diffraction`, for particles of many atoms; None: sums over atoms.
        """
        finest = max(l_max, math.ceil(float(np.max(q)) * self.diameter / 1.5)) + 6
        directions, weights = sphere(finest)
        shells = np.stack([
            self.intensity(k * directions) if model is None else model.intensity(k * directions) for k in q
        ])  # fmt: skip
        return invariants(shells, weights, finest, l_max)


@dataclass(frozen=True, eq=False)
class Diffraction:
    """``|F|^2`` on a grid, as coefficients of a cubic spline.

    Attributes
    ----------
    coefficients
        float32 ``(m, m, m)``, the origin in the middle.
    step
        Grid spacing in 1/Angstrom.
    q_max
        Largest scattering vector.
    """

    coefficients: npt.NDArray[np.float32]
    step: float
    q_max: float

    def intensity(self, points: Array) -> Floats:
        """Return ``|F|^2`` at ``(k, 3)`` scattering vectors."""
        points = np.ascontiguousarray(points, dtype=np.float64)
        out = np.zeros(len(points))
        kernels.interpolate(self.coefficients, self.step, points, np.eye(3), 1.0, out)
        return out


def _it92(element: Any) -> list[float]:
    c = element.it92
    if c is None:
        raise DataError(f"element {element.name} has no form factor in the International Tables")
    return [*c.a, *c.b, c.c]


def _good_length(n: int) -> int:
    import scipy.fft  # noqa: PLC0415  # only where a grid is made

    return int(scipy.fft.next_fast_len(n, real=True))
