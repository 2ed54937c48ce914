"""How good a reconstruction is: error against a known object, with the ambiguities of the problem removed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

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
