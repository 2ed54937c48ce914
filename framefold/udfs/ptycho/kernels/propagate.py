"""From the exit wave to the detector and back: a Fourier transform, or Fresnel propagation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def fresnel_factor(
    shape: tuple[int, int], pixel_size: tuple[float, float], wavelength: float, z: float
) -> npt.NDArray[np.complex128]:
    """Return ``exp(-i pi lambda z q^2)`` on the grid of an FFT of `shape`.

    Parameters
    ----------
    shape
        (ny, nx).
    pixel_size
        Of the wave, m.
    wavelength, z
        m; positive `z` propagates along ``exp(+ikz)``.
    """
    q2 = np.add.outer(
        np.fft.fftfreq(shape[0], pixel_size[0]) ** 2, np.fft.fftfreq(shape[1], pixel_size[1]) ** 2
    )
    return np.asarray(np.exp(-1j * np.pi * wavelength * z * q2))


def to_detector(wave: Array, factor: Array | None, xp: Any = np) -> Array:
    """Return the wave on the detector, unitary: F psi, or F^-1 H F psi with a Fresnel factor H.

    `xp` is the namespace of the arrays.
    """
    spectrum: Array = xp.fft.fft2(wave, norm="ortho")
    return spectrum if factor is None else xp.fft.ifft2(spectrum * factor, norm="ortho")


def from_detector(wave: Array, factor: Array | None, xp: Any = np) -> Array:
    """Return the adjoint (and inverse) of `to_detector`."""
    spectrum: Array = wave if factor is None else xp.fft.fft2(wave, norm="ortho") * factor.conj()
    return xp.fft.ifft2(spectrum, norm="ortho")
