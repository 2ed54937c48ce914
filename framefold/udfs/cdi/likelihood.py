"""How well the object explains the counts: Poisson log-likelihood, on used and on held-out pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from framefold.udfcore.namespace import to_host, xp_of
from framefold.udfs.cdi import reference
from framefold.udfs.cdi.algebra import Operator
from framefold.udfs.cdi.coherence import blur
from framefold.udfs.cdi.engine import engine_for
from framefold.udfs.cdi.kernels import likelihood
from framefold.udfs.cdi.state import CDI, FREE, MEASURED


@dataclass(frozen=True)
class Fit:
    """Agreement of model and data, per pixel.

    Attributes
    ----------
    llk
        Poisson: mean of ``I_m - I + I log(I / I_m)`` over the pixels used; 1/2 for a perfect model of well
        counted data, 0 for the data themselves.
    llk_free
        The same over held-out pixels; NaN without any. Over-fitting raises it.
    error
        Relative amplitude error ``sqrt(sum (|F| - sqrt I)^2 / sum I)`` over the pixels used.
    """

    llk: float
    llk_free: float
    error: float


def fit(cdi: CDI) -> Fit:
    """Return the agreement of the solution (the object within its support) with the data."""
    wave = engine_for(cdi).forward(cdi.solution)
    data, xp = cdi.data, xp_of(wave)
    scale = float(wave.size**-0.5)
    if cdi.psf is not None:
        wave = xp.sqrt(xp.maximum(blur(xp.abs(wave) ** 2 * scale**2, cdi.psf), 0)).astype(wave.dtype)
        scale = 1.0
    if xp is np:
        sums = np.zeros((3, 3))
        likelihood(
            np.ascontiguousarray(wave).reshape(-1).view(wave.real.dtype), data.intensity.reshape(-1),
            data.code.reshape(-1), scale, sums,
        )  # fmt: skip
    else:
        model = (wave.real**2 + wave.imag**2) * scale**2
        sums = to_host(reference.likelihood(xp, model, data.intensity, data.code))
    used = float((data.intensity * (data.code == MEASURED)).sum(dtype=np.float64))
    free = sums[FREE, 0] / sums[FREE, 1] if sums[FREE, 1] else np.nan
    measured = max(sums[MEASURED, 1], 1)
    return Fit(float(sums[MEASURED, 0] / measured), float(free), float(np.sqrt(sums[MEASURED, 2] / used)))


@dataclass(frozen=True, repr=False)
class LLK(Operator):
    """Record likelihood, free likelihood, amplitude error and support size in the history."""

    def apply(self, cdi: CDI) -> CDI:
        """Return the state with a longer history."""
        return record(cdi)


def record(cdi: CDI) -> CDI:
    """Return the state with its figures of fit at the end of the history."""
    found = fit(cdi)
    figures = {
        "llk": found.llk, "llk_free": found.llk_free, "error": found.error,
        "support": float(cdi.parts[1].mean()),
    }  # fmt: skip
    return cdi.new(history=(*cdi.history, (cdi.cycle, figures)))
