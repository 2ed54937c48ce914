"""The reference of a strain map: a region of it, the median, known vectors or known spacings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.blobfinder.lattice import as_lattice
from framefold.udfs.blobfinder.strain import Frame, reference_mean, reference_median, reference_of_spacings

Float = npt.NDArray[np.float64]


def new_reference(
    la: Mapping[str, npt.NDArray[Any]], valid: npt.NDArray[np.bool_], old: Float, frame: Frame, *,
    roi: npt.ArrayLike | None = None, known: Sequence[Sequence[float]] | None = None,
    spacings: tuple[float, float, float] | None = None, step: float | None = None,
) -> Float:  # fmt: skip
    """Return a reference of the shape of `old` for lattices `la`; arguments as `StrainMap.rereference`."""
    if sum(v is not None for v in (roi, known, spacings)) > 1:
        raise DataError("rereference takes roi=, known= or spacings=, not both")
    if (spacings is None) != (step is None):
        raise DataError(
            "spacings= and step=, the reciprocal length per px, belong together; step= may be left out where "
            "the file of the frames states a calibrated detector"
        )
    if spacings is not None and step is not None:
        middle = new_reference(la, valid, old, frame).reshape(-1, 2, 2)
        made = [reference_of_spacings(spacings, step, G, frame) for G in middle]
        return np.reshape(made, old.shape)
    if known is not None:
        G = np.asarray(known, dtype=np.float64)
        if G.shape != old.shape:
            raise DataError(f"known is (a, b) for each lattice: shape {old.shape}, got {G.shape}")
        for a, b in G.reshape(-1, 2, 2):
            as_lattice([(0.0, 0.0), a, b])
        return G
    inside = np.ones(valid.shape, bool) if roi is None else region(roi, valid.shape)
    if not (inside & valid).any():
        raise DataError("the reference region holds no valid frame: choose another")
    average = reference_median if roi is None else reference_mean
    made = []
    for g in range(old.size // 4):
        here = valid & (la["grain"] == g)
        chosen = here & inside
        made.append(
            average(la["a"], la["b"], chosen) if chosen.any() else reference_median(la["a"], la["b"], here)
        )
    return np.reshape(made, old.shape)


def region(roi: Any, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return a bool mask of `shape` from a mask or from an index such as ``np.s_[:, :20]``."""
    if isinstance(roi, np.ndarray) and roi.dtype == np.bool_:
        if roi.shape != shape:
            raise DataError(f"the region has the shape {roi.shape}, the scan {shape}")
        return roi
    mask = np.zeros(shape, bool)
    try:
        mask[roi] = True
    except (IndexError, TypeError) as exc:
        raise DataError(f"the region {roi!r} does not fit the scan {shape}: {exc}") from exc
    return mask
