"""Maximum likelihood for counting noise by conjugate gradients, within the support."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.cdi.algorithms import Iteration
from framefold.udfs.cdi.engine import Engine, engine_for
from framefold.udfs.cdi.state import CDI, MEASURED

Array = npt.NDArray[Any]
EPS = 1e-6  # counts: below, the likelihood of a pixel is that of this expectation


def gradient(wave: Array, intensity: Array, used: Array) -> Array:
    """Return ``(1 - I / (I_m + eps)) F`` on used pixels: half the gradient of the likelihood by conj(F).

    ``L = sum I_m - I log(I_m + eps)``, ``I_m = |F|^2``; ``dL = 2 Re <gradient, dF>``.
    """
    model = wave.real**2 + wave.imag**2
    return np.where(used, 1 - intensity / (model + EPS), 0) * wave


def step_length(wave: Array, along: Array, intensity: Array, used: Array) -> float:
    """Return the minimum of the likelihood along a line of transforms, by Newton steps.

    ``I(a) = |F|^2 + 2 a Re(conj(F) D) + a^2 |D|^2``.
    """
    f, d, seen = wave[used], along[used], intensity[used]
    c0 = f.real**2 + f.imag**2
    c1 = 2 * (f.real * d.real + f.imag * d.imag)
    c2 = d.real**2 + d.imag**2

    def value(a: float) -> float:
        model = np.maximum(c0 + a * (c1 + a * c2), 0).astype(np.float64) + EPS
        return float((model - seen * np.log(model)).sum())

    a, start = 0.0, value(0.0)
    for _ in range(4):
        model = np.maximum(c0 + a * (c1 + a * c2), 0) + EPS
        slope = c1 + 2 * a * c2
        ratio = seen / model
        first = float(((1 - ratio) * slope).sum())
        # Gauss-Newton part of the curvature, which is never negative, where the full one is
        second = float((2 * (1 - ratio) * c2 + ratio / model * slope**2).sum())
        if second <= 0:
            second = float((ratio / model * slope**2).sum())
        if second <= 0:
            break
        change = -first / second
        a += change
        if abs(change) < 1e-3 * abs(a):
            break
    for _ in range(30):  # Newton may leap over a hill
        if value(a) <= start:
            return a
        a /= 2
    return 0.0


@dataclass(frozen=True, repr=False)
class ML(Iteration):
    """Poisson maximum likelihood, one conjugate-gradient step (Polak-Ribiere) an iteration.

    Two transforms: the model is updated along the line, not computed anew. Directions restart at the
    beginning of each power. Begin from a reconstruction: it finds the nearest minimum.
    """

    def repeat(self, cdi: CDI, n: int) -> CDI:
        """Return the state after n steps."""
        if cdi.psf is not None:
            raise DataError(
                "ML does not model partial coherence: apply it before EstimatePSF, or leave it out"
            )
        _, support = cdi.parts
        engine = engine_for(cdi)
        used, intensity = cdi.data.code == MEASURED, cdi.data.intensity
        scale = cdi.real_dtype.type(cdi.solution.size**-0.5)
        rho = cdi.solution.copy()
        wave = engine.forward(rho) * scale
        direction: Array = np.zeros_like(rho)
        before: Array | None = None
        for _ in range(n):
            g = np.where(
                support, engine.backward(gradient(wave, intensity, used).astype(rho.dtype)) * scale, 0
            )
            size = float(np.vdot(g, g).real)
            if size == 0:
                break
            mix = 0.0
            if before is not None:
                mix = max(0.0, float(np.vdot(g, g - before).real) / float(np.vdot(before, before).real))
            direction = (-g + mix * direction).astype(rho.dtype)
            if float(np.vdot(g, direction).real) >= 0:
                direction = -g
            before = g
            along = engine.forward(direction) * scale
            a = scale.dtype.type(step_length(wave, along, intensity, used))
            rho = rho + a * direction
            wave = wave + a * along
        return cdi.new(obj=rho, cycle=cdi.cycle + n)

    def iterate(self, engine: Engine, rho: Any, support: Any, cdi: CDI) -> Any:
        """Return the object after one step."""
        return self.repeat(cdi.new(obj=rho), 1).obj
