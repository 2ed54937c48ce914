"""Passes of maximum likelihood for counting noise; transforms are interleaved re, im of unitary ones."""

from __future__ import annotations

import numba
import numpy as np

_FAST = {"reassoc", "contract", "nsz", "arcp"}
EPS = 1e-6  # counts: below, the likelihood of a pixel is that of this expectation


@numba.njit(nogil=True, cache=True, fastmath=_FAST)
def gradient(wave, intensity, code, scale, out):  # type: ignore[no-untyped-def]
    """Write ``scale (1 - I / (|F|^2 + eps)) F`` on used pixels, 0 elsewhere."""
    eps, one = intensity.dtype.type(EPS), intensity.dtype.type(1)
    for i in range(intensity.shape[0]):
        re, im = wave[2 * i], wave[2 * i + 1]
        factor = scale * (one - intensity[i] / (re * re + im * im + eps)) if code[i] == 1 else scale * 0
        out[2 * i] = re * factor
        out[2 * i + 1] = im * factor


@numba.njit(nogil=True, cache=True, fastmath=_FAST)
def line_slopes(wave, along, intensity, code, a):  # type: ignore[no-untyped-def]
    """Return slope, curvature, and the part of the curvature that is never negative, at step `a` of a line.

    ``I(a) = |F|^2 + 2 a Re(conj(F) D) + a^2 |D|^2``.
    """
    first = second = positive = 0.0
    for i in range(intensity.shape[0]):
        if code[i] == 1:
            f, g = np.float64(wave[2 * i]), np.float64(wave[2 * i + 1])
            d, e = np.float64(along[2 * i]), np.float64(along[2 * i + 1])
            c1, c2 = 2 * (f * d + g * e), d * d + e * e
            model = max(f * f + g * g + a * (c1 + a * c2), 0.0) + EPS
            slope, ratio = c1 + 2 * a * c2, np.float64(intensity[i]) / model
            first += (1 - ratio) * slope
            second += 2 * (1 - ratio) * c2
            positive += ratio / model * slope * slope
    return first, second + positive, positive


@numba.njit(nogil=True, cache=True)
def line_change(wave, along, intensity, code, a):  # type: ignore[no-untyped-def]
    """Return by how much the likelihood changes from the beginning of a line to step `a`."""
    change = 0.0
    for i in range(intensity.shape[0]):
        if code[i] == 1:
            f, g = np.float64(wave[2 * i]), np.float64(wave[2 * i + 1])
            d, e = np.float64(along[2 * i]), np.float64(along[2 * i + 1])
            before = f * f + g * g + EPS
            after = max(before - EPS + a * (2 * (f * d + g * e) + a * (d * d + e * e)), 0.0) + EPS
            change += after - before
            if intensity[i] > 0:
                change -= np.float64(intensity[i]) * np.log(after / before)
    return change
