"""Kernel that fits one disk by maximum likelihood, and chooses between the models without and with a tilt."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from framefold.udfs.blobfinder.kernels_subpixel import (
    FLOOR,
    disk_profile,
    last_variances,
    linear_start,
    solve_packed,
    sums_plain,
    sums_tilted,
    table_profile,
)

Array = npt.NDArray[Any]

# how the position is refined
PARABOLA, ML4, ML6, AUTO, COM, UPSAMPLE = range(6)
# bits of `flags`
BORDER, CLIPPED, NOT_CONVERGED, LOW_SNR, SATURATED, TILTED = 1, 2, 4, 8, 16, 32
_RIDGE = 1e-4
_STEPS = 6
#: a step that gains less chi2 than this is a small part of the error, and the last
_GAIN = 0.02


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _profile(
    py: Array,
    px: Array,
    cy: float,
    cx: float,
    radius: float,
    table: Array,
    origin: float,
    step: float,
    work: Array,
) -> None:  # pragma: no cover - compiled
    if table.shape[1]:
        table_profile(py, px, cy, cx, table, origin, step, work[2], work[3], work[4])
    else:
        disk_profile(py, px, cy, cx, radius, origin, work[2], work[3], work[4])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _bounded(p: Array, x: Array, n: int, floor: float) -> float:  # pragma: no cover - compiled
    """Add the step `x` to the parameters; at most 1 px, A and b stay positive. Return the length in px."""
    length = math.hypot(x[n - 2], x[n - 1])
    if not length < 1e6:
        return np.inf
    scale = 1.0 if length <= 1.0 else 1.0 / length
    p[0] = max(p[0] + x[0], 0.2 * floor)
    p[1] = max(p[1] + x[1], 0.2 * floor)
    if n == 6:
        p[2] += x[2]
        p[3] += x[3]
    p[4] += scale * x[n - 2]
    p[5] += scale * x[n - 1]
    return length


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _gain(S: Array, n: int, x: Array) -> float:  # pragma: no cover - compiled
    """Return how much chi2 the step `x` gains in the quadratic approximation: ``x . gradient``."""
    s = 0.0
    for i in range(n):
        s += x[i] * S[n * (n + 1) // 2 + i]
    return s


@numba.njit(nogil=True, cache=True, error_model="numpy")
def fit_disk(
    crop: Array, good: Array, whole: bool, iy: int, ix: int, sub_y: float, sub_x: float,
    offsets: Array, py: Array, px: Array,
    radius: float, table: Array, origin: float, step: float, mode: int, gain: float, least: float,
    work: Array, S: Array, S6: Array, L: Array, x: Array, p: Array, out: Array,
) -> int:  # fmt: skip  # pragma: no cover - compiled
    """Fit one disk by maximum likelihood, and return its flags.

    Parameters
    ----------
    crop, good
        ``(L, L)`` float32: counts, and 1 where they count.
    whole
        All of them count.
    iy, ix
        Pixel about which the fit is done: highest correlation.
    sub_y, sub_x
        First guess relative to it, px.
    offsets
        ``(n, 2)`` int32: the pixels of the fit relative to (iy, ix). `py`, `px`, float32, are the same,
        padded to whole SIMD registers.
    radius, table, origin, step
        Profile from `table_profile`; where `table` is empty that of a bare disk, of which `origin` is the
        softness.
    mode
        `ML4`, `ML6` or `AUTO`.
    gain
        Counts per electron.
    least
        What a tilt must gain in chi2 with `AUTO`: 8 for one disk, 0 where the others of a frame show tilts.
    work, S, S6, L, x, p
        Scratch: ``(5, len(py))`` float32, ``(28,)`` twice, ``(6, 6)``, ``(6,)`` float64; `p` ``(6,)`` float64
        receives b, A, By, Bx, cy, cx, relative to (iy, ix).
    out
        ``(5,)`` float64: sigma_y, sigma_x (px), chi2 per degree of freedom, A / sigma_A; with `AUTO` what a
        tilt promised to gain in chi2, 0 where it would explain little of the misfit.
    """
    d, e = work[0], work[1]
    n = offsets.shape[0]
    count = float(n)
    flat, at = crop.reshape(-1), iy * crop.shape[1] + ix
    for k in range(n):
        d[k] = flat[at + offsets[k, 0] * crop.shape[1] + offsets[k, 1]]
    for k in range(d.shape[0]):
        e[k] = np.float32(k < n)
    if not whole:
        count = 0.0
        for k in range(n):
            e[k] = good[iy + offsets[k, 0], ix + offsets[k, 1]]
            count += e[k]
    for k in range(n, d.shape[0]):
        d[k] = np.float32(0.0)
    floor = FLOOR * gain
    p[2] = p[3] = 0.0
    p[4], p[5] = sub_y, sub_x
    for i in range(5):
        out[i] = np.nan
    if count < 0.5 * n:
        return CLIPPED
    _profile(py, px, p[4], p[5], radius, table, origin, step, work)
    amplitude, background = linear_start(d, e, work[2])
    p[0], p[1] = max(background, floor), max(amplitude, floor)
    fine = True
    length = np.inf
    tilted = mode == ML6
    if not tilted:
        gained, chi, known = 0.0, 0.0, False
        for i in range(_STEPS):
            if i:
                _profile(py, px, p[4], p[5], radius, table, origin, step, work)
            # the first step is seldom the last: only then is the tilt asked for
            known = mode == AUTO and i > 0
            if known:
                sums_tilted(
                    d, e, py, px, work[2], work[3], work[4], p[4], p[5], 1.0 / radius,
                    p[1], 0.0, 0.0, p[0], floor, S6,
                )  # fmt: skip
                _drop_tilt(S6, S)
            else:
                sums_plain(d, e, work[2], work[3], work[4], p[1], p[0], floor, S)
            fine = solve_packed(S, 4, _RIDGE, L, x)
            if not fine:
                break
            # the sums are not made again where the last step ends: it gains what a parabola does
            gained = _gain(S, 4, x)
            chi = S[14] - gained
            length = _bounded(p, x, 4, floor)
            fine = length < 1e6
            if not fine or gained < _GAIN * gain:
                break
        if not fine:
            return NOT_CONVERGED | LOW_SNR
        if mode == AUTO and not known:
            _profile(py, px, p[4], p[5], radius, table, origin, step, work)
            sums_tilted(
                d, e, py, px, work[2], work[3], work[4], p[4], p[5], 1.0 / radius,
                p[1], 0.0, 0.0, p[0], floor, S6,
            )  # fmt: skip
            gained = 0.0
        vy, vx = last_variances(L, 4)
        out[0], out[1] = math.sqrt(vy * gain), math.sqrt(vx * gain)
        out[2] = chi / gain / max(count - 4.0, 1.0)
        out[3] = p[1] * math.sqrt(_schur_amplitude(S) / gain)
        # what a step in the tilt would gain, whatever the others do at best
        if mode == AUTO and solve_packed(S6, 6, _RIDGE, L, x):
            promise = (_gain(S6, 6, x) - gained) / gain
            tilted = promise > least
            if promise >= 0.0:
                out[4] = 0.0 if promise < _explained(chi / gain, count) else promise / max(1.0, out[2])
    if tilted:
        # x[0:4] are spare beyond the six of a step: remember the smaller model
        b0, a0, y0, x0, length0 = p[0], p[1], p[4], p[5], length
        for i in range(_STEPS):
            if i or mode == AUTO:
                _profile(py, px, p[4], p[5], radius, table, origin, step, work)
            sums_tilted(
                d, e, py, px, work[2], work[3], work[4], p[4], p[5], 1.0 / radius,
                p[1], p[2], p[3], p[0], floor, S,
            )  # fmt: skip
            fine = solve_packed(S, 6, _RIDGE, L, x)
            if not fine:
                break
            gained = _gain(S, 6, x)
            length = _bounded(p, x, 6, floor)
            fine = length < 1e6
            if not fine or gained < _GAIN * gain:
                break
        if fine:
            _profile(py, px, p[4], p[5], radius, table, origin, step, work)
            sums_tilted(
                d, e, py, px, work[2], work[3], work[4], p[4], p[5], 1.0 / radius,
                p[1], p[2], p[3], p[0], floor, S,
            )  # fmt: skip
            fine = solve_packed(S, 6, 0.0, L, x)
        reduced = S[27] / gain / max(count - 6.0, 1.0)
        if mode == AUTO:
            won = out[2] * max(count - 4.0, 1.0) - reduced * max(count - 6.0, 1.0)
            # Noise gains 2 +- 2 on average, and what neither model explains counts as noise. Fringes and
            # rocking curves pretend a tilt that explains little of the misfit; a real one explains most.
            needed = max(least * max(1.0, reduced), _explained(out[2] * max(count - 4.0, 1.0), count))
            if not fine or not won > needed:
                p[0], p[1], p[2], p[3], p[4], p[5] = b0, a0, 0.0, 0.0, y0, x0
                tilted = False
                length = length0
        elif not fine:
            return NOT_CONVERGED | LOW_SNR
        if tilted:
            vy, vx = last_variances(L, 6)
            out[0], out[1] = math.sqrt(vy * gain), math.sqrt(vx * gain)
            out[2] = reduced
            out[3] = p[1] * math.sqrt(_schur_amplitude(S) / gain)
    flags = TILTED if tilted else 0
    if length > 0.1 or math.hypot(p[4] - sub_y, p[5] - sub_x) > 2.0:
        flags |= NOT_CONVERGED
    return flags


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _explained(chi2: float, count: float) -> float:  # pragma: no cover - compiled
    """Return how much of a misfit beyond the noise of `count` pixels a tilt must explain: half."""
    return 0.5 * (chi2 - count - 2.0 * math.sqrt(2.0 * count))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _drop_tilt(S6: Array, S: Array) -> None:  # pragma: no cover - compiled
    """Write those of the packed sums of 6 parameters that belong to the 4 without a tilt."""
    S[0], S[1], S[2] = S6[0], S6[1], S6[2]
    S[3], S[4], S[5] = S6[10], S6[11], S6[14]
    S[6], S[7], S[8], S[9] = S6[15], S6[16], S6[19], S6[20]
    S[10], S[11], S[12], S[13], S[14] = S6[21], S6[22], S6[25], S6[26], S6[27]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _schur_amplitude(S: Array) -> float:  # pragma: no cover - compiled
    """Return the information on A when b is unknown; the centre hardly correlates with it."""
    return max(S[2] - S[1] * S[1] / S[0], 0.0) if S[0] > 0 else 0.0
