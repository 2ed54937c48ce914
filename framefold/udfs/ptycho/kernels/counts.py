"""What measured counts say about the waves of many frames, as formulas on whole arrays.

Waves are ``(n, L, M, ny, nx)``, counts, weights and modelled counts ``(n, ny, nx)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from framefold.udfs.ptycho.kernels.reference import EPS, SOFT


@dataclass(frozen=True)
class Seen:
    """What was measured in some frames, beside what the model says.

    Attributes
    ----------
    xp
        Namespace of the arrays.
    counts, good
        Measured counts, not below 0, and their weights: 0 where nothing is measured.
    model
        Modelled counts, background included.
    power
        ``(n, 1, 1)``: brightness of the beam.
    """

    xp: Any
    counts: Any
    good: Any
    model: Any
    power: Any

    def sums(self) -> Any:
        """Return misfit, measured and modelled counts, summed over the measured pixels: float64 ``(3,)``."""
        difference = self.xp.sqrt(self.model) - self.xp.sqrt(self.counts)
        return self._sums(difference * difference, self.counts, self.model)

    def _sums(self, *values: Any) -> Any:
        return self.xp.stack([(self.good * v).sum(dtype=np.float64) for v in values])

    def modulus_factor(self) -> Any:
        """Return what gives the waves the measured modulus: ``sqrt(I) / sqrt(I_m)``, 1 where unmeasured."""
        xp = self.xp
        return xp.where(self.good > 0, xp.sqrt(self.counts) / (xp.sqrt(self.model) + EPS), 1)

    def slopes(self, poisson: bool) -> tuple[Any, Any]:
        """Return ``dL/dI_m`` and ``d2L/dI_m2`` of the likelihood, see `framefold.udfs.ptycho.ML`."""
        if poisson:
            ratio = (self.counts + SOFT) / (self.model + SOFT)
            return self.good * (1 - ratio), self.good * ratio / (self.model + SOFT)
        ratio = self.xp.sqrt(self.counts) / (self.xp.sqrt(self.model) + EPS)
        return self.good * (1 - ratio), self.good * ratio * 0.5 / (self.model + EPS)

    def line(self, wave: Any, step: Any, poisson: bool) -> Any:
        """Return L', L'' and the expected L'' along ``|F + a D|^2``, see `KernelSet.add_line`: ``(3,)``."""
        slope, curvature = self.slopes(poisson)
        b = 2 * self.power * (wave.real * step.real + wave.imag * step.imag).sum(axis=(1, 2))
        c = self.power * (step.real**2 + step.imag**2).sum(axis=(1, 2))
        expected = self.good * b * b / (self.model + SOFT)
        parts = (slope * b, curvature * b * b + 2 * slope * c, expected)
        return self.xp.stack([v.sum(dtype=np.float64) for v in parts])
