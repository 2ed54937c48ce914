"""Numerators of object and probe, from what a frame says about its exit waves.

Shapes, with M probe modes and L object modes: `probe` ``(M, ny, 2 nx)``, `obj` ``(L, Y, 2 X)``, `wave`
``(L M, ny, 2 nx)`` with the probe mode running fastest, all interleaved, see `rows`. The frame lies at row
`y0` and column `x0` of the object, a window of the object's numerator at row `oy` and column `ox`.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from framefold.udfs.ptycho.kernels.rows import add_both_residuals, add_conjugate, add_residual, jit

Array = npt.NDArray[Any]


@jit
def residual_numerators(
    probe: Array, obj: Array, y0: int, x0: int, wave: Array, num_object: Array, oy: int, ox: int,
    num_probe: Array, with_object: bool, with_probe: bool,
) -> None:  # fmt: skip
    """Add ``conj(P) chi`` to `num_object` and ``conj(O) chi`` to `num_probe`, with ``chi = wave - P O``."""
    modes, ny, width = probe.shape
    for m in range(obj.shape[0]):
        for y in range(ny):
            o = obj[m, y0 + y][2 * x0 : 2 * x0 + width]
            n = num_object[m, y0 - oy + y][2 * (x0 - ox) : 2 * (x0 - ox) + width]
            for k in range(modes):
                line, p, q = wave[m * modes + k, y], probe[k, y], num_probe[k, y]
                if with_object and with_probe:
                    add_both_residuals(p, o, line, n, q)
                elif with_object:
                    add_residual(p, o, line, n)
                else:
                    add_residual(o, p, line, q)


@jit
def add_numerators(
    probe: Array, obj: Array, y0: int, x0: int, wave: Array, num_object: Array, oy: int, ox: int,
    num_probe: Array,
) -> None:  # fmt: skip
    """Add ``conj(P) wave`` to `num_object` and ``conj(O) wave`` to `num_probe`."""
    modes, ny, width = probe.shape
    for m in range(obj.shape[0]):
        for y in range(ny):
            o = obj[m, y0 + y][2 * x0 : 2 * x0 + width]
            n = num_object[m, y0 - oy + y][2 * (x0 - ox) : 2 * (x0 - ox) + width]
            for k in range(modes):
                line = wave[m * modes + k, y]
                add_conjugate(probe[k, y], line, n)
                add_conjugate(o, line, num_probe[k, y])
