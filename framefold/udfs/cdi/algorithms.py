"""Iterative projection algorithms: ER, SF, HIO, ASR, HPR, RAAR, DM and charge flipping.

With P_m the projection on the measured modulus, P_s that on the support (and positivity), ``R = 2 P - I``;
Marchesini, Review of Scientific Instruments 78 (2007) 011301. Each iteration is two transforms and one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from framefold.errors import DataError
from framefold.udfcore.namespace import xp_of
from framefold.udfs.cdi.algebra import Operator
from framefold.udfs.cdi.engine import Engine, engine_for
from framefold.udfs.cdi.kernels import COMBINE, FEEDBACK, FLIP
from framefold.udfs.cdi.state import CDI

Coefficients = tuple[float, float, float, float, float]


class Iteration(Operator):
    """An operator whose application is one iteration on the object."""

    @property
    def iterates(self) -> bool:
        """True: runs may be looked at between two iterations."""
        return True

    def apply(self, cdi: CDI) -> CDI:
        """Return the state after one iteration."""
        return self.repeat(cdi, 1)

    def repeat(self, cdi: CDI, n: int) -> CDI:
        """Return the state after n iterations; the buffers are shared between them."""
        obj, support = cdi.parts
        engine, rho = engine_for(cdi), obj.copy()
        for _ in range(n):
            rho = self.iterate(engine, rho, support, cdi)
        return cdi.new(obj=rho, cycle=cdi.cycle + n)

    def iterate(self, engine: Engine, rho: Any, support: Any, cdi: CDI) -> Any:
        """Return the object after one iteration; `rho` may be overwritten."""
        rule, coefficients, positive = self.rule()
        return engine.combine(rho, engine.project(rho, cdi), support, rule, coefficients, positive)

    def rule(self) -> tuple[int, Coefficients, bool]:
        """Return how the next object is made: rule, (p, a, b, c, d) and positivity of `next_object`."""
        raise NotImplementedError(f"{type(self).__name__} must define rule() or iterate()")


def _check_beta(op: Any) -> None:
    if not 0 < op.beta <= 2:
        raise DataError(f"{type(op).__name__}: beta={op.beta} is not within 0 < beta <= 2")


@dataclass(frozen=True, repr=False)
class ER(Iteration):
    """Error reduction: ``P_s P_m``. Its error never grows (Fienup, Applied Optics 21 (1982) 2758)."""

    positivity: bool = False

    def rule(self) -> tuple[int, Coefficients, bool]:
        """Return the rule."""
        return COMBINE, (1, 1, 0, 0, 0), self.positivity


@dataclass(frozen=True, repr=False)
class SF(Iteration):
    """Solvent flipping: ``R_s P_m``."""

    positivity: bool = False

    def rule(self) -> tuple[int, Coefficients, bool]:
        """Return the rule."""
        return COMBINE, (2, 1, 0, -1, 0), self.positivity


@dataclass(frozen=True, repr=False)
class HIO(Iteration):
    """Hybrid input-output: ``P_m`` where the object is allowed, ``I - beta P_m`` elsewhere."""

    beta: float = 0.9
    positivity: bool = False

    def __post_init__(self) -> None:
        _check_beta(self)

    def rule(self) -> tuple[int, Coefficients, bool]:
        """Return the rule."""
        return FEEDBACK, (0, 0, 0, -self.beta, 1), self.positivity


@dataclass(frozen=True, repr=False)
class ASR(Iteration):
    """Averaged successive reflections: ``(R_s R_m + I) / 2``."""

    positivity: bool = False

    def rule(self) -> tuple[int, Coefficients, bool]:
        """Return the rule: ``P_s(2 m - rho) - m + rho``."""
        return COMBINE, (1, 2, -1, -1, 1), self.positivity


@dataclass(frozen=True, repr=False)
class HPR(Iteration):
    """Hybrid projection reflection: ``(R_s (R_m + (beta - 1) P_m) + I + (1 - beta) P_m) / 2``."""

    beta: float = 0.9
    positivity: bool = False

    def __post_init__(self) -> None:
        _check_beta(self)

    def rule(self) -> tuple[int, Coefficients, bool]:
        """Return the rule: ``P_s((1 + beta) m - rho) - beta m + rho``."""
        return COMBINE, (1, 1 + self.beta, -1, -self.beta, 1), self.positivity


@dataclass(frozen=True, repr=False)
class RAAR(Iteration):
    """Relaxed averaged alternating reflections: ``beta / 2 (R_s R_m + I) + (1 - beta) P_m``."""

    beta: float = 0.9
    positivity: bool = False

    def __post_init__(self) -> None:
        _check_beta(self)

    def rule(self) -> tuple[int, Coefficients, bool]:
        """Return the rule: ``beta P_s(2 m - rho) + (1 - 2 beta) m + beta rho``."""
        return COMBINE, (self.beta, 2, -1, 1 - 2 * self.beta, self.beta), self.positivity


@dataclass(frozen=True, repr=False)
class DM(Iteration):
    """Difference map: ``I + beta P_s[(1 + gs) P_m - gs I] - beta P_m[(1 + gm) P_s - gm I]``, 4 transforms.

    Defaults ``gs = 1 / beta``, ``gm = -1 / beta`` (Elser, J. Opt. Soc. Am. A 20 (2003) 40, in the sign by
    which ``DM(beta=1)`` is ``HIO(beta=1)``; ``gs = 1 / beta, gm = -1`` is ``HIO(beta)``).
    """

    beta: float = 0.9
    gs: float | None = None
    gm: float | None = None
    positivity: bool = False

    def __post_init__(self) -> None:
        if not 0 < abs(self.beta) <= 2:
            raise DataError(f"DM: beta={self.beta} is not within 0 < |beta| <= 2")

    def iterate(self, engine: Engine, rho: Any, support: Any, cdi: CDI) -> Any:
        """Return the object after one iteration."""
        gs = 1 / self.beta if self.gs is None else self.gs
        gm = -1 / self.beta if self.gm is None else self.gm

        def on_support(obj: Any, m: Any, a: float, b: float) -> Any:
            return engine.combine(obj, m, support, COMBINE, (1, a, b, 0, 0), self.positivity)

        m = engine.project(rho, cdi)
        first = on_support(rho.copy(), m, 1 + gs, -gs)
        second = (1 + gm) * on_support(rho.copy(), rho, 1, 0) - gm * rho
        return (rho + self.beta * (first - engine.project(second.astype(rho.dtype), cdi))).astype(rho.dtype)


@dataclass(frozen=True, repr=False)
class ChargeFlip(Iteration):
    """Charge flipping: density below `threshold` times its rms, or outside the support, changes its sign.

    Oszlanyi and Suto, Acta Crystallographica A 60 (2004) 134; for objects that are nearly real.
    """

    threshold: float = 0.0

    def iterate(self, engine: Engine, rho: Any, support: Any, cdi: CDI) -> Any:
        """Return the object after one iteration."""
        m = engine.project(rho, cdi)
        limit: Any = 0.0
        if self.threshold:
            limit = self.threshold * xp_of(m).sqrt((m.real**2 + m.imag**2).mean())
        return engine.combine(rho, m, support, FLIP, (limit, 0, 0, 0, 0), False)
