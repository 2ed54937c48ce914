"""Radius and softness of disks whose insides vary: only the edge is the same for all."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from framefold.udfs.blobfinder.edge import Edge, Sample
from framefold.udfs.blobfinder.patterns import SHARP

Float = npt.NDArray[np.float64]

#: electrons in a disk that are worth a coefficient of its inside
_EACH = 150.0
_MOST = 4  # order of the polynomial
_SOFTEST = 0.25  # of the radius
_DISKS = 80


def structured_edge(sample: Sample, start: float, spacing: float, known: bool) -> Edge | None:
    """Return the edge that explains bright disks with the least weighted squares, or None: too few counts.

    Each disk is a soft edge times a polynomial of the place inside it, plus a background with a slope: what
    dynamical diffraction does inside is free, the edge is not. Its centre may shift a little.

    Parameters
    ----------
    sample
        Disks with their centres from the lattices of their frames.
    start, spacing
        First guess of the radius, and distance of neighbouring disks, px.
    known
        Keep the radius `start`.
    """
    most = 0.499 * spacing
    counts, weight, y, x = (v.astype(np.float64) for v in (sample.counts, sample.good, sample.py, sample.px))
    bright = np.argsort(-counts.sum(axis=1))[:_DISKS]
    counts, weight, centres = counts[bright], weight[bright], sample.first[bright, 4:]
    rate = _locally(counts, weight, y, x)
    noise = (weight * (counts - rate) ** 2).sum(axis=1) * 9.0 / 8.0  # a pixel is one of nine of its mean
    gain = float(np.median(noise / np.maximum((weight * rate).sum(axis=1), 1e-30)))
    electrons = float(np.median(counts.sum(axis=1))) / max(gain, 1e-30)
    order = min(_MOST, int(0.5 * (math.sqrt(8 * electrons / _EACH + 1) - 3)))
    if order < 2 or len(counts) < 3:
        return None
    v, u = y - centres[:, :1], x - centres[:, 1:]
    r = np.hypot(v, u)
    root = np.sqrt(weight / np.maximum(rate, 0.2 * gain))
    data, scale = root * counts, 1.0 / start
    powers = [(i, j) for i in range(order + 1) for j in range(order + 1 - i)]
    inner = np.stack([root * (v * scale) ** i * (u * scale) ** j for i, j in powers])
    outer = np.stack([root, root * v * scale, root * u * scale])

    def fitted(radius: float, softness: float) -> Float:
        f, slope = _edge(radius - r, softness)
        slope = slope * root / np.maximum(r, 1e-6)
        X = np.concatenate([inner * f, outer, [slope * v, slope * u]]).transpose(1, 2, 0)
        N = X.transpose(0, 2, 1) @ X
        g = X.transpose(0, 2, 1) @ data[..., None]
        N[:, *np.diag_indices(N.shape[1])] += 1e-6 * np.einsum("nii->ni", N) + 1e-12
        return np.asarray((X @ np.linalg.solve(N, g))[..., 0])

    def cost(radius: float, softness: float) -> float:
        if not (1.0 <= radius <= most and SHARP <= softness <= _SOFTEST * radius):
            return math.inf
        return float(((data - fitted(radius, softness)) ** 2).sum())

    from scipy.optimize import minimize  # 100 ms

    radii = [start] if known else np.unique(np.clip(start * np.linspace(0.75, 1.6, 18), 1.0, most))
    lowest, radius, softness = min((cost(radius, s), radius, s) for radius in radii for s in (0.3, 0.9))
    if not math.isfinite(lowest):
        return None
    first = np.array([radius, math.log(softness)])
    step = 0.03 * start if radius < most else -0.03 * start

    def of(p: Float) -> float:
        return cost(start if known else float(p[0]), float(np.exp(p[1])))

    found = minimize(
        of, first, method="Nelder-Mead",
        options={"xatol": 3e-3, "fatol": 0.05, "maxfev": 40,
                 "initial_simplex": [first, first + [step, 0.0], first + [0.0, 0.4]]},
    )  # fmt: skip
    radius, softness = start if known else float(found.x[0]), float(np.exp(found.x[1]))
    free = weight.sum() - len(counts) * (len(powers) + 5)
    rest = (data - fitted(radius, softness)) ** 2 * np.maximum(rate, 0.2 * gain)
    spread = float(rest.sum() / max((weight * counts).sum(), 1e-30) * weight.sum() / max(1.0, free))
    return Edge(radius, softness, spread)


def _edge(t: Float, softness: float) -> tuple[Float, Float]:
    """Return share and slope of pixels at the distance `t` inside an edge, averaged over directions."""
    from scipy.special import erf

    # a pixel seen from any side has the variance of a box
    width = math.sqrt(softness**2 + 1.0 / 12.0)
    z = t / width
    return 0.5 * (1 + erf(z / math.sqrt(2))), np.exp(-0.5 * z * z) / (width * math.sqrt(2 * math.pi))


def _locally(counts: Float, weight: Float, y: Float, x: Float) -> Float:
    """Return the mean rates of pixels and their neighbours, which follow any inside."""
    from scipy.ndimage import uniform_filter  # 60 ms

    n = int(max(y.max(), x.max()))
    sums = np.zeros((2, len(counts), 2 * n + 1, 2 * n + 1))
    sums[:, :, y.astype(int) + n, x.astype(int) + n] = counts, weight
    sums = uniform_filter(sums, (0, 0, 3, 3), mode="constant")[:, :, y.astype(int) + n, x.astype(int) + n]
    return np.asarray(sums[0] / np.maximum(sums[1], 1e-12))
