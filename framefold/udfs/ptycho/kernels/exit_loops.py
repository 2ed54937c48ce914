"""Exit waves of a frame: from probe and object, and moved by the algorithms that keep them.

Shapes, with M probe modes and L object modes: `probe` ``(M, ny, 2 nx)``, `obj` ``(L, Y, 2 X)``, `wave`
``(L M, ny, 2 nx)`` with the probe mode running fastest, all interleaved, see `rows`. The frame lies at row
`y0` and column `x0` of the object, a window of the object's numerator at row `oy` and column `ox`.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from framefold.udfs.ptycho.kernels.rows import jit, product

Array = npt.NDArray[Any]


@jit
def exit_waves(probe: Array, obj: Array, y0: int, x0: int, wave: Array) -> None:
    """Write psi = P O."""
    modes, ny, width = probe.shape
    for m in range(obj.shape[0]):
        for k in range(modes):
            for y in range(ny):
                o = obj[m, y0 + y]
                product(probe[k, y], o[2 * x0 : 2 * x0 + width], wave[m * modes + k, y])


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
