"""Partial coherence: the blur of the intensities, estimated from data and object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.cdi.algebra import Operator
from framefold.udfs.cdi.engine import engine_for
from framefold.udfs.cdi.state import CDI, MEASURED

Real = npt.NDArray[np.floating[Any]]


def blur(values: Real, psf: Any) -> Real:
    """Return the circular convolution with a point spread function whose origin is at index 0."""
    found: Real = np.fft.irfftn(
        np.fft.rfftn(values) * np.fft.rfftn(psf), values.shape, axes=range(values.ndim)
    )
    return found


def gaussian_psf(shape: tuple[int, ...], sigma: float) -> Real:
    """Return a periodic Gaussian of sum 1, its origin at index 0; `sigma` in detector pixels."""
    psf = np.ones(shape)
    for axis, n in enumerate(shape):
        x = np.fft.fftfreq(n, 1 / n)
        psf = psf * np.exp(-0.5 * (x / sigma) ** 2).reshape(
            [-1 if i == axis else 1 for i in range(len(shape))]
        )
    return psf / psf.sum()


@dataclass(frozen=True, repr=False)
class EstimatePSF(Operator):
    """Estimate the blur of the intensities by partial coherence, by Richardson-Lucy; used from then on.

    Clark, Huang, Harder, Robinson, Nature Communications 3 (2012) 993. Apply it when the object is roughly
    found, and again later; the first guess is a Gaussian.

    Parameters
    ----------
    n
        Richardson-Lucy steps.
    sigma
        Of the first guess, detector pixels.
    """

    n: int = 20
    sigma: float = 0.7

    def __post_init__(self) -> None:
        if not (self.n > 0 and self.sigma > 0):
            raise DataError(f"EstimatePSF: n={self.n} and sigma={self.sigma} must be positive")

    def apply(self, cdi: CDI) -> CDI:
        """Return the state with a blur."""
        wave = engine_for(cdi).forward(cdi.solution)
        model = (np.abs(wave) ** 2 / wave.size).astype(np.float64)
        used = cdi.data.code == MEASURED
        seen = np.where(used, cdi.data.intensity, 0).astype(np.float64)
        psf = gaussian_psf(cdi.shape, self.sigma) if cdi.psf is None else cdi.psf.astype(np.float64)
        spectrum = np.conj(np.fft.rfftn(model))
        axes = range(model.ndim)
        weight = np.maximum(np.fft.irfftn(spectrum * np.fft.rfftn(used), cdi.shape, axes=axes), 1e-12)
        for _ in range(self.n):
            ratio = np.where(used, seen / np.maximum(blur(model, psf), 1e-12), 0)
            psf = (
                psf
                * np.maximum(np.fft.irfftn(spectrum * np.fft.rfftn(ratio), cdi.shape, axes=axes), 0)
                / weight
            )
            psf /= psf.sum()
        return cdi.new(psf=psf.astype(cdi.real_dtype))
