"""What a fit cannot tell: scale, constant phase, linear phase ramp, common shift."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfs.ptycho.denominators import illuminated

Array = npt.NDArray[Any]


def remove_ambiguities(
    obj: Array, probe: Array, weight: Array, *, phase_positive: bool | None = None
) -> tuple[Array, Array]:
    """Return the same solution with median |O| = 1, no mean phase gradient, and mean phase 0.

    Parameters
    ----------
    obj
        ``(L, Y, X)``.
    probe
        ``(M, ny, nx)``.
    weight
        ``(Y, X)``: illumination of the object.
    phase_positive
        True: if the phase is skewed to negative values, return the twin ``O*(-r), P*(-r)``, which fits as
        well with positions of the opposite sign; False: if it is skewed to positive ones; None: leave it.

    Notes
    -----
    ``(O / c, c P)``, and a ramp ``(O e^{-ik.r}, P e^{+ik.r})``, change no intensity. The ramp is the weighted
    mean of the phase differences between neighbours.
    """
    where = illuminated(weight)
    if not where.any():
        return obj, probe
    scale = float(np.median(np.abs(obj[0][where]))) or 1.0
    ky, kx = mean_gradient(obj[0], where)
    out = obj * (ramp(obj.shape[-2:], -ky, -kx) / scale)
    new_probe = probe * (ramp(probe.shape[-2:], ky, kx) * scale)
    turn = np.exp(-1j * np.angle(np.sum(out[0][where])))
    out = out * turn
    if phase_positive is not None:
        phase = np.angle(out[0][where])
        skew = float(np.mean((phase - phase.mean()) ** 3))
        if (skew < 0) == phase_positive:
            out, new_probe = out[:, ::-1, ::-1].conj(), new_probe[:, ::-1, ::-1].conj()
    return out.astype(obj.dtype), new_probe.astype(probe.dtype)


def mean_gradient(wave: Array, where: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the mean phase gradient (y, x) in rad per pixel over `where`."""
    found = []
    for axis in (0, 1):
        a = [slice(None), slice(None)]
        b = [slice(None), slice(None)]
        a[axis], b[axis] = slice(1, None), slice(None, -1)
        both = where[tuple(a)] & where[tuple(b)]
        product = wave[tuple(a)] * wave[tuple(b)].conj()
        found.append(float(np.angle(product[both].sum())) if both.any() else 0.0)
    return found[0], found[1]


def ramp(shape: tuple[int, ...], ky: float, kx: float) -> Array:
    """Return ``exp(i k.r)`` on a grid, r in pixels."""
    y, x = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    return np.asarray(np.exp(1j * (ky * y + kx * x)))


def displayed(obj: Array, weight: Array) -> tuple[Array, Array]:
    """Return modulus and phase of an object mode, NaN where there was hardly light."""
    where = illuminated(weight)
    modulus = np.where(where, np.abs(obj), np.nan).astype(np.float32)
    phase = np.where(where, np.angle(obj), np.nan).astype(np.float32)
    return modulus, phase
