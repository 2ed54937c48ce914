"""The probe-forming optics of a scanning microscope: aperture, calibration and aberrations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.udfcore.metadata import electron_wavelength

Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Aberrations:
    """Coefficients of the aberration function, m; two-fold and higher ones complex.

    ``chi = 2 pi / lambda Re(C1 |w|^2 / 2 + A1 v^2 / 2 + B2 w^2 v + A2 v^3 / 3 + C3 |w|^4 / 4)`` with
    ``w = theta_x + i theta_y``, ``v = conj(w)`` (Uhlemann and Haider, Ultramicroscopy 72 (1998) 109, eq. 1).

    Attributes
    ----------
    C1
        Defocus; positive: overfocus.
    A1
        Two-fold astigmatism.
    B2
        Axial coma.
    A2
        Three-fold astigmatism.
    C3
        Spherical aberration.
    """

    C1: float = 0.0
    A1: complex = 0.0
    B2: complex = 0.0
    A2: complex = 0.0
    C3: float = 0.0

    def chi(self, theta_y: Float, theta_x: Float, wavelength: float) -> Float:
        """Return the phase error of the aperture function ``exp(-i chi)``, rad, at angles in rad."""
        w = theta_x + 1j * theta_y
        square = np.abs(w) ** 2
        sums = (
            self.C1 * square / 2
            + self.A1 * w.conj() ** 2 / 2
            + self.B2 * w * square
            + self.A2 * w.conj() ** 3 / 3
            + self.C3 * square**2 / 4
        )
        return np.asarray(2 * np.pi / wavelength * sums.real)


@dataclass(frozen=True)
class ProbeOptics:
    """How detector pixels and scan steps relate.

    Attributes
    ----------
    wavelength
        m.
    semiangle
        Radius of the aperture, rad.
    radius
        Radius of the bright-field disk on the detector, pixels.
    scan_step
        Distance of scan positions (y, x), m.
    """

    wavelength: float
    semiangle: float
    radius: float
    scan_step: tuple[float, float]

    @property
    def pixel_angle(self) -> float:
        """Angle of a detector pixel, rad."""
        return self.semiangle / self.radius

    @property
    def pixel_frequency(self) -> float:
        """Spatial frequency of a detector pixel, cycles per m."""
        return self.pixel_angle / self.wavelength

    @property
    def aperture_frequency(self) -> float:
        """Radius of the aperture, cycles per m."""
        return self.semiangle / self.wavelength


def probe_optics(
    voltage: float, semiangle: float, radius: float, scan_step: float | tuple[float, float]
) -> ProbeOptics:
    """Return the optics for an acceleration voltage in V; other arguments as of `ProbeOptics`.

    Raises
    ------
    UDFError
        For values that cannot be meant: angles above 0.5 rad are probably mrad, steps above 1 um nm.

    Examples
    --------
    >>> round(probe_optics(80e3, 20e-3, 16, 0.5e-10).aperture_frequency * 1e-10, 3)  # per Angstrom
    0.479
    """
    steps = (scan_step, scan_step) if isinstance(scan_step, (int, float)) else tuple(scan_step)
    for name, value in (("voltage", voltage), ("semiangle", semiangle), ("radius", radius)):
        if not value > 0:
            raise UDFError(f"{name}={value} must be positive")
    if len(steps) != 2 or not all(s > 0 for s in steps):
        raise UDFError(f"scan_step={scan_step} is one or two positive lengths in m")
    if semiangle > 0.5:
        raise UDFError(f"semiangle={semiangle} is in rad: for {semiangle} mrad give {semiangle * 1e-3}")
    if max(steps) > 1e-6:
        raise UDFError(f"scan_step={scan_step} is in m: for {scan_step} Angstrom give {max(steps) * 1e-10}")
    if voltage < 1e3:
        raise UDFError(f"voltage={voltage} is in V: for {voltage} kV give {voltage * 1e3}")
    return ProbeOptics(
        electron_wavelength(voltage), float(semiangle), float(radius), (float(steps[0]), float(steps[1]))
    )
