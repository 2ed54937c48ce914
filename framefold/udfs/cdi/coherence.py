"""Partial coherence: the blur of the intensities, estimated from data and object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfcore.namespace import xp_of
from framefold.udfs.cdi.algebra import Operator
from framefold.udfs.cdi.engine import engine_for
from framefold.udfs.cdi.state import CDI, MEASURED

Real = npt.NDArray[np.floating[Any]]


def blur(values: Real, psf: Any) -> Real:
    """Return the circular convolution with a point spread function whose origin is at index 0."""
    fft = xp_of(values).fft
    found: Real = fft.irfftn(fft.rfftn(values) * fft.rfftn(psf), values.shape, axes=tuple(range(values.ndim)))
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
        xp = xp_of(wave)
        model = (xp.abs(wave) ** 2 / wave.size).astype(np.float64)
        used = cdi.data.code == MEASURED
        seen = xp.where(used, cdi.data.intensity, 0).astype(np.float64)
        first = xp.asarray(gaussian_psf(cdi.shape, self.sigma)) if cdi.psf is None else cdi.psf
        psf = first.astype(np.float64)
        spectrum = xp.fft.rfftn(model).conj()

        def correlated(values: Any) -> Any:
            found = xp.fft.irfftn(spectrum * xp.fft.rfftn(values), cdi.shape, axes=tuple(range(model.ndim)))
            return xp.maximum(found, 0)

        weight = xp.maximum(correlated(used.astype(np.float64)), 1e-12)
        for _ in range(self.n):
            ratio = xp.where(used, seen / xp.maximum(blur(model, psf), 1e-12), 0)
            psf = psf * correlated(ratio) / weight
            psf /= psf.sum()
        return cdi.new(psf=psf.astype(cdi.real_dtype))
