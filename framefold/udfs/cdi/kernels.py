"""Fused passes of the projection algorithms, over arrays seen as 1-D."""

from __future__ import annotations

import numba
import numpy as np

_FAST = {"reassoc", "contract", "nsz", "arcp"}
# how the new object follows from old object and modulus projection
COMBINE, FEEDBACK, FLIP = 0, 1, 2


@numba.njit(nogil=True, cache=True, fastmath=_FAST)
def impose_amplitude(wave, amplitude, code, scale):  # type: ignore[no-untyped-def]
    """Give measured pixels of an unnormalised transform their amplitude, keep phases; scale for the way back.

    Parameters
    ----------
    wave
        Interleaved re, im of the transform, changed in place.
    scale
        1 / sqrt(number of pixels).
    """
    for i in range(amplitude.shape[0]):
        re, im = wave[2 * i], wave[2 * i + 1]
        factor = scale * scale
        if code[i] == 1:
            modulus = np.sqrt(re * re + im * im)
            if modulus > 0:
                factor = amplitude[i] * scale / modulus
            else:  # no phase to keep: 0
                re, factor = amplitude[i] * 0 + 1, amplitude[i] * scale
        wave[2 * i] = re * factor
        wave[2 * i + 1] = im * factor


@numba.njit(nogil=True, cache=True, fastmath=_FAST)
def next_object(rho, m, support, rule, p, a, b, c, d, positive, out):  # type: ignore[no-untyped-def]
    """Write the next object; all arrays interleaved re, im except `support`.

    Parameters
    ----------
    rho, m
        Old object, and its projection onto the measured modulus.
    rule
        `COMBINE`: ``p P(a m + b rho) + c m + d rho``, P the projection on support (and positivity).
        `FEEDBACK`: m where m is allowed, else ``c m + d rho``. `FLIP`: m where the support and Re m >= `p`
        allow it, else -m.
    """
    for i in range(support.shape[0]):
        inside = support[i]
        mr, mi, r, s = m[2 * i], m[2 * i + 1], rho[2 * i], rho[2 * i + 1]
        if rule == 0:
            x, y = a * mr + b * r, a * mi + b * s
            if not inside:
                x = y = x * 0
            elif positive and x < 0:
                x = x * 0
            out[2 * i] = p * x + c * mr + d * r
            out[2 * i + 1] = p * y + c * mi + d * s
        elif rule == 1:
            if inside and not (positive and mr < 0):
                out[2 * i], out[2 * i + 1] = mr, mi
            else:
                out[2 * i], out[2 * i + 1] = c * mr + d * r, c * mi + d * s
        elif inside and mr >= p:
            out[2 * i], out[2 * i + 1] = mr, mi
        else:
            out[2 * i], out[2 * i + 1] = -mr, -mi


@numba.njit(nogil=True, cache=True)
def likelihood(wave, intensity, code, scale, sums):  # type: ignore[no-untyped-def]
    """Add Poisson deviance / 2, number of pixels and squared amplitude error of each kind of pixel to `sums`.

    ``I_m - I + I log(I / I_m)`` with ``I_m = |scale wave|^2``, at least 1e-6 counts; `sums`: float64
    ``(3, 3)``, a row per code.
    """
    for i in range(intensity.shape[0]):
        re, im = np.float64(wave[2 * i]), np.float64(wave[2 * i + 1])
        model = (re * re + im * im) * scale * scale
        seen = np.float64(intensity[i])
        floor = max(model, 1e-6)
        value = floor - seen
        if seen > 0:
            value += seen * np.log(seen / floor)
        k = code[i]
        sums[k, 0] += value
        sums[k, 1] += 1
        sums[k, 2] += (np.sqrt(model) - np.sqrt(seen)) ** 2
