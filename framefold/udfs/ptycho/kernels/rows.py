"""Loops over rows of complex arrays seen as interleaved real ones, and what compiles them.

A complex array ``(..., y, x)`` enters as ``a.view(real)`` of shape ``(..., y, 2 x)``: compilers vectorise
loops over real numbers, but not over complex scalars (3 times slower).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy.typing as npt

Array = npt.NDArray[Any]
_fast = {"reassoc", "contract", "arcp", "nsz"}
jit = numba.njit(nogil=True, cache=True, fastmath=_fast, error_model="numpy")


@jit
def product(a: Array, b: Array, out: Array) -> None:
    """Write ``a b``."""
    for i in range(a.size // 2):
        ar, ai, br, bi = a[2 * i], a[2 * i + 1], b[2 * i], b[2 * i + 1]
        out[2 * i] = ar * br - ai * bi
        out[2 * i + 1] = ar * bi + ai * br


@jit
def add_conjugate(a: Array, b: Array, out: Array) -> None:
    """Add ``conj(a) b``."""
    for i in range(a.size // 2):
        ar, ai, br, bi = a[2 * i], a[2 * i + 1], b[2 * i], b[2 * i + 1]
        out[2 * i] += ar * br + ai * bi
        out[2 * i + 1] += ar * bi - ai * br


@jit
def add_residual(a: Array, b: Array, wave: Array, out: Array) -> None:
    """Add ``conj(a) (wave - a b)``."""
    for i in range(a.size // 2):
        ar, ai, br, bi = a[2 * i], a[2 * i + 1], b[2 * i], b[2 * i + 1]
        cr, ci = wave[2 * i] - (ar * br - ai * bi), wave[2 * i + 1] - (ar * bi + ai * br)
        out[2 * i] += ar * cr + ai * ci
        out[2 * i + 1] += ar * ci - ai * cr


@jit
def add_both_residuals(a: Array, b: Array, wave: Array, out_a: Array, out_b: Array) -> None:
    """Add ``conj(a) (wave - a b)`` to `out_a` and ``conj(b) (wave - a b)`` to `out_b`, in one go."""
    for i in range(a.size // 2):
        ar, ai, br, bi = a[2 * i], a[2 * i + 1], b[2 * i], b[2 * i + 1]
        cr, ci = wave[2 * i] - (ar * br - ai * bi), wave[2 * i + 1] - (ar * bi + ai * br)
        out_a[2 * i] += ar * cr + ai * ci
        out_a[2 * i + 1] += ar * ci - ai * cr
        out_b[2 * i] += br * cr + bi * ci
        out_b[2 * i + 1] += br * ci - bi * cr


@jit
def multiply_rows(factor: Array, wave: Array) -> None:
    """``wave *= factor``, the same complex factor ``(ny, 2 nx)`` for all modes."""
    for m in range(wave.shape[0]):
        for y in range(wave.shape[1]):
            product(wave[m, y], factor[y], wave[m, y])


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
