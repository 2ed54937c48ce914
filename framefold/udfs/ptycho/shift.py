"""Shifting waves by fractions of a pixel, in Fourier space."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.namespace import scipy_of, xp_of

Array = npt.NDArray[Any]


def phase_ramps(shape: tuple[int, int], shifts: npt.NDArray[np.float64], dtype: npt.DTypeLike) -> Array:
    """Return ``exp(-2 pi i q.f)`` for each shift f (y, x) in pixels: ``(B, ny, nx)``.

    At the Nyquist frequency of even lengths the mean of both signs, which keeps real waves real; whole shifts
    are exact there.
    """

    def one(n: int, f: npt.NDArray[np.float64]) -> Array:
        q = np.fft.fftfreq(n)
        ramp = np.exp(-2j * np.pi * np.multiply.outer(f, q))
        if n % 2 == 0:
            ramp[:, n // 2] = np.cos(np.pi * f)
        return np.asarray(ramp)

    y, x = one(shape[0], shifts[:, 0]), one(shape[1], shifts[:, 1])
    return (y[:, :, None] * x[:, None, :]).astype(dtype)


def make_bank(probe: Array, ramps: Array) -> Array:
    """Return the probe modes shifted by every entry of the bank: ``(B, M, ny, nx)``."""
    fft = scipy_of(xp_of(probe), "fft")
    return fft.ifft2(fft.fft2(probe)[None] * ramps[:, None])


def gather_bank(sums: Array, ramps: Array) -> Array:
    """Return the adjoint of `make_bank`: the sum of all entries shifted back, ``(M, ny, nx)``."""
    fft = scipy_of(xp_of(sums), "fft")
    return fft.ifft2((fft.fft2(sums) * ramps.conj()[:, None]).sum(axis=0))
