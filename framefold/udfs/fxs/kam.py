"""Kam's relation: from angular correlations to the invariants B_l of the intensity, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.fxs.convergence import compare
from framefold.udfs.fxs.harmonics import legendre

if TYPE_CHECKING:
    from framefold.udfs.fxs.c2_result import Correlation

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Invariants:
    """``B_l(q, q') = sum_m I_lm(q) conj(I_lm(q'))``, what is left of the intensity without orientation.

    Attributes
    ----------
    q
        Of the shells in 1/Angstrom.
    degrees
        Even l, from 0.
    b_l
        ``(degrees, n_q, n_q)``; NaN where a pair was not inverted.
    cc_half
        ``(degrees,)``: agreement of ``B_l / sqrt(B_0 B_0')`` of both halves over the pairs of shells at least
        2 rings apart; NaN where there are no halves.
    n_particles
        By which the correlations were divided.
    """

    q: Floats
    degrees: npt.NDArray[np.int64]
    b_l: Floats
    cc_half: Floats
    n_particles: float


def cos_theta(q: Array, wavelength: float) -> Floats:
    """Return the cosine of the polar angle at which the Ewald sphere meets a shell: ``-q lambda / (4 pi)``.

    The sign does not matter for pairs. `wavelength` in Angstrom.
    """
    x = -np.asarray(q, dtype=np.float64) * wavelength / (4 * np.pi)
    if (abs(x) > 1).any():
        raise DataError(
            f"q up to {np.max(q):g} 1/Angstrom is beyond backscattering for {wavelength:g} Angstrom"
        )
    return x


def correlations(b_l: Array, q: Array, wavelength: float, orders: Array) -> Floats:
    """Return C_m from B_l of even l, ``(orders, n_q, n_q)``.

    ``C_m(q, q') = sum_{l >= m} B_l(q, q') / (2l + 1) Y_lm(Theta_q) Y_lm(Theta_q')`` (Kam 1977, with a curved
    Ewald sphere); ``b_l`` is ``(L/2 + 1, n_q, n_q)``.
    """
    top = 2 * (len(b_l) - 1)
    y = legendre(max(top, int(np.max(orders))), cos_theta(q, wavelength))
    out = np.zeros((len(orders), len(q), len(q)))
    for k, m in enumerate(orders):
        for i, n in enumerate(range(0, top + 1, 2)):
            if n >= m:
                out[k] += b_l[i] / (2 * n + 1) * y[n, m][:, None] * y[n, m]
    return out


def invert(
    corr: Correlation,
    l_max: int = 8,
    *,
    method: str = "triangular",
    diameter: float | None = None,
    n_particles: float = 1.0,
    label: int | None = None,
    **options: Any,
) -> Invariants:
    """Return the invariants that explain the correlations.

    Per pair of shells, B_l of even ``l = 2 .. L + 2`` follow from C_m of even ``m = 2 .. L + 2``; the topmost
    takes what lies beyond and is dropped. m = 0 is not used: it holds fluctuations of the pulses.
    ``B_0 = 4 pi SAXS SAXS'``.

    Parameters
    ----------
    corr
        The correlations; they know the wavelength.
    l_max
        Largest l, even.
    method
        ``"triangular"``: back-substitution from the top. ``"lsq"``: least squares over all even orders,
        weighted by the difference of the halves, with Tikhonov damping that grows with l.
    diameter
        Of the particle in Angstrom: a pair of shells has nothing above ``min(q, q') * diameter``.
    n_particles
        Mean number of particles per shot: B_l (l >= 2) carries it once, B_0 twice.
    label
        Class of frames.
    options
        Of `Correlation.c_m`.

    Raises
    ------
    DataError
        If the wavelength is not known, or orders are missing.
    """
    if method not in ("triangular", "lsq"):
        raise DataError(f"method={method!r} is not 'triangular' or 'lsq'")
    if not n_particles > 0:
        raise DataError(f"n_particles={n_particles} is not positive")
    if corr.wavelength is None:
        raise DataError("the correlations do not know the wavelength: run C2UDF with a geometry")
    if l_max < 2 or l_max % 2:
        raise DataError(f"l_max={l_max}: an even number from 2 is needed")
    needed = np.arange(2, l_max + 3, 2)
    at = np.searchsorted(corr.orders, needed)
    if at[-1] >= len(corr.orders) or (corr.orders[at] != needed).any():
        raise DataError(
            f"l_max={l_max} needs the even orders 2 .. {l_max + 2}; the run kept {corr.orders.tolist()}"
        )
    c = corr.c_m(label, **options).real
    whole = None
    if corr.halves:
        parts = [corr.c_m(label, h, **options).real for h in (0, 1)]
        whole = [_inverted(p, corr, l_max, method, diameter, parts) for p in parts]
    else:
        parts = None
    b = _inverted(c, corr, l_max, method, diameter, parts)
    b0 = 4 * np.pi * corr.saxs[:, None] * corr.saxs
    n = float(n_particles)
    cc = np.full(l_max // 2 + 1, np.nan)
    if whole is not None:
        # B_l falls by orders of magnitude with q: as it is, noise at small q would be all that counts
        halves = [h / np.where(b0 > 0, b0, np.nan) for h in whole]
        found = compare(halves[0], halves[1], np.arange(1, len(b) + 1), corr.q, (2.0, 2.0), len(corr.q))
        cc[1:] = found.map[:, 0]
    return Invariants(corr.q, np.arange(0, l_max + 1, 2), np.concatenate([b0[None] / n**2, b / n]), cc, n)


def _inverted(
    c: Array, corr: Correlation, l_max: int, method: str, diameter: float | None, parts: Any
) -> Floats:
    """Return B_l of even ``l = 2 .. l_max``, ``(l_max / 2, n_q, n_q)``."""
    q, n_q = corr.q, len(corr.q)
    y = legendre(l_max + 2, cos_theta(q, corr.wavelength or 0.0))
    limit = np.full((n_q, n_q), l_max, np.int64)
    if diameter is not None:
        reach = np.minimum(q[:, None], q) * diameter
        limit = np.clip((reach // 2 * 2).astype(np.int64) + 2, 2, l_max)
    out = np.zeros((l_max // 2, n_q, n_q))
    for top in np.unique(limit):
        i, j = np.nonzero(limit == top)
        degrees = np.arange(2, top + 3, 2)
        system = np.stack(
            [
                [y[n, m][i] * y[n, m][j] / (2 * n + 1) if n >= m else np.zeros(len(i)) for n in degrees]
                for m in degrees
            ]
        )
        rows = np.searchsorted(corr.orders, degrees)
        values = c[rows][:, i, j]
        matrix = np.moveaxis(system, 2, 0)
        good = np.isfinite(values).all(axis=0)
        found = np.full((len(degrees), len(i)), np.nan)
        if method == "triangular":
            found[:, good] = np.linalg.solve(matrix[good], values[:, good].T[:, :, None])[:, :, 0].T
        else:
            found[:, good] = _least_squares(
                matrix[good], values[:, good], rows, i[good], j[good], parts, degrees
            )
        out[: top // 2, i, j] = found[:-1]
    return out


def _least_squares(
    matrix: Array, values: Array, rows: Array, i: Array, j: Array, parts: Any, degrees: Array
) -> Floats:
    """Return weighted, damped solutions ``(degrees, pairs)``."""
    weight = np.ones_like(values)
    if parts is not None:
        # the variance of an order is that of the difference of the halves, averaged over all pairs
        variance = np.array([np.nanmean((parts[0][r] - parts[1][r]) ** 2) / 4 for r in rows])
        weight = np.broadcast_to((1 / np.sqrt(np.maximum(variance, 1e-300)))[:, None], values.shape)
        weight = weight / weight.max()
    a = matrix * weight.T[:, :, None]
    normal = a.swapaxes(1, 2) @ a
    damping = 1e-6 * np.trace(normal, axis1=1, axis2=2)[:, None] * (degrees / degrees[0]) ** 2 / len(degrees)
    normal[:, np.arange(len(degrees)), np.arange(len(degrees))] += damping
    right = a.swapaxes(1, 2) @ (values * weight).T[:, :, None]
    return np.linalg.solve(normal, right)[:, :, 0].T
