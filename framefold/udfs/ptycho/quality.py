"""How good a reconstruction is: against a known object, or against that of the other half of the counts."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.ptycho.ambiguity import mean_gradient, ramp

Array = npt.NDArray[Any]


def object_error(found: Array, truth: Array, weight: Array) -> float:
    """Return ``min ||w (c ramp(shift(O)) - O_true)|| / ||w O_true||`` over factor, ramp and common shift.

    Parameters
    ----------
    found, truth
        Complex, one shape; `found` at most a few pixels away.
    weight
        Bool or float, the same shape: where the object is compared.
    """
    return aligned(found, truth, weight)[1]


def aligned(found: Array, truth: Array, weight: Array) -> tuple[Array, float]:
    """Return `found` with factor, ramp and shift that suit `truth` best, and the error that is left."""
    from scipy.optimize import least_squares  # noqa: PLC0415  # only here

    w = np.asarray(weight, np.float64)
    o = np.asarray(found, np.complex128)
    t = np.asarray(truth, np.complex128)
    shape = t.shape
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None, :]
    y, x = np.arange(shape[0])[:, None] / shape[0], np.arange(shape[1])[None, :] / shape[1]

    def moved(p: Array) -> Array:
        # outside the weight values may be wild: the ramp goes on before the shift spreads them
        out = o * np.exp(2j * np.pi * (p[2] * y + p[3] * x))
        return np.asarray(np.fft.ifft2(np.fft.fft2(out) * np.exp(-2j * np.pi * (p[0] * fy + p[1] * fx))))

    def fitted(p: Array) -> tuple[Array, Array]:
        m = moved(p)
        c = np.vdot(w * m, w * t) / (float(np.linalg.norm(w * m)) ** 2 + 1e-300)
        return c * m, w * (c * m - t)

    def residual(p: Array) -> Array:
        r = fitted(p)[1].reshape(-1)
        return np.concatenate([r.real, r.imag])

    start = _start(o, t, w)
    fit = least_squares(residual, start, method="lm", diff_step=np.full(4, 1e-4), max_nfev=60)
    best = fitted(fit.x)
    return best[0], float(np.linalg.norm(best[1]) / np.linalg.norm(w * t))


def _start(o: Array, t: Array, w: Array) -> Array:
    """Return shift (y, x) in px and ramp in turns over the array, roughly."""
    where = w > 0.5 * w.max()
    gt, go = mean_gradient(t, where), mean_gradient(o, where)
    turns = [(a - b) * n / (2 * np.pi) for a, b, n in zip(gt, go, t.shape, strict=True)]
    flat = o * ramp(t.shape, gt[0] - go[0], gt[1] - go[1])
    a, b = (np.where(where, v - v[where].mean(), 0) for v in (flat, t))
    correlation = np.abs(np.fft.ifft2(np.conj(np.fft.fft2(a)) * np.fft.fft2(b)))
    peak = np.unravel_index(int(np.argmax(correlation)), correlation.shape)
    shift = [int(p) - n if p > n // 2 else int(p) for p, n in zip(peak, t.shape, strict=True)]
    return np.asarray([*map(float, shift), *turns])


@dataclass(frozen=True, eq=False)
class Correlation:
    """Fourier ring correlation of two halves of a data set.

    Attributes
    ----------
    frequency
        Of each ring, cycles per pixel, float64.
    frc
        Real part of the normalised correlation.
    half_bit, one_seventh
        The two thresholds.
    resolution
        Half the period at which the correlation falls below the half-bit threshold first, in pixels.
    """

    frequency: npt.NDArray[np.float64]
    frc: npt.NDArray[np.float64]
    half_bit: npt.NDArray[np.float64]
    one_seventh: float
    resolution: float


def ring_correlation(a: Array, b: Array, weight: Array) -> Correlation:
    """Return the Fourier ring correlation of two reconstructions of the same object.

    ``FRC = Re sum A B* / sqrt(sum |A|^2 sum |B|^2)`` over rings of the transforms, against
    ``T = (.2071 + 1.9102 / sqrt m) / (1.2071 + .9102 / sqrt m)`` with m pixels in a ring, the half-bit curve
    of M. van Heel, M. Schatz, J. Struct. Biol. 151 (2005) 250.

    Parameters
    ----------
    a, b
        Complex, of one shape; `a` is registered to `b` first, factor and ramp included.
    weight
        Where they are compared; its edge is made soft.
    """
    from scipy.ndimage import distance_transform_edt  # noqa: PLC0415  # only here

    where = np.asarray(weight) > 0.5 * np.max(weight)
    rows, columns = (np.flatnonzero(where.any(axis=1 - i)) for i in (0, 1))
    if len(rows) < 8 or len(columns) < 8:
        raise DataError("ring correlation: fewer than 8 x 8 pixels are illuminated in both halves")
    moved, _ = aligned(a, b, where)
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    depth = np.asarray(distance_transform_edt(np.pad(where[box], 1)))[1:-1, 1:-1]
    rim = 0.15 * min(depth.shape)
    soft = np.sin(0.5 * np.pi * np.clip(depth / rim, 0, 1)) ** 2
    spectra = []
    for wave in (moved[box], np.asarray(b)[box]):
        mean = (wave * soft).sum() / soft.sum()
        spectra.append(np.fft.fft2((wave - mean) * soft))
    fa, fb = spectra
    n = min(depth.shape)
    radius = np.hypot(np.fft.fftfreq(depth.shape[0])[:, None], np.fft.fftfreq(depth.shape[1])[None, :]) * n
    ring = np.rint(radius).astype(np.int64).reshape(-1)
    rings = n // 2 + 1

    def total(values: Array) -> npt.NDArray[np.float64]:
        return np.asarray(np.bincount(ring, values.reshape(-1), rings)[:rings], np.float64)

    pixels = np.bincount(ring, minlength=rings)[:rings].astype(np.float64)
    cross = total((fa * fb.conj()).real)
    frc = cross / np.sqrt(np.maximum(total(np.abs(fa) ** 2) * total(np.abs(fb) ** 2), 1e-300))
    root = np.sqrt(np.maximum(pixels, 1))
    half_bit = (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)
    frequency = np.arange(rings) / n
    below = np.flatnonzero((frc < half_bit) & (np.arange(rings) > 0))
    crossing = float(frequency[below[0]]) if len(below) else float(frequency[-1])
    return Correlation(frequency, frc, half_bit, 1 / 7, 0.5 / crossing)


def thinned(frames: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Split counts into two independent halves: each count goes to one of them by a coin (binomial thinning).

    Exact for Poisson counts: the halves are Poisson with half the mean, and independent.

    Raises
    ------
    DataError
        If `frames` are not counts.
    """
    if frames.dtype.kind not in "iu" or (frames.dtype.kind == "i" and frames.min() < 0):
        raise DataError(
            f"thinning takes counts, integers from 0 up, not {frames.dtype}; split='scan' halves the scan"
        )
    first = rng.binomial(frames, 0.5).astype(frames.dtype)
    return first, frames - first


def half_of(frames: Array, half: int, seed: int) -> Array:
    """Return one of two independent halves of counts ``(n, ...)``, the same however frames are dealt.

    The coins of a frame follow from its own counts and the seed.

    Raises
    ------
    DataError
        If `frames` are not counts.
    """
    out = np.empty_like(frames)
    for i, frame in enumerate(frames):
        key = zlib.crc32(np.ascontiguousarray(frame).tobytes())
        out[i] = thinned(frame, np.random.default_rng([seed, key]))[half]
    return out
