"""Maximum likelihood for counting noise by conjugate gradients, within the support."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.cdi.algorithms import Iteration
from framefold.udfs.cdi.engine import Engine, engine_for
from framefold.udfs.cdi.kernels_ml import EPS, gradient, line_change, line_slopes
from framefold.udfs.cdi.state import CDI

Array = npt.NDArray[Any]


def gradient_reference(wave: Array, intensity: Array, used: Array) -> Array:
    """Return ``(1 - I / (I_m + eps)) F`` on used pixels: half the gradient of the likelihood by conj(F).

    ``L = sum I_m - I log(I_m + eps)``, ``I_m = |F|^2``; ``dL = 2 Re <gradient, dF>``.
    """
    model = wave.real**2 + wave.imag**2
    return np.where(used, 1 - intensity / (model + EPS), 0) * wave


def step_length(wave: Array, along: Array, intensity: Array, code: Array) -> float:
    """Return the minimum of the likelihood along a line of transforms, by Newton steps.

    Parameters
    ----------
    wave, along
        Transform and its change, interleaved re, im.
    """
    a = 0.0
    for _ in range(3):
        first, second, positive = line_slopes(wave, along, intensity, code, a)
        # the part of the curvature that is never negative, where the full one is
        curvature = second if second > 0 else positive
        if curvature <= 0:
            break
        change = -first / curvature
        a += change
        if abs(change) < 1e-3 * abs(a):
            break
    for _ in range(30):  # Newton may leap over a hill
        if line_change(wave, along, intensity, code, a) <= 0:
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
        real = cdi.real_dtype
        intensity, code = cdi.data.intensity.reshape(-1), cdi.data.code.reshape(-1)
        scale = real.type(cdi.data.intensity.size**-0.5)
        rho = cdi.solution.copy()

        def flat(values: Array) -> Array:
            return values.reshape(-1).view(real)

        wave = engine.forward(rho) * scale
        g_wave = np.empty_like(wave)
        direction: Array = np.zeros_like(rho)
        before: Array | None = None
        for _ in range(n):
            gradient(flat(wave), intensity, code, scale, flat(g_wave))
            g = engine.backward(g_wave) * support
            size = float(np.vdot(g, g).real)
            if size == 0:
                break
            mix = 0.0
            if before is not None:
                mix = max(0.0, (size - float(np.vdot(g, before).real)) / float(np.vdot(before, before).real))
            direction *= real.type(mix)
            direction -= g
            if float(np.vdot(g, direction).real) >= 0:
                direction = -g
            before = g
            along = engine.forward(direction) * scale
            a = real.type(step_length(flat(wave), flat(along), intensity, code))
            rho += a * direction
            wave += a * along
        return cdi.new(obj=rho, cycle=cdi.cycle + n)

    def iterate(self, engine: Engine, rho: Any, support: Any, cdi: CDI) -> Any:
        """Return the object after one step."""
        return self.repeat(cdi.new(obj=rho), 1).obj
