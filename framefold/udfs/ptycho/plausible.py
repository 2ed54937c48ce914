"""Whether geometry, positions and frames can belong together; errors say what to ask the file's author."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.ptycho.positions import typical_step

Array = npt.NDArray[Any]
NEAR = (
    "Geometry(kind='near', focus_distance=...) ; --near-field --focus-distance '3.65 mm' (inf for a "
    "parallel beam)"
)
SMALL_SCAN = 0.5  # px: frames from one place say nothing more than one frame
WIDE_STEP = 0.4  # of the field: probes wider than that would touch its border
BORDER_LIGHT = 0.2  # of the median of the frame, at its border: more is not far-field diffraction


def look_like_far_field(mean: Array, good: npt.NDArray[np.bool_]) -> None:
    """Refuse frames whose border is bright: mostly a near-field hologram."""
    edge = max(1, min(mean.shape) // 20)
    border = np.ones(mean.shape, bool)
    border[edge:-edge, edge:-edge] = False
    outside, inside = border & good, ~border & good
    if not outside.any() or not inside.any():
        return
    at_border = float(np.median(mean[outside]))
    typical = float(mean[inside].mean())
    if typical > 0 and at_border > BORDER_LIGHT * typical:
        raise DataError(
            f"these frames do not look like far-field diffraction: their border has {at_border:.3g} counts "
            f"per pixel, {100 * at_border / typical:.0f} % of the mean. If the detector sees a Fresnel "
            "hologram "
            f"(near field), say so, and how far the beam's focus is from the sample: {NEAR}. If it is "
            "the far "
            "field on a bright background: Geometry(kind='far') ; --far-field"
        )


def frames_touch(pixels: npt.NDArray[np.float64], shape: tuple[int, int], size: tuple[float, float]) -> None:
    """Refuse positions further apart than a frame is wide, or all in one place: mostly a wrong unit."""
    units = "ScanPositions(units=) ; --position-units takes m, mm, um, nm or px of the object"
    step = typical_step(pixels)
    if step > min(shape):
        raise DataError(
            f"the positions lie {step:.3g} object pixels apart (of {size[0]:.3g} m), more than the "
            f"{min(shape)} that a frame covers: are they in m? {units}; or check wavelength and distance"
        )
    extent = float(np.ptp(pixels, axis=0).max())
    if len(pixels) > 1 and extent < SMALL_SCAN:
        raise DataError(
            f"all positions lie within {extent:.3g} object pixels (of {size[0]:.3g} m): are they in m? "
            f"{units}; or check wavelength and distance"
        )


def frames_overlap(pixels: npt.NDArray[np.float64], shape: tuple[int, int]) -> None:
    """Refuse far-field geometry whose steps exceed what any probe in the frame's field could cover."""
    step = typical_step(pixels)
    if step > WIDE_STEP * min(shape):
        raise DataError(
            f"as far-field diffraction, the frames would hardly overlap: the typical step is {step:.0f} "
            "px of a "
            f"field of {min(shape)} px. If the detector sees Fresnel holograms (near field), say so, and "
            "how far "
            f"the beam's focus is from the sample: {NEAR}. Otherwise check wavelength, distance and the "
            "unit of "
            "the positions; Geometry(kind='far') ; --far-field goes on all the same"
        )
