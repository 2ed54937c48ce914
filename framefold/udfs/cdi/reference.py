"""What the kernels do, as formulas on whole arrays of numpy or CuPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from framefold.udfs.cdi.kernels import COMBINE, FEEDBACK
from framefold.udfs.cdi.kernels_ml import EPS
from framefold.udfs.cdi.state import MEASURED


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


def likelihood(xp: Any, model: Any, intensity: Any, code: Any) -> Any:
    """Return the sums over each kind of pixel, ``(3, 3)``; see `framefold.udfs.cdi.kernels.likelihood`.

    `model` holds modelled counts.
    """
    model, seen = model.astype(np.float64), intensity.astype(np.float64)
    floor = xp.maximum(model, 1e-6)
    value = floor - seen + seen * xp.log(xp.where(seen > 0, seen, 1) / xp.where(seen > 0, floor, 1))
    distance = (xp.sqrt(model) - xp.sqrt(seen)) ** 2
    rows = [xp.stack([((code == k) * v).sum() for v in (value, 1.0 + 0 * model, distance)]) for k in range(3)]
    return xp.stack(rows)


def gradient(xp: Any, wave: Any, intensity: Any, code: Any) -> Any:
    """Return ``(1 - I / (I_m + eps)) F`` on measured pixels: half the gradient of the likelihood by conj(F).

    ``L = sum I_m - I log(I_m + eps)``, ``I_m = |F|^2``; ``dL = 2 Re <gradient, dF>``.
    """
    model = wave.real**2 + wave.imag**2
    return xp.where(code == MEASURED, 1 - intensity / (model + EPS), 0) * wave


def _along(wave: Any, along: Any) -> tuple[Any, Any, Any]:
    """Return ``|F|^2``, ``2 Re(conj(F) D)`` and ``|D|^2`` in float64."""
    f, d = wave.astype(np.complex128), along.astype(np.complex128)
    return f.real**2 + f.imag**2, 2 * (f.real * d.real + f.imag * d.imag), d.real**2 + d.imag**2


def line_slopes(xp: Any, wave: Any, along: Any, intensity: Any, code: Any, a: float) -> Any:
    """Return three numbers as an array; see `framefold.udfs.cdi.kernels_ml.line_slopes`."""
    start, c1, c2 = _along(wave, along)
    model = xp.maximum(start + a * (c1 + a * c2), 0) + EPS
    slope, ratio, used = c1 + 2 * a * c2, intensity / model, code == MEASURED
    positive = (used * ratio / model * slope * slope).sum()
    second = (used * 2 * (1 - ratio) * c2).sum()
    return xp.stack([(used * (1 - ratio) * slope).sum(), second + positive, positive])


def line_change(xp: Any, wave: Any, along: Any, intensity: Any, code: Any, a: float) -> Any:
    """Return one number as an array; see `framefold.udfs.cdi.kernels_ml.line_change`."""
    start, c1, c2 = _along(wave, along)
    after = xp.maximum(start + a * (c1 + a * c2), 0) + EPS
    change = after - start - EPS - intensity * xp.log(after / (start + EPS))
    return ((code == MEASURED) * change).sum()
