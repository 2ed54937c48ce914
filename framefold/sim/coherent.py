"""Coherent diffraction patterns of isolated objects that are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from framefold.errors import DataError


@dataclass(frozen=True)
class CoherentPattern:
    """Intensities and the object behind them.

    Attributes
    ----------
    iobs
        Counts, the direct beam at ``n // 2`` of each axis; expected counts without noise.
    obj
        The object, complex128, scaled to the counts (unitary transform).
    support
        Where it is.
    mask
        True where a beam stop hides the detector.
    """

    iobs: npt.NDArray[Any]
    obj: npt.NDArray[np.complex128]
    support: npt.NDArray[np.bool_]
    mask: npt.NDArray[np.bool_]


def coherent_pattern(
    shape: tuple[int, ...] = (64, 64),
    size: float = 0.4,
    *,
    photons: float | None = None,
    phase: float = 0.0,
    beam_stop: int = 0,
    blur: float = 0.0,
    seed: int = 0,
) -> CoherentPattern:
    """Return the pattern of a polygon (2-D) or polyhedron (3-D) with random density inside.

    Parameters
    ----------
    shape
        2-D or 3-D.
    size
        Extent of the object as a share of the array; below 0.5 the pattern is oversampled by 2 or more.
    photons
        Counts in all, with Poisson noise; None: no noise, 1e6 expected counts, float64.
    phase
        Range of the object's phase, rad: -phase / 2 .. phase / 2, smooth; 0: a real object.
    beam_stop
        Side of a square without data about the direct beam, pixels.
    blur
        Width of a Gaussian over the intensities by partial coherence, pixels.
    seed
        Of object and noise.

    Raises
    ------
    DataError
        For other numbers of axes, or a size that is not within 0 .. 1.

    Examples
    --------
    >>> pattern = coherent_pattern((32, 32), photons=1e6)
    >>> pattern.iobs.dtype, bool(pattern.support.mean() < 0.16)
    (dtype('uint32'), True)
    """
    if len(shape) not in (2, 3) or not 0 < size < 1:
        raise DataError(
            f"an object needs 2 or 3 axes and a size within 0 .. 1, got shape {shape}, size {size}"
        )
    rng = np.random.default_rng(seed)
    dims = len(shape)
    where = np.stack(np.meshgrid(*((np.arange(n) - n // 2) / n for n in shape), indexing="ij"), axis=-1)
    normals = rng.normal(size=(7 if dims == 2 else 14, dims))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    faces = size / 2 * rng.uniform(0.6, 1.0, len(normals))
    inside = (where @ normals.T <= faces).all(axis=-1) & (np.abs(where) <= size / 2).all(axis=-1)
    support = np.asarray(inside, dtype=bool)
    density = _smooth(rng.random(shape), 1.2)
    density = 0.3 + (density - density.min()) / np.ptp(density)
    turn = _smooth(rng.random(shape), 0.08 * shape[-1])
    turn = phase * ((turn - turn.min()) / np.ptp(turn) - 0.5)
    obj = np.where(support, density * np.exp(1j * turn), 0)
    total = 1e6 if photons is None else photons
    obj *= np.sqrt(total / np.vdot(obj, obj).real)
    intensity = np.fft.fftshift(np.abs(np.fft.fftn(obj, norm="ortho")) ** 2)
    if blur:
        intensity = ndimage.gaussian_filter(intensity, blur, mode="wrap", truncate=6)
    mask = np.zeros(shape, dtype=bool)
    if beam_stop:
        low = [n // 2 - beam_stop // 2 for n in shape]
        mask[tuple(slice(a, a + beam_stop) for a in low)] = True
    counts = intensity if photons is None else rng.poisson(intensity).astype(np.uint32)
    return CoherentPattern(np.where(mask, 0, counts).astype(counts.dtype), obj, support, mask)


def _smooth(values: npt.NDArray[np.float64], sigma: float) -> npt.NDArray[np.float64]:
    return np.asarray(ndimage.gaussian_filter(values, sigma, mode="wrap"), dtype=np.float64)
