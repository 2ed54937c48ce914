"""What the counts of a pixel mean, `PixelModel`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.fxs.geometry import Geometry

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PixelModel:
    """What a pixel's counts mean, beyond its place; it goes into the weights and costs nothing per frame.

    Attributes
    ----------
    mask
        Bool of frame shape, True where a pixel is bad.
    dark
        Counts without light, number or frame.
    gain
        Factor that makes counts equal between pixels (it multiplies, as in `Corrections`), number or frame.
    adu_per_photon
        Counts of one photon; None: not known, frames stay in counts and there is no photon self-term.
    read_noise
        Standard deviation of a pixel without light, in counts, number or frame.
    efficiency
        Further response, such as quantum efficiency, number or frame.
    polarisation
        Factor f, 1 for horizontal; None: do not correct.
    solid_angle
        Correct for the solid angle of pixels.
    """

    mask: Any = None
    dark: Any = None
    gain: Any = None
    adu_per_photon: float | None = None
    read_noise: Any = 0.0
    efficiency: Any = None
    polarisation: float | None = 1.0
    solid_angle: bool = True

    def response(self, geometry: Geometry) -> Floats:
        """Return counts per photon that a pixel of nominal size would see, flat."""
        g = np.full(geometry.shape, float(self.adu_per_photon or 1.0))
        if self.gain is not None:
            g = g / _frame(self.gain, geometry.shape, "gain")
        if self.efficiency is not None:
            g = g * _frame(self.efficiency, geometry.shape, "efficiency")
        if self.solid_angle:
            g = g * geometry.solid_angle()
        if self.polarisation is not None:
            g = g * geometry.polarisation(self.polarisation)
        return g.reshape(-1)

    def dark_counts(self, geometry: Geometry) -> Floats:
        """Return the dark counts, flat."""
        dark = np.zeros(geometry.shape) if self.dark is None else _frame(self.dark, geometry.shape, "dark")
        return dark.reshape(-1)

    def variance(self, geometry: Geometry, scaled: Array, scale2: float, *, clip: bool = True) -> Floats:
        """Return the variance of counts, flat: Poisson statistics of photons, and the read noise.

        Parameters
        ----------
        scaled
            Mean of ``s^2 * raw`` over frames, flat, s the scale of a frame.
        scale2
            Mean of ``s^2``.
        clip
            Counts below those without light are none; not for single frames, where that is a bias.
        """
        if self.adu_per_photon is None:
            raise DataError("the variance of counts needs adu_per_photon=")
        one = np.full(geometry.shape, self.adu_per_photon)
        if self.gain is not None:
            one = one / _frame(self.gain, geometry.shape, "gain")
        light = scaled - scale2 * self.dark_counts(geometry)
        if clip:
            light = np.maximum(light, 0)
        noise = _frame(self.read_noise, geometry.shape, "read_noise").reshape(-1)
        return one.reshape(-1) * light + scale2 * noise**2

    def good(self, geometry: Geometry) -> npt.NDArray[np.bool_]:
        """Return which pixels count, flat."""
        if self.mask is None:
            good = np.ones(geometry.shape, bool)
        else:
            mask = np.asarray(self.mask)
            if mask.shape != geometry.shape:
                raise DataError(f"the mask has shape {mask.shape}, the geometry {geometry.shape}")
            good = mask == 0
        if geometry.absent is not None:
            good = good & ~np.asarray(geometry.absent, bool)
        return good.reshape(-1)

    @property
    def identity(self) -> str:
        """Hash of the contents."""
        h = hashlib.sha256()
        for value in (self.mask, self.dark, self.gain, self.efficiency, self.read_noise):
            a = np.asarray(np.nan if value is None else value)
            h.update(f"{a.dtype.str}{a.shape}".encode() + np.ascontiguousarray(a).tobytes())
        h.update(repr((self.adu_per_photon, self.polarisation, self.solid_angle)).encode())
        return h.hexdigest()[:16]


def _frame(value: Any, shape: tuple[int, ...], name: str) -> Floats:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim and array.shape != shape:
        raise DataError(f"{name} has shape {array.shape}, the geometry {shape}")
    return np.broadcast_to(array, shape)
