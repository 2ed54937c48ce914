"""From the autocorrelation of diffraction patterns to the radius of their disks and their lattice vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError

Float = npt.NDArray[np.float64]

_MOST_PEAKS = 40
_EXPLAINED = 0.9


@dataclass(frozen=True, eq=False)
class Difference:
    """Peaks of an autocorrelation: vectors from disk to disk.

    Attributes
    ----------
    vectors
        ``(n, 2)`` (y, x) px, one of each pair of opposite ones.
    height
        ``(n,)`` above the surroundings.
    """

    vectors: Float
    height: Float


def disk_autocorrelation(d: Float, radius: float) -> Float:
    """Return the overlap of two disks at the distance `d`, 1 at 0."""
    u = np.clip(d / (2 * radius), 0, 1)
    return np.asarray(2 / math.pi * (np.arccos(u) - u * np.sqrt(1 - u * u)))


def radius_of(acf: Float) -> float:
    """Return the radius of the disks from the middle of an autocorrelation.

    The radial profile out to its first minimum is fitted with the overlap of two disks on a constant.

    Raises
    ------
    DataError
        If the profile does not fall like that of disks.
    """
    ny, nx = acf.shape[0] // 2, acf.shape[1] // 2
    y, x = np.mgrid[-ny : ny + 1, -nx : nx + 1]
    r = np.hypot(y, x)
    bins = np.rint(r).astype(int).reshape(-1)
    reach = min(ny, nx)
    count = np.bincount(bins)[:reach]
    profile = np.bincount(bins, acf.reshape(-1))[:reach] / count
    smooth = np.convolve(np.pad(profile, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
    # what rises more than noise does belongs to the neighbours; of slow rises only their beginning is clear
    rough = acf[1:-1, 1:-1] - 0.25 * (acf[:-2, 1:-1] + acf[2:, 1:-1] + acf[1:-1, :-2] + acf[1:-1, 2:])
    noise = 1.33 * float(np.median(np.abs(rough))) / np.sqrt(count[1:])
    low = np.minimum.accumulate(smooth[1:])
    rising = np.flatnonzero(smooth[1:] - low > 4.0 * noise)
    end = int(np.flatnonzero(smooth[1:] == low[rising[0]])[0]) + 2 if len(rising) else reach
    if end > 0.45 * reach:
        rising = np.flatnonzero(np.diff(smooth[1:]) > 0)
        end = int(rising[0]) + 2 if len(rising) else reach
    if end < 4 or profile[1] <= 0:
        raise DataError(
            "no disks stand out from the frames: give radius= and lattice=(zero, a, b), or check that "
            "these are "
            "convergent-beam patterns"
        )
    near = (r >= 1) & (r <= end)
    d, v = r[near], acf[near]
    best = (np.inf, 0.0)
    for radius in np.arange(1.0, end, 0.05):
        f = disk_autocorrelation(d, radius)
        X = np.column_stack([f, np.ones_like(f)])
        fit, *_ = np.linalg.lstsq(X, v, rcond=None)
        best = min(best, (float(((X @ fit - v) ** 2).sum()), float(radius)))
    return best[1]


def without_slow(acf: Float, width: float) -> Float:
    """Return an autocorrelation of what varies within `width` px: background and halos gone."""
    from scipy.ndimage import gaussian_filter  # 60 ms

    return np.asarray(acf - gaussian_filter(acf, width, mode="reflect"))


def peaks_of(acf: Float, radius: float) -> Difference:
    """Return the peaks of an autocorrelation further out than the disks reach, strongest first.

    Heights are above the mean on a circle of 1.2 radii; peaks below 8 standard deviations of the map's noise,
    or within 1.2 radii of a higher one, do not count.
    """
    from scipy.ndimage import convolve, gaussian_filter, maximum_filter  # 60 ms

    ny, nx = acf.shape[0] // 2, acf.shape[1] // 2
    smooth = gaussian_filter(acf, max(0.7, 0.15 * radius))
    half = math.ceil(1.2 * radius)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    ring = (np.abs(np.hypot(y, x) - 1.2 * radius) <= 0.75).astype(float)
    height = smooth - convolve(smooth, ring / ring.sum(), mode="nearest")
    y, x = np.mgrid[-ny : ny + 1, -nx : nx + 1]
    distance = np.hypot(y, x)
    foot = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1]) <= 1.2 * radius
    top = (smooth == maximum_filter(smooth, footprint=foot)) & (height > 0)
    inside = (np.abs(y) < ny - 1) & (np.abs(x) < nx - 1) & (distance > 1.7 * radius)
    # one of each opposite pair
    top &= inside & ((y > 0) | ((y == 0) & (x > 0)))
    at = np.argwhere(top & (height > 0.08 * float(height[top].max(initial=0))))
    h = height[tuple(at.T)]
    order = np.argsort(-h)[:_MOST_PEAKS]
    vectors = np.array([_refined(smooth, *at[i]) for i in order]).reshape(-1, 2) - (ny, nx)
    return Difference(vectors, h[order])


def _refined(values: Float, y: int, x: int) -> tuple[float, float]:
    """Return the top of parabolas through a pixel and its neighbours."""
    out = []
    for low, mid, high in (
        (values[y - 1, x], values[y, x], values[y + 1, x]),
        (values[y, x - 1], values[y, x], values[y, x + 1]),
    ):
        curve = low - 2 * mid + high
        out.append(0.5 * (low - high) / curve if curve < 0 else 0.0)
    return y + float(out[0]), x + float(out[1])


def lattice_vectors(found: Difference, radius: float) -> tuple[Float, float]:
    """Return the vectors ``(2, 2)`` of the coarsest lattice that explains the peaks, and the share explained.

    All pairs of the strongest short peaks are tried. A lattice that is too fine explains everything, so among
    those that explain nearly as much as the best the one with the largest cell wins.

    Raises
    ------
    DataError
        If there are fewer than 3 peaks.
    """
    if len(found.vectors) < 3:
        raise DataError(
            f"only {len(found.vectors)} distances between disks stand out: no lattice can be told. Give "
            "lattice=(zero, a, b), or a region of the scan with one crystal (roi=)"
        )
    V, w = found.vectors, found.height / found.height.sum()
    length = np.hypot(*V.T)
    short = np.argsort(length)[: min(len(V), 24)]
    tried: list[tuple[float, float, Float]] = []
    for i, p in enumerate(short):
        for q in short[i + 1 :]:
            B = np.stack([V[p], V[q]])
            area = abs(float(np.linalg.det(B)))
            if area < 0.3 * length[p] * length[q] or area < 2.5 * radius**2:
                continue
            tried.append((_explained(V, w, B, radius), area, B))
    if not tried:
        raise DataError("all distances between disks point the same way: give lattice=(zero, a, b)")
    most = max(t[0] for t in tried)
    share, _, B = max((t for t in tried if t[0] >= _EXPLAINED * most), key=lambda t: (round(t[1], 0), t[0]))
    for _ in range(3):
        hk = np.rint(V @ np.linalg.inv(B))
        fits = _fits(V, hk, B, radius) & (hk != 0).any(axis=1)
        if np.linalg.matrix_rank(hk[fits]) == 2:
            s = np.sqrt(w[fits])[:, None]
            B = np.linalg.lstsq(hk[fits] * s, V[fits] * s, rcond=None)[0]
    return reduced(B), share


def _fits(V: Float, hk: Float, B: Float, radius: float) -> npt.NDArray[np.bool_]:
    # peaks of strained regions spread in proportion to their distance
    limit = np.maximum(1.0, 0.25 * radius) + 0.02 * np.hypot(*V.T)
    return np.asarray(np.hypot(*(V - hk @ B).T) < limit)


def _explained(V: Float, w: Float, B: Float, radius: float) -> float:
    hk = np.rint(V @ np.linalg.inv(B))
    return float(w[_fits(V, hk, B, radius) & (hk != 0).any(axis=1)].sum())


def reduced(B: npt.ArrayLike) -> Float:
    """Return the two shortest vectors of a lattice: a nearest to +x, b turned from it towards +y."""
    a, b = (np.asarray(v, dtype=np.float64) for v in np.asarray(B, dtype=np.float64))
    while True:  # Lagrange and Gauss
        if a @ a > b @ b:
            a, b = b, a
        n = round(float(a @ b) / float(a @ a))
        if n == 0:
            break
        b = b - n * a
    # all vectors that are about as short as b are as good
    some = [s * v for v in (a, b, a + b, a - b) for s in (1.0, -1.0)]
    limit = 1.02 * math.sqrt(float(b @ b))
    some = [v for v in some if math.hypot(*v) <= limit]
    first = min(some, key=lambda v: (round(abs(math.atan2(v[0], v[1])), 3), math.hypot(*v)))
    area = abs(float(a[1] * b[0] - a[0] * b[1]))
    others = [v for v in some if float(first[1] * v[0] - first[0] * v[1]) > 0.5 * area]
    second = min(others, key=lambda v: (round(abs(float(first @ v)), 3), math.hypot(*v)))
    return np.stack([first, second])


def same_lattice(A: Any, B: Any, tolerance: float = 0.05) -> bool:
    """Tell whether two pairs of vectors span the same lattice."""
    M = np.asarray(A, dtype=np.float64) @ np.linalg.inv(np.asarray(B, dtype=np.float64))
    return bool(np.abs(M - np.rint(M)).max() < tolerance and abs(abs(np.linalg.det(np.rint(M))) - 1) < 1e-9)
