"""Maximum likelihood for counting noise by conjugate gradients, within the support."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from framefold.errors import DataError
from framefold.udfcore.namespace import xp_of
from framefold.udfs.cdi.algorithms import Iteration
from framefold.udfs.cdi.engine import Engine, Line, engine_for
from framefold.udfs.cdi.state import CDI


def step_length(line: Line) -> float:
    """Return the minimum of the likelihood along a line of transforms, by Newton steps."""
    a = 0.0
    for _ in range(3):
        first, second, positive = line.slopes(a)
        # the part of the curvature that is never negative, where the full one is
        curvature = second if second > 0 else positive
        if curvature <= 0:
            break
        change = -first / curvature
        a += change
        if abs(change) < 1e-3 * abs(a):
            break
    for _ in range(30):  # Newton may leap over a hill
        if line.change(a) <= 0:
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
        scale = float(cdi.data.intensity.size**-0.5)
        rho = cdi.solution.copy()
        wave = engine.forward(rho) * scale
        direction: Any = 0 * rho
        before: Any = None
        for _ in range(n):
            g = engine.backward(engine.gradient(wave, cdi, scale)) * support
            size = _dot(g, g)
            if size == 0:
                break
            mix = 0.0 if before is None else max(0.0, (size - _dot(g, before)) / _dot(before, before))
            direction = mix * direction - g
            if _dot(g, direction) >= 0:
                direction = -g
            before = g
            along = engine.forward(direction) * scale
            a = step_length(engine.line(wave, along, cdi))
            rho += a * direction
            wave += a * along
        return cdi.new(obj=rho, cycle=cdi.cycle + n)

    def iterate(self, engine: Engine, rho: Any, support: Any, cdi: CDI) -> Any:
        """Return the object after one step."""
        return self.repeat(cdi.new(obj=rho), 1).obj


def _dot(a: Any, b: Any) -> float:
    return float(xp_of(a).vdot(a, b).real)
