"""What is known of polar frames before they are correlated: ring means, and the bins that count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def joint(valid: Array, item: tuple[int, int]) -> Array:
    """Return the bins ``(n_q, n_phi)`` of a frame, or those that both frames of a difference have."""
    i, j = item
    return valid[i] if j < 0 else np.logical_and(valid[i], valid[j])


@dataclass(frozen=True, eq=False)
class Measured:
    """Polar frames, and what is known of them.

    Attributes
    ----------
    polar
        ``(n, n_q, n_phi)``; 0 where `valid` is False.
    means
        ``(n, n_q)`` weighted ring means; NaN where a bin is not finite although all must be.
    weight_sums
        ``(n_q,)`` sums of weights, ``(n, n_q)`` where masks differ from frame to frame.
    valid
        ``(n, n_q, n_phi)`` bool where masks differ; None: the mask is fixed.
    """

    polar: Array
    means: Floats
    weight_sums: Floats
    valid: Array | None = None

    @property
    def complete(self) -> npt.NDArray[np.bool_]:
        """Which frames can be used: no bin is missing, or where masks differ, not all bins are."""
        whole: Array = np.asarray(np.isfinite(self.means).all(axis=1))
        return whole if self.valid is None else whole & (self.weight_sums > 0).any(axis=1)
