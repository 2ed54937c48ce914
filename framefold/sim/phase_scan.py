"""Scans of a thin phase object with a focused probe: 4D-STEM whose phase is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from framefold.errors import DataError
from framefold.udfs.com_fields import detector_matrix
from framefold.udfs.fourd.optics import Aberrations, ProbeOptics, probe_optics

Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PhaseScan:
    """Frames and the truth behind them.

    Attributes
    ----------
    frames
        ``(*scan, n, n)``; counts, or expected counts without noise; origin of frequencies at ``n // 2``.
    phase
        The object at the scan positions, rad, scan shape.
    seen
        The object's phase correlated with the probe's intensity: what integrated centre of mass gives, rad.
    optics
        Calibration, with the bright-field radius in pixels.
    """

    frames: npt.NDArray[Any]
    phase: Float
    seen: Float
    optics: ProbeOptics


def phase_scan(
    phase: npt.ArrayLike,
    pixel: float = 0.25e-10,
    every: int = 2,
    *,
    voltage: float = 80e3,
    semiangle: float = 25e-3,
    aberrations: Aberrations | None = None,
    scan_rotation: float = 0.0,
    dose: float | None = None,
    seed: int = 0,
) -> PhaseScan:
    """Return a periodic scan of the thin object ``exp(i phase)``.

    The frame at scan position R is ``|F[P(r) O(r + R)]|^2``, F unitary with ``exp(-2 pi i q r)``, P the
    transform of the aperture function ``exp(-i chi)``. Detector pixels are ``1 / (n pixel)`` wide.

    Parameters
    ----------
    phase
        rad, ``(n, n)``, periodic.
    pixel
        Of the object, m.
    every
        Object pixels per scan step; divides n.
    voltage, semiangle, aberrations
        Of the probe, V and rad.
    scan_rotation
        Turns the detector, degrees as of `CoMUDF`; a multiple of 90.
    dose
        Electrons per frame; None: no noise, expected counts for one electron, float64.
    seed
        Of the noise.

    Raises
    ------
    DataError
        If the object is not square, the steps do not divide it, or the aperture does not fit the frames.

    Examples
    --------
    >>> scan = phase_scan(np.zeros((32, 32)), dose=1000)
    >>> scan.frames.shape, scan.frames.dtype
    ((16, 16, 32, 32), dtype('uint16'))
    """
    phi = np.asarray(phase, dtype=np.float64)
    n = phi.shape[0]
    if phi.ndim != 2 or phi.shape != (n, n) or n % every:
        raise DataError(
            f"the phase of shape {phi.shape} is not square with a side that is a multiple of {every}"
        )
    if scan_rotation % 90:
        raise DataError(
            f"scan_rotation={scan_rotation} is not a multiple of 90: frames are turned, not interpolated"
        )
    optics = probe_optics(voltage, semiangle, 1.0, every * pixel)
    radius = optics.aperture_frequency * n * pixel
    if radius > n // 2 - 1:
        raise DataError(
            f"the aperture has a radius of {radius:.1f} px on frames of {n} x {n}: use smaller pixels"
        )
    optics = probe_optics(voltage, semiangle, radius, every * pixel)
    q: Float = np.asarray(np.fft.fftfreq(n, pixel), dtype=np.float64)
    k_y, k_x = q[:, None], q[None]
    inside = k_y**2 + k_x**2 <= optics.aperture_frequency**2
    chi = (aberrations or Aberrations()).chi(
        k_y * optics.wavelength, k_x * optics.wavelength, optics.wavelength
    )
    aperture = np.where(inside, np.exp(-1j * chi), 0) / np.sqrt(inside.sum())
    probe = fft.ifft2(aperture, norm="ortho")
    thing = np.exp(1j * phi)
    side = n // every
    frames = np.empty((side, side, n, n))
    order = _turned(n, scan_rotation)
    for y in range(side):
        rolled = [np.roll(thing, (-y * every, -x * every), (0, 1)) for x in range(side)]
        waves = fft.fft2(probe * np.stack(rolled), norm="ortho")
        frames[y] = (
            fft.fftshift(np.abs(waves) ** 2, axes=(1, 2)).reshape(side, -1)[:, order].reshape(-1, n, n)
        )
    intensity = np.abs(probe) ** 2
    seen = fft.ifft2(fft.fft2(phi) * fft.fft2(intensity).conj()).real[::every, ::every]
    truth = phi[::every, ::every].copy()
    if dose is None:
        return PhaseScan(frames, truth, np.ascontiguousarray(seen), optics)
    counts = np.random.default_rng(seed).poisson(frames * dose)
    return PhaseScan(counts.astype(np.uint16), truth, np.ascontiguousarray(seen), optics)


def _turned(n: int, scan_rotation: float) -> npt.NDArray[np.int64]:
    """Return which frequency pixel each pixel of the turned detector sees; the border wraps around."""
    y, x = np.indices((n, n)) - n // 2
    m = np.rint(detector_matrix(scan_rotation, False)).astype(np.int64)  # detector -> scan
    row, col = m[0, 0] * y + m[0, 1] * x, m[1, 0] * y + m[1, 1] * x
    return np.asarray((((row + n // 2) % n) * n + (col + n // 2) % n).reshape(-1), dtype=np.int64)
