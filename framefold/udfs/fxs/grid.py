"""The polar grid of scattering vector and azimuth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PolarGrid:
    """Bins of equal width in q and in azimuth.

    Attributes
    ----------
    n_q, n_phi
        Number of bins; `n_phi` is even.
    q_min, q_max
        Edges of the range in 1/Angstrom.

    Examples
    --------
    >>> PolarGrid(n_q=3, n_phi=8, q_min=0.0, q_max=0.3).q
    array([0.05, 0.15, 0.25])
    """

    n_q: int = 300
    n_phi: int = 256
    q_min: float = 0.0
    q_max: float = 0.0

    def __post_init__(self) -> None:
        if self.n_q < 1 or self.n_phi < 2:
            raise DataError(f"a grid of {self.n_q} x {self.n_phi} bins: n_q >= 1 and n_phi >= 2 are needed")
        if self.n_phi % 2:
            raise DataError(f"n_phi={self.n_phi} is odd: take {self.n_phi + 1}")
        if not 0 <= self.q_min < self.q_max:
            raise DataError(
                f"q_min={self.q_min}, q_max={self.q_max}: 0 <= q_min < q_max is needed (1/Angstrom)"
            )

    @property
    def q_step(self) -> float:
        """Width of a bin in 1/Angstrom."""
        return (self.q_max - self.q_min) / self.n_q

    @property
    def q(self) -> Floats:
        """Centres of the bins in 1/Angstrom."""
        return np.asarray(self.q_min + (np.arange(self.n_q) + 0.5) * self.q_step, np.float64)

    @property
    def phi(self) -> Floats:
        """Centres of the bins in rad: ``2 pi p / n_phi``."""
        return 2 * np.pi * np.arange(self.n_phi) / self.n_phi

    @property
    def shape(self) -> tuple[int, int]:
        """``(n_q, n_phi)``."""
        return self.n_q, self.n_phi
