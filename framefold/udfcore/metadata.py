"""What a file says about itself: calibrated axes, energy, masks, positions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

# CODATA 2018, SI
_H = 6.62607015e-34
_C = 299792458.0
_M_E = 9.1093837015e-31
_Q_E = 1.602176634e-19


@dataclass(frozen=True, slots=True)
class Axis:
    """A calibrated axis: ``value = offset + scale * index``, in `units` (``"px"`` when unknown)."""

    name: str = ""
    scale: float = 1.0
    offset: float = 0.0
    units: str = "px"

    def values(self, n: int) -> npt.NDArray[np.float64]:
        """Return the coordinates of `n` samples, float64."""
        return self.offset + self.scale * np.arange(n, dtype=np.float64)

    @property
    def calibrated(self) -> bool:
        """Whether the file stated a unit."""
        return self.units not in ("", "px")


@dataclass(frozen=True)
class Metadata:
    """Calibration and context of a dataset. Lengths in m, energies in J; None where the file is silent.

    Attributes
    ----------
    axes
        One per dataset axis, navigation first; empty when nothing is calibrated.
    energy
        Beam energy per particle or photon, J.
    wavelength
        m.
    camera_length
        Sample to detector, m.
    pixel_size
        Detector pixel size per signal axis, m.
    dwell_time
        Exposure per frame, s.
    mask
        Bool, signal shape: True where a pixel is bad.
    dark, gain
        Signal shape, as the file states them; applied only when the user passes them on.
    positions
        float64 ``(frames, 2)`` scan positions (y, x) in m, or ``(frames, 3)`` as CXI gives them (x, y, z).
    nav_shape
        Scan shape as the file states it, where its frames are a flat series.
    raw
        Everything the file states, plain Python values and small arrays, kept for provenance.
    """

    axes: tuple[Axis, ...] = ()
    energy: float | None = None
    wavelength: float | None = None
    camera_length: float | None = None
    pixel_size: tuple[float, ...] | None = None
    dwell_time: float | None = None
    mask: npt.NDArray[np.bool_] | None = None
    dark: npt.NDArray[Any] | None = None
    gain: npt.NDArray[Any] | None = None
    positions: npt.NDArray[np.float64] | None = None
    nav_shape: tuple[int, ...] | None = None
    raw: dict[str, Any] = field(default_factory=dict)


def electron_wavelength(voltage: float) -> float:
    """Return the relativistic wavelength in m of electrons accelerated by `voltage` in V.

    lambda = h / sqrt(2 m e V (1 + e V / (2 m c^2)))

    >>> round(electron_wavelength(200e3) * 1e12, 3)
    2.508
    """
    ev = _Q_E * voltage
    return _H / math.sqrt(2 * _M_E * ev * (1 + ev / (2 * _M_E * _C**2)))


def photon_wavelength(energy: float) -> float:
    """Return the wavelength in m of photons of `energy` in J: lambda = h c / E."""
    return _H * _C / energy
