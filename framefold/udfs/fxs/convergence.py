"""Whether correlations converge: agreement of two halves of the frames, and the shots still needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
SHELL = 10  # rings
TARGETS = (0.5, 0.9)


@dataclass(frozen=True, eq=False)
class Convergence:
    """Agreement of two halves, uncentred as in a Fourier shell correlation.

    Attributes
    ----------
    q
        Centres of the shells in 1/Angstrom.
    orders
        Angular orders of `map`, from 1.
    map
        ``CC1/2(order, shell)``; NaN where there is nothing to compare.
    curve
        Per shell, orders weighted by 1 / variance.
    cc_star
        ``sqrt(2 CC / (1 + CC))``: expected agreement of all frames with the truth.
    signal
        s in ``CC = s / (s + 1/n)``, n frames per half.
    shots_needed
        ``(2, shells)``: frames in all for CC 0.5 and 0.9; infinite where there is no signal yet.
    """

    q: Floats
    orders: npt.NDArray[np.int64]
    map: Floats
    curve: Floats
    cc_star: Floats
    signal: Floats
    shots_needed: Floats


def shells(n_q: int, width: int = SHELL) -> list[slice]:
    """Return shells of `width` rings; what is left over joins the last one."""
    n = max(1, n_q // width)
    return [slice(i * width, (i + 1) * width if i < n - 1 else n_q) for i in range(n)]


def cc_of_sums(cross: Floats, aa: Floats, bb: Floats) -> Floats:
    """Return ``cross / sqrt(aa bb)``, NaN where there is nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((aa > 0) & (bb > 0), cross / np.sqrt(aa * bb), np.nan)


def weighted_curve(cross: Floats, aa: Floats, bb: Floats, points: Floats) -> Floats:
    """Return the agreement per shell over orders, each weighted by ``1 / mean (A - B)^2``."""
    difference = aa + bb - 2 * cross
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where((difference > 0) & (points > 0), points / difference, 0.0)
    total = [(weight * x).sum(axis=0) for x in (cross, aa, bb)]
    exact = [x.sum(axis=0) for x in (cross, aa, bb)]  # halves that are equal have no variance
    use = weight.any(axis=0)
    return cc_of_sums(*(np.where(use, t, e) for t, e in zip(total, exact, strict=True)))


def derived(curve: Floats, frames: tuple[float, float]) -> tuple[Floats, Floats, Floats]:
    """Return CC*, s and the frames needed for CC 0.5 and 0.9."""
    low = min(frames)
    n = 2.0 / (1 / frames[0] + 1 / frames[1]) if low > 0 else np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        cc = np.clip(curve, 0, 1)
        star = np.sqrt(2 * cc / (1 + cc))
        signal = cc / (1 - cc) / n
        needed = np.array([2 * t / (1 - t) / signal for t in TARGETS])
    return star, signal, needed


def compare(
    a: Array, b: Array, orders: Array, q: Floats, frames: tuple[float, float], width: int = SHELL
) -> Convergence:
    """Compare ``C_m`` of two halves.

    Parameters
    ----------
    a, b
        ``(orders, n_q, n_q)``, real.
    orders
        Of the first axis; order 0 is left out: it holds the fluctuations of pulses and concentration.
    q
        Of the rings.
    frames
        In both halves.
    width
        Rings per shell.
    """
    use = np.asarray(orders) >= 1
    parts = shells(len(q), width)
    sums = np.zeros((4, int(use.sum()), len(parts)))
    for s, part in enumerate(parts):
        rings = np.arange(len(q))[part]
        # neighbours share pixels, and with them photon noise
        apart = np.abs(rings[:, None] - rings) >= 2
        x, y = (np.asarray(c[use][:, part, part], dtype=np.float64)[:, apart] for c in (a, b))
        good = np.isfinite(x) & np.isfinite(y)
        x, y = np.where(good, x, 0), np.where(good, y, 0)
        sums[:, :, s] = (x * y).sum(1), (x * x).sum(1), (y * y).sum(1), good.sum(1)
    enough = min(frames) >= 2
    curve = weighted_curve(*sums) if enough else np.full(len(parts), np.nan)
    cc_map = cc_of_sums(*sums[:3]) if enough else np.full(sums.shape[1:], np.nan)
    star, signal, needed = derived(curve, frames)
    centres = np.array([q[p].mean() for p in parts])
    return Convergence(centres, np.asarray(orders)[use], cc_map, curve, star, signal, needed)


def halves_of(diagonals: Array, used: Array, halves: bool) -> tuple[Array, Array, tuple[float, float]]:
    """Return the mean live diagonals of both halves over all classes, and their frames."""
    if not halves:
        nothing = np.zeros(diagonals.shape[1:])
        return nothing, nothing, (0.0, 0.0)
    n = used[::2].sum(), used[1::2].sum()
    means = [diagonals[i::2].sum(axis=0) / max(k, 1) for i, k in enumerate(n)]
    return means[0], means[1], (float(n[0]), float(n[1]))


def live_curves(a: Array, b: Array, frames: tuple[float, float], n_q: int) -> tuple[Floats, Floats, Floats]:
    """Return map (33, shells), curve and shots needed, from products of rings 2 and 4 apart.

    `a` and `b` are ``(orders, lags, n_q)``, means over the halves.
    """
    x, y = a[:, 1:], b[:, 1:]
    parts = shells(n_q)
    sums = np.stack(
        [
            np.stack([f[:, :, p].sum(axis=(1, 2)) for p in parts], axis=1)
            for f in (x * y, x * x, y * y, np.broadcast_to(1.0, x.shape))
        ]
    )
    sums[:, 0] = 0  # order 0
    if min(frames) < 2:
        nothing = np.full((len(TARGETS), len(parts)), np.nan)
        return np.full(sums.shape[1:], np.nan), nothing[0].copy(), nothing
    curve = weighted_curve(*sums[:, 1:])
    return cc_of_sums(*sums[:3]), curve, derived(curve, frames)[2]


def to_angles(spectrum: Array, n_phi: int) -> Floats:
    """Return ``2 sum_{m >= 1} C_m cos(m D)`` along the first axis, D of `n_phi` bins."""
    full = np.zeros((n_phi // 2 + 1, *spectrum.shape[1:]))
    full[: len(spectrum)] = spectrum
    full[0] = 0
    return n_phi * np.fft.irfft(full, n_phi, axis=0)


def odd_even(spectrum: Array) -> Floats:
    """Return power in odd orders over power in even ones from 2, per ring; input ``(orders, n_q)``.

    Friedel's law leaves almost nothing odd: what is there comes from a wrong centre, the mask or parasitic
    light.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = spectrum[1::2].sum(axis=0) / spectrum[2::2].sum(axis=0)
    return np.where(np.isfinite(ratio), ratio, np.nan)
