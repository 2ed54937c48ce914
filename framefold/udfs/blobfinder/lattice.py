"""The lattice that disks lie on: its indices on a detector, and its fit to measured disks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.blobfinder.kernels_lattice import fit_lattices
from framefold.udfs.blobfinder.kernels_match import match_nearest

Float = npt.NDArray[np.float64]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class LatticeFit:
    """How lattices are fitted.

    Attributes
    ----------
    rounds
        Of reweighting against outliers; 0: plain weighted least squares.
    min_peaks
        Frames with fewer disks are not fitted.
    min_prominence
        Disks whose correlation stands out less do not count.
    sigma_floor
        Least standard deviation of a disk, px: bounds the weight of bright ones.
    max_residual
        px: fits with more are masked. None: a fifth of the disks' radius.
    match
        ``"expected"``: a disk has the indices of the place where it was looked for. ``"nearest"``: those of
        the nearest point of a lattice that is followed from the middle outwards in each frame, for crystals
        that are bent or turned so far that outer disks leave their places.
    tolerance
        How far from its point a disk may be for ``"nearest"``, in units of the shorter lattice vector.
    """

    rounds: int = 5
    min_peaks: int = 5
    min_prominence: float = 0.0
    sigma_floor: float = 0.01
    max_residual: float | None = None
    match: Literal["expected", "nearest"] = "expected"
    tolerance: float = 0.3

    def __post_init__(self) -> None:
        if self.min_peaks < 3:
            raise DataError(f"a lattice needs at least 3 disks, min_peaks={self.min_peaks}")
        if self.match not in ("expected", "nearest"):
            raise DataError(f"match {self.match!r} is neither 'expected' nor 'nearest'")
        if not 0 < self.tolerance < 0.5:
            raise DataError(f"tolerance is between 0 and half a lattice vector, got {self.tolerance!r}")
        if self.rounds < 0 or self.sigma_floor <= 0:
            raise DataError(
                f"rounds={self.rounds} and sigma_floor={self.sigma_floor}: not negative, and positive"
            )


@dataclass(frozen=True, eq=False)
class Lattices:
    """Fitted lattices of n frames; see `fit_lattices`."""

    zero: Array
    a: Array
    b: Array
    cov: Array
    residual: Array
    used: Array
    selector: Array


@dataclass(frozen=True)
class Lattice:
    """A direct beam and two reciprocal lattice vectors, each (y, x) in px."""

    zero: tuple[float, float]
    a: tuple[float, float]
    b: tuple[float, float]

    def __post_init__(self) -> None:
        if not np.isfinite([self.zero, self.a, self.b]).all():
            raise DataError(f"the lattice {self.rows().tolist()} holds numbers that are not finite")
        area = abs(self.a[0] * self.b[1] - self.a[1] * self.b[0])
        if area < 0.05 * math.hypot(*self.a) * math.hypot(*self.b) or area < 1e-3:
            raise DataError(
                f"the lattice vectors a={list(self.a)} and b={list(self.b)} are parallel or vanish: "
                "give two independent ones, (zero, a, b), each (y, x) in px"
            )

    def rows(self) -> Float:
        """Return zero, a, b as ``(3, 2)``."""
        return np.array([self.zero, self.a, self.b], dtype=np.float64)

    @property
    def spacing(self) -> float:
        """Shortest distance between two disks, px."""
        h, k = (v.reshape(-1, 1) for v in np.mgrid[-2:3, -2:3])
        length = np.hypot(*(h * self.a + k * self.b).T)
        return float(length[length > 0].min())

    def positions(self, hk: npt.ArrayLike) -> Float:
        """Return where the disks of indices ``(m, 2)`` are, ``(m, 2)``."""
        return np.asarray(self.zero + np.asarray(hk, dtype=np.float64) @ self.rows()[1:])


def as_lattice(given: Lattice | Sequence[Sequence[float]] | npt.ArrayLike) -> Lattice:
    """Return a `Lattice` from ``(zero, a, b)``, each (y, x)."""
    if isinstance(given, Lattice):
        return given
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (3, 2):
        raise DataError(
            f"a lattice is (zero, a, b), each (y, x) in px: six numbers in shape (3, 2), got {given!r:.80}"
        )
    zero, a, b = ((float(y), float(x)) for y, x in values)
    return Lattice(zero, a, b)


def as_lattices(given: Any) -> tuple[Lattice, ...]:
    """Return lattices from one or several, each a `Lattice` or ``(zero, a, b)``."""
    if isinstance(given, Lattice):
        return (given,)
    several = isinstance(given, (list, tuple)) and len(given) > 0 and isinstance(given[0], Lattice)
    if several or (np.ndim(given) == 3 and len(given) > 0):
        return tuple(as_lattice(one) for one in given)
    return (as_lattice(given),)


def indices_on(lattice: Lattice, sig: tuple[int, int], margin: float) -> npt.NDArray[np.int64]:
    """Return h and k ``(m, 2)`` of the disks at least `margin` px inside the detector, inner ones first."""
    reach = math.hypot(*sig) + math.hypot(lattice.zero[0], lattice.zero[1])
    area = abs(lattice.a[0] * lattice.b[1] - lattice.a[1] * lattice.b[0])
    limit_h = math.ceil(reach * math.hypot(*lattice.b) / area)
    limit_k = math.ceil(reach * math.hypot(*lattice.a) / area)
    if limit_h * limit_k > 1_000_000:
        raise DataError(f"the lattice is so narrow that frames of {sig} hold more than a million disks")
    grid = np.mgrid[-limit_h : limit_h + 1, -limit_k : limit_k + 1].reshape(2, -1).T
    at = lattice.positions(grid)
    far = np.asarray(sig) - 1 - margin
    fits = np.all((at >= margin) & (at <= far), axis=1)
    hk, at = grid[fits], at[fits]
    order = np.lexsort((hk[:, 1], hk[:, 0], ((at - lattice.zero) ** 2).sum(1).round(6)))
    return np.ascontiguousarray(hk[order])


def empty_lattices(n: int, m: int) -> Lattices:
    """Return room for the lattices of n frames of m disks."""
    pair = np.empty((n, 2), np.float32)
    return Lattices(
        zero=pair, a=pair.copy(), b=pair.copy(), cov=np.empty((n, 3), np.float32),
        residual=np.empty(n, np.float32), used=np.empty(n, np.int32), selector=np.empty((n, m), bool),
    )  # fmt: skip


def fit_block(
    centers: Array, sigma: Array, usable: Array, hk: Float, fit: LatticeFit, out: Lattices,
    expected: Lattice | None = None,
) -> None:  # fmt: skip
    """Fit the lattices of a block of frames into `out`; ``match="nearest"`` starts from `expected`."""
    index = hk[None]
    if fit.match == "nearest" and expected is not None:
        index, matched = np.empty((*usable.shape, 2)), np.empty(usable.shape, bool)
        match_nearest(centers, sigma, usable, expected.rows(), hk, fit.tolerance, index, matched)
        usable = matched
    fit_lattices(
        centers, sigma, usable, index, fit.rounds, fit.sigma_floor, fit.min_peaks,
        out.zero, out.a, out.b, out.cov, out.residual, out.used, out.selector,
    )  # fmt: skip
