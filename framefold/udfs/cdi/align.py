"""Solutions of one pattern differ by shift, twin image and phase: put them on top of each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Complex = npt.NDArray[np.complexfloating[Any, Any]]


@dataclass(frozen=True)
class Aligned:
    """A solution on top of a reference.

    Attributes
    ----------
    obj
        Shifted, inverted where that fits better, with the phase of the reference.
    twin
        Whether it was inverted, ``conj(obj(-r))``.
    shift
        Pixels, along each axis.
    correlation
        Normalised cross-correlation, 0 to 1.
    """

    obj: Complex
    twin: bool
    shift: tuple[float, ...]
    correlation: float


def align(obj: Complex, reference: Complex) -> Aligned:
    """Return `obj` shifted, inverted and turned in phase to fit `reference` best.

    The correlation is maximised over whole pixels, then on grids of 0.1 and 0.01 pixels about the maximum.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> a = rng.normal(size=(8, 8)) + 1j * rng.normal(size=(8, 8))
    >>> b = 1j * np.roll(a, (2, -3), (0, 1))
    >>> found = align(b, a)
    >>> found.shift, round(found.correlation, 6), bool(np.allclose(found.obj, a))
    ((-2.0, 3.0), 1.0, True)
    """
    target, wave = np.fft.fftn(reference), np.fft.fftn(obj)
    norm = float(np.linalg.norm(target) * np.linalg.norm(wave))
    found = []
    for twin in (False, True):
        one = wave.conj() if twin else wave
        shift, peak = _best_shift(target * one.conj())
        found.append((abs(peak), twin, one, shift, peak))
    size, twin, one, shift, peak = max(found, key=lambda f: f[0])
    for axis, (n, s) in enumerate(zip(obj.shape, shift, strict=True)):
        ramp = np.exp(-2j * np.pi * np.fft.fftfreq(n) * s)
        one = one * ramp.reshape([-1 if i == axis else 1 for i in range(obj.ndim)])
    phase = peak / abs(peak) if peak else 1.0
    moved = np.fft.ifftn(one * phase).astype(obj.dtype)
    return Aligned(moved, twin, shift, size * obj.size / norm if norm else 0.0)


def _best_shift(product: Complex) -> tuple[tuple[float, ...], complex]:
    """Return the shift at which the inverse transform of `product` is largest, and its value there."""
    coarse = np.fft.ifftn(product)
    at = np.unravel_index(int(np.argmax(np.abs(coarse))), coarse.shape)
    shift = [float(k if k <= n // 2 else k - n) for k, n in zip(at, coarse.shape, strict=True)]
    value = complex(coarse[at])
    for step in (0.1, 0.01):
        grids = [s + step * np.arange(-10, 11) for s in shift]
        fine = product
        for axis, (n, grid) in enumerate(zip(product.shape, grids, strict=True)):
            kernel = np.exp(2j * np.pi * np.outer(grid, np.fft.fftfreq(n))) / n
            fine = np.moveaxis(np.tensordot(kernel, fine, axes=(1, axis)), 0, axis)
        best = np.unravel_index(int(np.argmax(np.abs(fine))), fine.shape)
        if abs(fine[best]) <= abs(value) * (1 + 1e-12):
            break
        shift, value = [float(g[k]) for g, k in zip(grids, best, strict=True)], complex(fine[best])
    return tuple(round(s, 6) for s in shift), value


def eigenmodes(solutions: Complex) -> tuple[Complex, npt.NDArray[np.float64]]:
    """Return the eigenmodes of aligned solutions, and the weight of each, sorted; weights sum to 1.

    The first mode is what the solutions share: a weight near 1 says that they agree.

    Parameters
    ----------
    solutions
        ``(n, *shape)``.
    """
    flat = solutions.reshape(len(solutions), -1)
    gram = (flat.conj() @ flat.T).astype(np.complex128)
    values, vectors = np.linalg.eigh(gram)
    order = np.argsort(values)[::-1]
    modes = (vectors[:, order].T @ flat).reshape(solutions.shape) / np.sqrt(len(solutions))
    total = np.vdot(modes[0], solutions.mean(axis=0))
    modes[0] *= total / abs(total) if total else 1
    weights = np.clip(values[order], 0, None)
    return modes.astype(solutions.dtype), weights / weights.sum()
