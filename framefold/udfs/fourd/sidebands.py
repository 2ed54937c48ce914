"""Which pixels and scan frequencies carry a weak phase, and with which weights."""

from __future__ import annotations

import functools
import math
import threading
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfcore.namespace import scipy_of, xp_of
from framefold.udfs.com_fields import detector_matrix
from framefold.udfs.fourd.kernels import BOTH_BANDS, SINGLE_BAND, chi_coefficients, trotters
from framefold.udfs.fourd.optics import Aberrations, ProbeOptics

Mode = Literal["ssb", "wpoa"]
# scan frequencies with less than this share of the strongest overlap carry noise only
WEAKEST = 1e-3
WEIGHTS_BYTES = 4 * 2**30
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Geometry:
    """Everything that the weights depend on; hashable, so that threads share one set.

    Attributes
    ----------
    sig, scan
        Frame and scan shape.
    optics, aberrations
        The probe.
    center
        Of the bright-field disk (y, x), pixels.
    scan_rotation, flip_y
        Orientation of the detector, as of `CoMUDF`.
    mode
        ``"ssb"`` or ``"wpoa"``.
    wiener
        Share of the pixels added to the denominator.
    double
        Double precision.
    """

    sig: tuple[int, int]
    scan: tuple[int, int]
    optics: ProbeOptics
    aberrations: Aberrations
    center: tuple[float, float]
    scan_rotation: float
    flip_y: bool
    mode: Mode
    wiener: float = 0.0
    double: bool = False

    def frequencies(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return (ky, kx) of all pixels in the axes of the scan, cycles per m, shape `sig`."""
        y, x = np.indices(self.sig, dtype=np.float64)
        y, x = y - self.center[0], x - self.center[1]
        m = detector_matrix(self.scan_rotation, self.flip_y) * self.optics.pixel_frequency
        return m[0, 0] * y + m[0, 1] * x, m[1, 0] * y + m[1, 1] * x

    def bright_field(self) -> npt.NDArray[np.bool_]:
        """Return the pixels inside the aperture, bool, shape `sig`."""
        ky, kx = self.frequencies()
        return ky**2 + kx**2 <= self.optics.aperture_frequency**2


@dataclass(frozen=True)
class Sidebands:
    """Weights for the scan frequencies at which apertures overlap.

    Attributes
    ----------
    pixels
        Flat indices of the bright-field pixels in a frame.
    q_y
        Indices of the slow scan frequencies.
    n_x
        The fast scan frequencies 0 .. n_x - 1 are used; negative ones follow, since the object is real.
    weights
        ``-i conj(W) / (sum |W|^2 + wiener)``, complex ``(n_x, len(q_y), pixels)``.
    """

    pixels: npt.NDArray[np.int64]
    q_y: npt.NDArray[np.int64]
    n_x: int
    weights: npt.NDArray[np.complexfloating[Any, Any]]

    def on(self, xp: Any) -> Sidebands:
        """Return the same with what `add_rows` computes with in arrays of a namespace."""
        return replace(self, q_y=xp.asarray(self.q_y), weights=xp.asarray(self.weights))


def sidebands(geometry: Geometry) -> Sidebands:
    """Return the weights of a geometry; made once per process.

    Raises
    ------
    DataError
        Where the bright-field disk is not on the detector, no scan frequency lies within twice the aperture,
        or the weights would fill the memory.
    """
    with _LOCK:
        return _sidebands(geometry)


@functools.lru_cache(maxsize=2)
def _sidebands(geometry: Geometry) -> Sidebands:
    inside = geometry.bright_field()
    pixels = np.flatnonzero(inside)
    if len(pixels) < 8:
        raise DataError(
            f"{len(pixels)} pixels of the {geometry.sig} frames lie in the bright-field disk of radius "
            f"{geometry.optics.radius:.3g} px about {geometry.center}: check radius=, cy= and cx="
        )
    ky, kx = (k.reshape(-1)[pixels] for k in geometry.frequencies())
    q_y, q_x, used_y, n_x = used_frequencies(geometry)
    shape = (n_x, len(used_y), len(pixels))
    if n_x * len(used_y) < 2:
        raise DataError(
            f"a scan of {geometry.scan} steps of {geometry.optics.scan_step} m has no frequency within twice "
            f"the aperture ({2 * geometry.optics.aperture_frequency:.3g} per m): check scan_step=, semiangle="
        )
    dtype = np.dtype(np.complex128 if geometry.double else np.complex64)
    size = math.prod(shape) * dtype.itemsize
    if size > WEIGHTS_BYTES:
        raise DataError(
            f"the weights of {shape} frequencies and pixels take {size / 2**30:.1f} GiB, more than "
            f"{WEIGHTS_BYTES / 2**30:.0f}: bin the frames first, pre=[Bin(2)], and halve radius=, cy=, cx="
        )
    weights = np.empty(shape, dtype=dtype)
    coefficients = chi_coefficients(geometry.aberrations, geometry.optics.wavelength)
    mode = SINGLE_BAND if geometry.mode == "ssb" else BOTH_BANDS
    floor = WEAKEST * len(pixels)
    k_max = geometry.optics.aperture_frequency
    trotters(
        ky,
        kx,
        q_y[used_y],
        q_x[:n_x],
        k_max,
        coefficients,
        mode,
        floor,
        geometry.wiener * len(pixels),
        weights,
    )
    weights *= -1j
    return Sidebands(pixels, used_y, n_x, weights)


def used_frequencies(
    geometry: Geometry,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64], int]:
    """Return slow and fast (half) scan frequencies, and which of them lie within twice the aperture.

    The Nyquist frequency has no sign, and is left out.
    """
    (rows, cols), step = geometry.scan, geometry.optics.scan_step
    q_y, q_x = np.fft.fftfreq(rows, step[0]), np.fft.rfftfreq(cols, step[1])
    reach = 2 * geometry.optics.aperture_frequency
    slow = (np.abs(q_y) < reach) & (2 * np.arange(rows) != rows)
    fast = (q_x < reach) & (2 * np.arange(len(q_x)) != cols)
    return (
        np.asarray(q_y, float),
        np.asarray(q_x, float),
        np.flatnonzero(slow).astype(np.int64),
        int(fast.sum()),
    )


def add_rows(
    rows: npt.NDArray[np.floating[Any]],
    at: npt.NDArray[np.int64],
    bands: Sidebands,
    out: npt.NDArray[np.complex128],
) -> None:
    """Add the spectrum of some scan rows to `out`, complex128 ``(scan rows, scan columns // 2 + 1)``.

    The fast axis is transformed, then one matrix product per fast frequency applies the weights to all rows
    at once, then each row gets the phase of its place on the slow axis: per frame, that is cheaper by about
    the length of a row than weights on every frame.

    Parameters
    ----------
    rows
        ``(n, scan columns, bright-field pixels)``; 0 where no frame came.
    at
        Which scan rows these are, on the host.
    """
    xp = xp_of(rows)
    spectra = scipy_of(xp, "fft").rfft(rows, axis=1)[:, : bands.n_x]  # (n, n_x, pixels)
    banded = xp.matmul(bands.weights, spectra.transpose(1, 2, 0))  # (n_x, n_y, n)
    phase = xp.exp(-2j * np.pi / out.shape[0] * (xp.outer(bands.q_y, xp.asarray(at)) % out.shape[0]))
    out[bands.q_y, : bands.n_x] += xp.einsum("xyn,yn->yx", banded, phase)
