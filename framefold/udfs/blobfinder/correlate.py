"""How frames are correlated with the pattern: the engines that users choose from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from framefold.errors import DataError, did_you_mean
from framefold.udfs.blobfinder.kernels_correlate import SCALE_LOG, SCALE_NONE, SCALE_SQRT

Scaling = Literal["sqrt", "log", "none"]
SCALINGS: dict[str, int] = {"sqrt": SCALE_SQRT, "log": SCALE_LOG, "none": SCALE_NONE}


@dataclass(frozen=True)
class CropCorrelation:
    """Correlates the surroundings of each expected disk.

    Attributes
    ----------
    search
        How far from its expected position a disk may be, px. None: the radius, but less than half of the way
        to the next disk.
    scaling
        ``"sqrt"``: makes the noise of counts the same everywhere; ``"log"``: ``log(1 + counts)``;
        ``"none"``.
    """

    search: float | None = None
    scaling: Scaling = "sqrt"

    def __post_init__(self) -> None:
        if self.scaling not in SCALINGS:
            raise DataError(
                f"scaling {self.scaling!r}: one of {', '.join(SCALINGS)}."
                f"{did_you_mean(str(self.scaling), SCALINGS)}"
            )
        if self.search is not None and not (math.isfinite(self.search) and self.search >= 1):
            raise DataError(f"search is a distance of at least 1 px, got {self.search!r}")

    def reach(self, radius: float, spacing: float) -> float:
        """Return the search distance for disks of `radius` that lie `spacing` px apart at least."""
        if self.search is not None:
            return float(self.search)
        # at half of the way the neighbour would be as near as the disk itself
        return max(1.0, min(radius, 0.5 * spacing - 1.0))
