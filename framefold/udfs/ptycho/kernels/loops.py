"""Loops over the pixels of one frame, on complex arrays seen as interleaved float rows.

A complex array ``(..., y, x)`` enters as ``a.view(real)`` of shape ``(..., y, 2 x)``: compilers vectorise
loops over real numbers, but not over complex scalars (3 times slower). Shapes, with M probe modes and L
object modes: `probe` ``(M, ny, 2 nx)``, `obj` ``(L, Y, 2 X)``, `wave` ``(L M, ny, 2 nx)`` with the probe mode
running fastest. The frame lies at row `y0` and column `x0` of the object.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_fast = {"reassoc", "contract", "arcp", "nsz"}
SOFT = 0.25  # counts
jit = numba.njit(nogil=True, cache=True, fastmath=_fast, error_model="numpy")


@jit
def _product(a: Array, b: Array, out: Array) -> None:
    for i in range(a.size // 2):
        ar, ai, br, bi = a[2 * i], a[2 * i + 1], b[2 * i], b[2 * i + 1]
        out[2 * i] = ar * br - ai * bi
        out[2 * i + 1] = ar * bi + ai * br


@jit
def exit_waves(probe: Array, obj: Array, y0: int, x0: int, wave: Array) -> None:
    """Write psi = P O."""
    modes, ny, width = probe.shape
    for m in range(obj.shape[0]):
        for k in range(modes):
            for y in range(ny):
                o = obj[m, y0 + y]
                _product(probe[k, y], o[2 * x0 : 2 * x0 + width], wave[m * modes + k, y])


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
def reflect(probe: Array, obj: Array, y0: int, x0: int, psi: Array, out: Array) -> None:
    """Write 2 P O - psi."""
    modes, ny, width = probe.shape
    two = out.dtype.type(2.0)
    for m in range(obj.shape[0]):
        for k in range(modes):
            for y in range(ny):
                p = probe[k, y]
                o = obj[m, y0 + y][2 * x0 : 2 * x0 + width]
                w = psi[m * modes + k, y]
                line = out[m * modes + k, y]
                for i in range(width // 2):
                    pr, pi, fr, fi = p[2 * i], p[2 * i + 1], o[2 * i], o[2 * i + 1]
                    line[2 * i] = two * (pr * fr - pi * fi) - w[2 * i]
                    line[2 * i + 1] = two * (pr * fi + pi * fr) - w[2 * i + 1]


@jit
def relax(
    probe: Array, obj: Array, y0: int, x0: int, projected: Array, psi: Array, beta: float, gamma: float,
    num_object: Array, oy: int, ox: int,
) -> None:  # fmt: skip
    """Set ``psi <- beta (psi + projected) + gamma P O`` and add ``conj(P) (psi - P O)`` to `num_object`.

    `num_object` is a window of the object whose origin lies at row `oy` and column `ox`.
    """
    modes, ny, width = probe.shape
    b = psi.dtype.type(beta)
    g = psi.dtype.type(gamma)
    for m in range(obj.shape[0]):
        for y in range(ny):
            o = obj[m, y0 + y][2 * x0 : 2 * x0 + width]
            n = num_object[m, y0 - oy + y][2 * (x0 - ox) : 2 * (x0 - ox) + width]
            for k in range(modes):
                p = probe[k, y]
                w = psi[m * modes + k, y]
                v = projected[m * modes + k, y]
                for i in range(width // 2):
                    pr, pi, fr, fi = p[2 * i], p[2 * i + 1], o[2 * i], o[2 * i + 1]
                    er, ei = pr * fr - pi * fi, pr * fi + pi * fr
                    wr = b * (w[2 * i] + v[2 * i]) + g * er
                    wi = b * (w[2 * i + 1] + v[2 * i + 1]) + g * ei
                    w[2 * i], w[2 * i + 1] = wr, wi
                    cr, ci = wr - er, wi - ei
                    n[2 * i] += pr * cr + pi * ci
                    n[2 * i + 1] += pr * ci - pi * cr


@jit
def wave_numerators(
    probe: Array, obj: Array, y0: int, x0: int, psi: Array, num_object: Array, oy: int, ox: int,
    num_probe: Array, with_object: bool, with_probe: bool,
) -> None:  # fmt: skip
    """Add ``conj(P) chi`` and ``conj(O) chi``, with ``chi = psi - P O`` of a stored exit wave."""
    modes, ny, width = probe.shape
    for m in range(obj.shape[0]):
        for y in range(ny):
            o = obj[m, y0 + y][2 * x0 : 2 * x0 + width]
            for k in range(modes):
                p = probe[k, y]
                w = psi[m * modes + k, y]
                if with_object:
                    n = num_object[m, y0 - oy + y][2 * (x0 - ox) : 2 * (x0 - ox) + width]
                    for i in range(width // 2):
                        pr, pi, fr, fi = p[2 * i], p[2 * i + 1], o[2 * i], o[2 * i + 1]
                        cr, ci = w[2 * i] - (pr * fr - pi * fi), w[2 * i + 1] - (pr * fi + pi * fr)
                        n[2 * i] += pr * cr + pi * ci
                        n[2 * i + 1] += pr * ci - pi * cr
                if with_probe:
                    q = num_probe[k, y]
                    for i in range(width // 2):
                        pr, pi, fr, fi = p[2 * i], p[2 * i + 1], o[2 * i], o[2 * i + 1]
                        cr, ci = w[2 * i] - (pr * fr - pi * fi), w[2 * i + 1] - (pr * fi + pi * fr)
                        q[2 * i] += fr * cr + fi * ci
                        q[2 * i + 1] += fr * ci - fi * cr


@jit
def residual_numerators(
    probe: Array, obj: Array, y0: int, x0: int, wave: Array, num_object: Array, oy: int, ox: int,
    num_probe: Array, with_probe: bool,
) -> None:  # fmt: skip
    """Add ``conj(P) chi`` to `num_object` and ``conj(O) chi`` to `num_probe`, with ``chi = wave - P O``.

    `num_object` is a window of the object whose origin lies at row `oy` and column `ox`.
    """
    modes, ny, width = probe.shape
    for m in range(obj.shape[0]):
        for y in range(ny):
            o = obj[m, y0 + y][2 * x0 : 2 * x0 + width]
            n = num_object[m, y0 - oy + y][2 * (x0 - ox) : 2 * (x0 - ox) + width]
            for k in range(modes):
                line = wave[m * modes + k, y]
                p = probe[k, y]
                q = num_probe[k, y]
                if with_probe:
                    for i in range(width // 2):
                        pr, pi, fr, fi = p[2 * i], p[2 * i + 1], o[2 * i], o[2 * i + 1]
                        cr = line[2 * i] - (pr * fr - pi * fi)
                        ci = line[2 * i + 1] - (pr * fi + pi * fr)
                        n[2 * i] += pr * cr + pi * ci
                        n[2 * i + 1] += pr * ci - pi * cr
                        q[2 * i] += fr * cr + fi * ci
                        q[2 * i + 1] += fr * ci - fi * cr
                else:
                    for i in range(width // 2):
                        pr, pi, fr, fi = p[2 * i], p[2 * i + 1], o[2 * i], o[2 * i + 1]
                        cr = line[2 * i] - (pr * fr - pi * fi)
                        ci = line[2 * i + 1] - (pr * fi + pi * fr)
                        n[2 * i] += pr * cr + pi * ci
                        n[2 * i + 1] += pr * ci - pi * cr


@jit
def _both_rows(p: Array, o: Array, line: Array, step_obj: float, step_probe: float) -> None:
    for i in range(p.size // 2):
        pr, pi, fr, fi = p[2 * i], p[2 * i + 1], o[2 * i], o[2 * i + 1]
        cr = line[2 * i] - (pr * fr - pi * fi)
        ci = line[2 * i + 1] - (pr * fi + pi * fr)
        o[2 * i] = fr + step_obj * (pr * cr + pi * ci)
        o[2 * i + 1] = fi + step_obj * (pr * ci - pi * cr)
        p[2 * i] = pr + step_probe * (fr * cr + fi * ci)
        p[2 * i + 1] = pi + step_probe * (fr * ci - fi * cr)


@jit
def both_steps(
    probe: Array, obj: Array, y0: int, x0: int, wave: Array, mix: float, top_probe: float, top_object: float,
    alpha: float, with_probe: bool, d_obj: Array, d_probe: Array, row: Array,
) -> None:  # fmt: skip
    """Update both factors of one frame in place from ``chi = wave - P O`` of the old pair.

    ``O += alpha conj(P) chi / ((1 - mix) sum |P|^2 + mix top_probe)``, the same for P with |O|^2 and
    `top_object`. Scratch: `d_obj` ``(L, 2 nx)``, `d_probe` ``(M, 2 nx)``, `row` ``(nx,)``.
    """
    modes, ny, width = probe.shape
    real = row.dtype.type
    zero, step, tp, to = real(0.0), real(alpha), real(top_probe), real(top_object)
    rest, share = real(1.0) - real(mix), real(mix)
    if modes == 1 and obj.shape[0] == 1 and rest == zero and with_probe:
        for y in range(ny):
            _both_rows(probe[0, y], obj[0, y0 + y][2 * x0 : 2 * x0 + width], wave[0, y], step / tp, step / to)
        return
    for y in range(ny):
        d_obj[...] = zero
        d_probe[...] = zero
        for m in range(obj.shape[0]):
            o = obj[m, y0 + y][2 * x0 : 2 * x0 + width]
            n = d_obj[m]
            for k in range(modes):
                line, p, q = wave[m * modes + k, y], probe[k, y], d_probe[k]
                for i in range(width // 2):
                    pr, pi, fr, fi = p[2 * i], p[2 * i + 1], o[2 * i], o[2 * i + 1]
                    cr = line[2 * i] - (pr * fr - pi * fi)
                    ci = line[2 * i + 1] - (pr * fi + pi * fr)
                    n[2 * i] += pr * cr + pi * ci
                    n[2 * i + 1] += pr * ci - pi * cr
                    q[2 * i] += fr * cr + fi * ci
                    q[2 * i + 1] += fr * ci - fi * cr
        # denominators of the old pair, before either moves
        for i in range(width // 2):
            row[i] = step / tp
        if rest > zero:
            for i in range(width // 2):
                power = zero
                for k in range(modes):
                    power += probe[k, y, 2 * i] ** 2 + probe[k, y, 2 * i + 1] ** 2
                row[i] = step / (rest * power + share * tp)
        if with_probe:
            for i in range(width // 2):
                factor = step / to
                if rest > zero:
                    power = zero
                    for m in range(obj.shape[0]):
                        power += obj[m, y0 + y, 2 * (x0 + i)] ** 2 + obj[m, y0 + y, 2 * (x0 + i) + 1] ** 2
                    factor = step / (rest * power + share * to)
                for k in range(modes):
                    probe[k, y, 2 * i] += factor * d_probe[k, 2 * i]
                    probe[k, y, 2 * i + 1] += factor * d_probe[k, 2 * i + 1]
        for m in range(obj.shape[0]):
            o, n = obj[m, y0 + y][2 * x0 : 2 * x0 + width], d_obj[m]
            for i in range(width // 2):
                o[2 * i] += row[i] * n[2 * i]
                o[2 * i + 1] += row[i] * n[2 * i + 1]


@jit
def add_numerators(
    probe: Array, obj: Array, y0: int, x0: int, wave: Array, num_object: Array, oy: int, ox: int,
    num_probe: Array,
) -> None:  # fmt: skip
    """Add ``conj(P) wave`` to `num_object`, a window at (oy, ox), and ``conj(O) wave`` to `num_probe`."""
    modes, ny, width = probe.shape
    for m in range(obj.shape[0]):
        for y in range(ny):
            o = obj[m, y0 + y][2 * x0 : 2 * x0 + width]
            n = num_object[m, y0 - oy + y][2 * (x0 - ox) : 2 * (x0 - ox) + width]
            for k in range(modes):
                p, w, q = probe[k, y], wave[m * modes + k, y], num_probe[k, y]
                for i in range(width // 2):
                    pr, pi, fr, fi = p[2 * i], p[2 * i + 1], o[2 * i], o[2 * i + 1]
                    cr, ci = w[2 * i], w[2 * i + 1]
                    n[2 * i] += pr * cr + pi * ci
                    n[2 * i + 1] += pr * ci - pi * cr
                    q[2 * i] += fr * cr + fi * ci
                    q[2 * i + 1] += fr * ci - fi * cr


@jit
def step_waves(
    probe: Array, obj: Array, step_probe: Array, step_obj: Array, y0: int, x0: int, wave: Array
) -> None:
    """Write ``P dO + dP O``."""
    modes, ny, width = probe.shape
    for m in range(obj.shape[0]):
        for y in range(ny):
            o = obj[m, y0 + y][2 * x0 : 2 * x0 + width]
            d = step_obj[m, y0 + y][2 * x0 : 2 * x0 + width]
            for k in range(modes):
                p, s, w = probe[k, y], step_probe[k, y], wave[m * modes + k, y]
                for i in range(width // 2):
                    pr, pi, dr, di = p[2 * i], p[2 * i + 1], d[2 * i], d[2 * i + 1]
                    sr, si, fr, fi = s[2 * i], s[2 * i + 1], o[2 * i], o[2 * i + 1]
                    w[2 * i] = pr * dr - pi * di + sr * fr - si * fi
                    w[2 * i + 1] = pr * di + pi * dr + sr * fi + si * fr


@jit
def multiply_rows(factor: Array, wave: Array) -> None:
    """``wave *= factor``, the same complex factor ``(ny, 2 nx)`` for all modes."""
    for m in range(wave.shape[0]):
        for y in range(wave.shape[1]):
            _product(wave[m, y], factor[y], wave[m, y])


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
def scale_pixels(wave: Array, factor: Array, scale: float) -> None:
    """``wave *= scale * factor``, a real factor ``(ny, nx)`` for all modes."""
    k = factor.dtype.type(scale)
    for m in range(wave.shape[0]):
        for y in range(wave.shape[1]):
            line, f = wave[m, y], factor[y]
            for x in range(f.size):
                line[2 * x] *= k * f[x]
                line[2 * x + 1] *= k * f[x]


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


@jit
def momentum_step(
    wave: Array, velocity: Array, numerator: Array, denominator: Array, scale: float, offset: float, mu:
    float, step: float,
) -> None:  # fmt: skip
    """Set ``v <- mu v + step numerator / (scale D + offset)`` and ``wave <- wave + v`` in one go.

    `wave`, `velocity` and `numerator` are ``(modes, y, 2 x)`` rows, `denominator` is ``(y, x)``.
    """
    real = wave.dtype.type
    a, b, m, t = real(scale), real(offset), real(mu), real(step)
    for k in range(wave.shape[0]):
        for y in range(wave.shape[1]):
            w, v, n, d = wave[k, y], velocity[k, y], numerator[k, y], denominator[y]
            for x in range(d.size):
                factor = t / (a * d[x] + b)
                re = m * v[2 * x] + factor * n[2 * x]
                im = m * v[2 * x + 1] + factor * n[2 * x + 1]
                v[2 * x], v[2 * x + 1] = re, im
                w[2 * x] += re
                w[2 * x + 1] += im
