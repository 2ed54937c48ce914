"""What measured counts say about the wave on the detector: its modulus, and the slopes of the likelihood.

`wave` is ``(waves, ny, 2 nx)``, interleaved, see `rows`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfs.ptycho.kernels.rows import jit

Array = npt.NDArray[Any]
SOFT = 0.25  # counts


@jit
def modulus(
    wave: Array,
    counts: Array,
    good: Array,
    background: Array,
    limit: float,
    inv_n: float,
    scale: float,
    row: Array,
    sums: Array,
) -> None:
    """Impose the measured modulus: ``wave *= scale * (sqrt(I) / (sqrt(I_m) + 1e-6) if good else 1)``.

    Counts from `limit` on, and NaN, are not measured.

    ``I_m = inv_n sum |wave|^2 + background`` is the modelled intensity. Adds to `sums`: the misfit
    ``sum good (sqrt(I_m) - sqrt(I))^2``, the measured ``sum good I``, and the modelled ``sum good I_m``.

    `good` holds 1 for measured pixels and 0 for the others; `row` is scratch of nx.
    """
    waves, ny, width = wave.shape
    nx = width // 2
    one = row.dtype.type(1.0)
    tiny = row.dtype.type(1e-6)
    k_in = row.dtype.type(inv_n)
    k_out = row.dtype.type(scale)
    zero = row.dtype.type(0.0)
    top = row.dtype.type(limit)
    for y in range(ny):
        first = wave[0, y]
        for x in range(nx):
            row[x] = first[2 * x] * first[2 * x] + first[2 * x + 1] * first[2 * x + 1]
        for m in range(1, waves):
            line = wave[m, y]
            for x in range(nx):
                row[x] += line[2 * x] * line[2 * x] + line[2 * x + 1] * line[2 * x + 1]
        misfit, measured, modelled = zero, zero, zero
        c, g, b = counts[y], good[y], background[y]
        for x in range(nx):
            model = k_in * row[x] + b[x]
            amplitude = np.sqrt(model)
            value = row.dtype.type(c[x])
            w = g[x] if value < top else zero
            value = max(zero, value) if value < top else zero
            target = np.sqrt(value)
            difference = amplitude - target
            misfit += w * difference * difference
            measured += w * value
            modelled += w * model
            row[x] = k_out * (w * (target / (amplitude + tiny) - one) + one)
        sums[0] += misfit
        sums[1] += measured
        sums[2] += modelled
        for m in range(waves):
            line = wave[m, y]
            for x in range(nx):
                line[2 * x] *= row[x]
                line[2 * x + 1] *= row[x]


@jit
def slope_weights(
    wave: Array, counts: Array, good: Array, background: Array, limit: float, inv_n: float, poisson: bool,
    slope: Array, curvature: Array, sums: Array,
) -> None:  # fmt: skip
    """Write ``dL/dI_m`` to `slope`, ``d2L/dI_m2`` to `curvature`, ``(ny, nx)``; add to `sums` as `modulus`.

    Poisson: ``L = J_m - J log J_m`` with ``J = I + 0.25``, which bounds the slope in the dark and moves no
    minimum of the expectation; else ``L = (sqrt I_m - sqrt I)^2``.
    """
    waves, ny, width = wave.shape
    real = slope.dtype.type
    k = real(inv_n)
    tiny = real(1e-6)
    zero, one, half, soft, top = real(0.0), real(1.0), real(0.5), real(SOFT), real(limit)
    for y in range(ny):
        c, g, b, s, v = counts[y], good[y], background[y], slope[y], curvature[y]
        misfit, measured, modelled = zero, zero, zero
        for x in range(width // 2):
            model = zero
            for m in range(waves):
                model += wave[m, y, 2 * x] ** 2 + wave[m, y, 2 * x + 1] ** 2
            model = k * model + b[x]
            value = real(c[x])
            w = g[x] if value < top else zero
            value = max(zero, value) if value < top else zero
            amplitude, target = np.sqrt(model), np.sqrt(value)
            misfit += w * (amplitude - target) ** 2
            measured += w * value
            modelled += w * model
            if poisson:
                ratio = (value + soft) / (model + soft)
                s[x] = w * (one - ratio)
                v[x] = w * ratio / (model + soft)
            else:
                ratio = target / (amplitude + tiny)
                s[x] = w * (one - ratio)
                v[x] = w * half * ratio / (model + tiny)
        sums[0] += misfit
        sums[1] += measured
        sums[2] += modelled


@jit
def line_sums(
    wave: Array, step: Array, slope: Array, curvature: Array, counts: Array, good: Array, background: Array,
    limit: float, inv_n: float, sums: Array,
) -> None:  # fmt: skip
    """Add L', L'' and the expected L'' of a Poisson likelihood along ``I(a) = |F + a D|^2``.

    With B = 2 Re F* D, C = |D|^2, u = dL/dI_m and v = d2L/dI_m2: ``L' = u B``, ``L'' = v B^2 + 2 u C``, and
    ``B^2 / J_m``, which is never negative.
    """
    waves, ny, width = wave.shape
    real = slope.dtype.type
    k, two, zero, soft, top = real(inv_n), real(2.0), real(0.0), real(SOFT), real(limit)
    for y in range(ny):
        first, second, expected = zero, zero, zero
        for x in range(width // 2):
            b, c, model = zero, zero, zero
            for m in range(waves):
                fr, fi = wave[m, y, 2 * x], wave[m, y, 2 * x + 1]
                dr, di = step[m, y, 2 * x], step[m, y, 2 * x + 1]
                b += fr * dr + fi * di
                c += dr * dr + di * di
                model += fr * fr + fi * fi
            b, c, model = two * k * b, k * c, k * model + background[y, x]
            first += slope[y, x] * b
            second += curvature[y, x] * b * b + two * slope[y, x] * c
            w = good[y, x] if real(counts[y, x]) < top else zero
            expected += w * b * b / (model + soft)
        sums[0] += first
        sums[1] += second
        sums[2] += expected
