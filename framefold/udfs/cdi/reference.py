"""What the kernels do, as formulas on whole arrays of numpy or CuPy."""

from __future__ import annotations

from typing import Any

from framefold.udfs.cdi.kernels import COMBINE, FEEDBACK


def impose_amplitude(xp: Any, wave: Any, amplitude: Any, code: Any, scale: float) -> Any:
    """Return the transform with measured amplitudes; see `framefold.udfs.cdi.kernels.impose_amplitude`."""
    modulus = xp.abs(wave)
    unit = xp.where(modulus > 0, wave / xp.where(modulus > 0, modulus, 1), 1)
    return xp.where(code == 1, amplitude * unit * scale, wave * scale**2).astype(wave.dtype)


def next_object(
    xp: Any, rho: Any, m: Any, support: Any, rule: int, coefficients: tuple[float, ...], positive: bool
) -> Any:
    """Return the next object; see `framefold.udfs.cdi.kernels.next_object`."""
    p, a, b, c, d = coefficients
    if rule == COMBINE:
        x = xp.where(support, a * m + b * rho, 0)
        if positive:
            x = xp.where(x.real < 0, 1j * x.imag, x)
        found = p * x + c * m + d * rho
    elif rule == FEEDBACK:
        allowed = support & (m.real >= 0) if positive else support
        found = xp.where(allowed, m, c * m + d * rho)
    else:
        found = xp.where(support & (m.real >= p), m, -m)
    return found.astype(rho.dtype)
