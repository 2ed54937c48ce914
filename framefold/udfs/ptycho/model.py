"""Wavelength, distances and pixel sizes: how object pixels belong to detector pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfcore.metadata import Metadata, electron_wavelength, photon_wavelength
from framefold.udfs.ptycho.kernels.propagate import fresnel_factor
from framefold.udfs.ptycho.quantities import Quantity, believed, in_si


@dataclass(frozen=True)
class Geometry:
    """What stands between the sample and the detector.

    Plain numbers are SI: lengths in m, energies in J, voltages in V; text states its unit: ``"8 keV"``,
    ``"75 um"``. Either is kept in SI. What is None is taken from the data set.

    Attributes
    ----------
    wavelength, energy, voltage
        One of them: wavelength, photon energy, or acceleration voltage of electrons.
    distance
        From the sample to the detector.
    detector_pixel
        (y, x), or one number.
    kind
        ``"far"``: the detector sees the Fourier transform. ``"near"``: it sees a Fresnel hologram. None: far
        field, unless the frames look otherwise, which is an error.
    focus_distance
        Near field: from the focus of the beam to the sample; infinite for a parallel beam.
    angle_per_pixel
        Far field of electrons: rad per detector pixel, instead of `distance` and `detector_pixel`.
    defocus
        Of the starting probe.

    Raises
    ------
    DataError
        If a plain number is off by orders of magnitude, ``detector_pixel=75`` for instance.

    Examples
    --------
    >>> Geometry(wavelength="1 A", distance="2 m", detector_pixel="75 um").pixel_size((100, 100))[0]
    2.66...e-08

    Notes
    -----
    Far field: pixel size of the object ``lambda z / (n p)``. Near field in a diverging beam: by the Fresnel
    scaling theorem (Paganin, Coherent X-Ray Optics, 2006) a parallel beam with pixel ``p / M`` and distance
    ``z / M``, where ``M = (z1 + z) / z1``.
    """

    wavelength: float | None
    energy: float | None
    voltage: float | None
    distance: float | None
    detector_pixel: tuple[float, float] | None
    kind: Literal["far", "near"] | None
    focus_distance: float | None
    angle_per_pixel: float | None
    defocus: float

    # by hand: it takes text and one number for a square, the attributes are SI
    def __init__(
        self,
        wavelength: Quantity | None = None,
        energy: Quantity | None = None,
        voltage: Quantity | None = None,
        distance: Quantity | None = None,
        detector_pixel: Quantity | tuple[Quantity, Quantity] | None = None,
        kind: Literal["far", "near"] | None = None,
        focus_distance: Quantity | None = None,
        angle_per_pixel: Quantity | None = None,
        defocus: Quantity = 0.0,
    ) -> None:
        if kind not in ("far", "near", None):
            raise DataError(f"geometry: kind={kind!r} is not 'far', 'near' or None")
        waves = {"wavelength": wavelength, "energy": energy, "voltage": voltage}
        given = [n for n, value in waves.items() if value is not None]
        if len(given) > 1:
            raise DataError(f"geometry: {' and '.join(given)} are given, one of them is enough")
        others = {
            "distance": distance, "focus_distance": focus_distance, "angle_per_pixel": angle_per_pixel,
            "defocus": defocus,
        }  # fmt: skip
        for name, value in (waves | others).items():
            object.__setattr__(self, name, None if value is None else in_si(name, value))
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "detector_pixel", _pair(detector_pixel))

    def completed(self, metadata: Metadata) -> Geometry:
        """Return the geometry with what is None taken from `metadata`.

        Raises
        ------
        DataError
            Listing everything that neither states.
        """
        lam = self.wavelength
        if self.energy is not None:
            lam = photon_wavelength(self.energy)
        if self.voltage is not None:
            lam = electron_wavelength(self.voltage)
        wrong: list[str] = []
        if lam is None and metadata.energy and not believed("energy", metadata.energy, []):
            # the wavelength was mostly computed from it
            believed("energy", metadata.energy, wrong)
        elif lam is None:
            lam = believed("wavelength", metadata.wavelength, wrong)
            if lam is None and metadata.energy and not wrong:
                lam = photon_wavelength(metadata.energy)
        distance = self.distance
        if distance is None and self.angle_per_pixel is None:
            distance = believed("distance", metadata.camera_length, wrong)
        pixel = self.detector_pixel
        if pixel is None and metadata.pixel_size is not None:
            pixel = (float(metadata.pixel_size[0]), float(metadata.pixel_size[1]))
            if self.angle_per_pixel is None:
                believed("detector_pixel", min(pixel), wrong)
        if wrong:
            raise DataError("the data state what cannot be:\n  - " + "\n  - ".join(wrong))
        missing = []
        if not lam:
            missing.append("the wavelength (energy=, wavelength= or voltage= ; --energy '8 keV')")
        if self.angle_per_pixel is None:
            if not distance:
                missing.append("the distance from sample to detector (distance= ; --distance '2 m')")
            if pixel is None:
                missing.append("the size of a detector pixel (detector_pixel= ; --detector-pixel '75 um')")
        if self.kind == "near" and self.focus_distance is None:
            missing.append(
                "the distance from the focus of the beam to the sample, infinite for a parallel beam "
                "(focus_distance= ; --focus-distance '3.65 mm' or inf)"
            )
        if self.kind == "near" and self.angle_per_pixel is not None:
            missing.append("distance= and detector_pixel= instead of angle_per_pixel: the field is near")
        if missing:
            raise DataError("the data do not state, and nobody gave:\n  - " + "\n  - ".join(missing))
        return replace(
            self, wavelength=lam, energy=None, voltage=None, distance=distance, detector_pixel=pixel
        )

    @property
    def magnification(self) -> float:
        """Near field: ``(z1 + z) / z1``; 1 for a parallel beam and in the far field."""
        if self.kind != "near" or self.focus_distance is None or np.isinf(self.focus_distance):
            return 1.0
        return (self.focus_distance + self._need("distance")) / self.focus_distance

    @property
    def effective_distance(self) -> float:
        """Near field: distance of the equal experiment in a parallel beam, m."""
        return self._need("distance") / self.magnification

    def pixel_size(self, shape: tuple[int, int]) -> tuple[float, float]:
        """Return the size (y, x) of an object pixel in m, for frames of `shape`."""
        lam = self._need("wavelength")
        if self.angle_per_pixel is not None:
            return lam / (shape[0] * self.angle_per_pixel), lam / (shape[1] * self.angle_per_pixel)
        pixel = self.detector_pixel
        if pixel is None:
            raise DataError("geometry: detector_pixel is not known; use completed(dataset.metadata)")
        if self.kind == "near":
            return pixel[0] / self.magnification, pixel[1] / self.magnification
        z = self._need("distance")
        return lam * z / (shape[0] * pixel[0]), lam * z / (shape[1] * pixel[1])

    def factor(self, shape: tuple[int, int]) -> npt.NDArray[np.complex128] | None:
        """Return the Fresnel factor of near-field data for frames of `shape`; None in the far field."""
        if self.kind != "near":
            return None
        return fresnel_factor(
            shape, self.pixel_size(shape), self._need("wavelength"), self.effective_distance
        )

    def _need(self, name: str) -> float:
        value = getattr(self, name)
        if value is None:
            raise DataError(f"geometry: {name} is not known; use completed(dataset.metadata)")
        return float(value)


def _pair(pixel: Any) -> tuple[float, float] | None:
    if pixel is None:
        return None
    pair = pixel if isinstance(pixel, (tuple, list, np.ndarray)) else (pixel, pixel)
    if len(pair) != 2:
        raise DataError(f"geometry: detector_pixel={pixel!r} is not (y, x), nor one number")
    return in_si("detector_pixel", pair[0]), in_si("detector_pixel", pair[1])
