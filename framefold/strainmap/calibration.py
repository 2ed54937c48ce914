"""What is known of the detector: counts, and reciprocal lengths, kept with a strain map."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from framefold.udfcore.metadata import Axis, Metadata

#: reciprocal lengths as files spell them, in 1/nm
_LENGTHS = {"nm": 1.0, "a": 10.0, "å": 10.0, "angstrom": 10.0, "pm": 1e3, "m": 1e-9}
_ANGLES = {"mrad": 1e-3, "rad": 1.0, "urad": 1e-6, "µrad": 1e-6}


@dataclass(frozen=True)
class Calibration:
    """Of a detector.

    Attributes
    ----------
    gain, pedestal
        Counts per electron, and of none.
    step
        Reciprocal length per px along x, 1/nm (``1 / d``, no 2 pi); None: not known.
    wavelength
        Of the beam, nm; None: not known.
    """

    gain: float = 1.0
    pedestal: float = 0.0
    step: float | None = None
    wavelength: float | None = None


def calibration_of(dataset: Any, gain: float, pedestal: float) -> Calibration:
    """Return what the file of a dataset states, with gain and pedestal as they were used."""
    metadata: Metadata | None = getattr(dataset, "metadata", None)
    stated = None if metadata is None else metadata.wavelength
    return Calibration(gain, pedestal, step_of(dataset), stated * 1e9 if stated else None)


def detector_axes(dataset: Any) -> tuple[Axis, Axis] | None:
    """Return the axes y and x of the detector, or None where the file does not state both."""
    metadata: Metadata | None = getattr(dataset, "metadata", None)
    axes: Sequence[Axis] = () if metadata is None else metadata.axes
    if len(axes) < 2 or not (axes[-2].calibrated and axes[-1].calibrated):
        return None
    return axes[-2], axes[-1]


def aspect_of(dataset: Any) -> float:
    """Return height over width of a pixel as the file states it, else 1."""
    found = detector_axes(dataset)
    if found is None or found[0].units != found[1].units or not found[0].scale * found[1].scale:
        return 1.0
    return abs(found[0].scale / found[1].scale)


def step_of(dataset: Any) -> float | None:
    """Return the reciprocal length per px, 1/nm, of axes in reciprocal lengths or angles."""
    found = detector_axes(dataset)
    if found is None:
        return None
    scale, units = abs(found[1].scale), found[1].units.strip().lower().replace(" ", "")
    match = re.fullmatch(r"1/(\w+)|(\w+)(?:\^|\*\*)?[-−⁻](?:1|¹)", units)
    if match:
        factor = _LENGTHS.get(match[1] or match[2])
        return None if factor is None else scale * factor
    wavelength = dataset.metadata.wavelength
    if units in _ANGLES and wavelength:
        return scale * _ANGLES[units] / (wavelength * 1e9)
    return None
