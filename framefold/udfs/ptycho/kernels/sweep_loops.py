"""Steps of both factors in place, frame after frame.

Shapes, with M probe modes and L object modes: `probe` ``(M, ny, 2 nx)``, `obj` ``(L, Y, 2 X)``, `wave`
``(L M, ny, 2 nx)`` with the probe mode running fastest, all interleaved, see `rows`. The frame lies at row
`y0` and column `x0` of the object, a window of the object's numerator at row `oy` and column `ox`.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from framefold.udfs.ptycho.kernels.rows import add_both_residuals, jit

Array = npt.NDArray[Any]


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
                add_both_residuals(p, o, line, n, q)
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
