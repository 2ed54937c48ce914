"""How frames are correlated with the pattern: the engines that users choose from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from framefold.errors import DataError, did_you_mean
from framefold.udfs.blobfinder.kernels_correlate import SCALE_LOG, SCALE_NONE, SCALE_SQRT

Scaling = Literal["sqrt", "log", "none"]
_LEAST_SEARCH = 6.0  # px
_TRANSFORM = 45.0  # multiplications
SCALINGS: dict[str, int] = {"sqrt": SCALE_SQRT, "log": SCALE_LOG, "none": SCALE_NONE}


@dataclass(frozen=True)
class CropCorrelation:
    """Correlates the surroundings of each expected disk.

    Attributes
    ----------
    search
        How far from its expected position a disk may be, px. None: the radius, at least 6 px, but less than
        half of the way to the next disk.
    scaling
        ``"sqrt"``: makes the noise of counts the same everywhere; ``"log"``: ``log(1 + counts)``;
        ``"none"``.
    hybrid
        Power of the correlation's spectrum, from 1 (cross correlation) to 0 (phase correlation, which
        sharpens edges and noise): the spectrum is weighted by its modulus to the power ``hybrid - 1`` (Pekin
        et al., Ultramicroscopy 176, 170, 2017). Below 1 heights have no scale of their own: errors and
        signal-to-noise ratios of what is read from the correlation alone are not known; and each crop takes
        a transform there and back.
    """

    search: float | None = None
    scaling: Scaling = "sqrt"
    hybrid: float = 1.0

    def __post_init__(self) -> None:
        _check(self.search, self.scaling, self.hybrid)


@dataclass(frozen=True)
class FullFrameCorrelation:
    """Correlates whole frames with one transform each, for many and close disks. Needs whole frames.

    Attributes
    ----------
    search, scaling, hybrid
        See `CropCorrelation`.
    """

    search: float | None = None
    scaling: Scaling = "sqrt"
    hybrid: float = 1.0

    def __post_init__(self) -> None:
        _check(self.search, self.scaling, self.hybrid)


@dataclass(frozen=True)
class SparseCorrelation:
    """Correlates by a sparse matrix of shifted templates, without any scaling of the counts.

    What each part of a frame adds is known as it arrives.

    Attributes
    ----------
    search
        See `CropCorrelation`.
    """

    search: float | None = None

    def __post_init__(self) -> None:
        _check(self.search, self.scaling)

    @property
    def hybrid(self) -> float:
        """1: only cross correlation is linear."""
        return 1.0

    @property
    def scaling(self) -> Scaling:
        """``"none"``: only that is linear."""
        return "none"


Correlation = CropCorrelation | FullFrameCorrelation | SparseCorrelation


def as_correlation(given: Correlation | Literal["auto"] | None) -> Correlation | Literal["auto"]:
    """Return `given`; by default crops."""
    if given is None:
        return CropCorrelation()
    if isinstance(given, str) and given == "auto":
        return "auto"
    if not isinstance(given, (CropCorrelation, FullFrameCorrelation, SparseCorrelation)):
        raise DataError(
            f"correlation {given!r}: 'auto', CropCorrelation(), FullFrameCorrelation() or SparseCorrelation()"
        )
    return given


def cheaper(disks: int, taps: int, positions: int, sig: tuple[int, int]) -> Correlation:
    """Return whether crops or whole frames are correlated with less work.

    Crops take a multiplication per tap of the template and position; whole frames a transform there and back.
    A step of the latter takes as long as 45 multiplications in registers (measured). Times are not taken
    where it runs: all workers must choose the same.
    """
    pixels = sig[0] * sig[1]
    if disks * taps * positions > _TRANSFORM * pixels * math.log2(pixels):
        return FullFrameCorrelation()
    return CropCorrelation()


def reach(correlation: Correlation, radius: float, spacing: float) -> float:
    """Return the search distance for disks of `radius` that lie `spacing` px apart at least."""
    if correlation.search is not None:
        return float(correlation.search)
    # descan and strain move small disks as far as large ones; half of the way the neighbour is as near
    return max(1.0, min(max(radius, _LEAST_SEARCH), 0.5 * spacing - 1.0))


def _check(search: float | None, scaling: str, hybrid: float = 1.0) -> None:
    if not 0 <= hybrid <= 1:
        raise DataError(f"hybrid is between 0 (phase) and 1 (cross correlation), got {hybrid!r}")
    if scaling not in SCALINGS:
        raise DataError(
            f"scaling {scaling!r}: one of {', '.join(SCALINGS)}.{did_you_mean(str(scaling), SCALINGS)}"
        )
    if search is not None and not (math.isfinite(search) and search >= 1):
        raise DataError(f"search is a distance of at least 1 px, got {search!r}")
