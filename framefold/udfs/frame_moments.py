"""First moments of frames over a ring, part by part: what centre-of-mass UDFs fold with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.kernels.mask_runs import runs_of_dense
from framefold.kernels.moments import add_moments
from framefold.udfcore.meta import UDFMeta
from framefold.udfcore.namespace import xp_of
from framefold.udfs.virtual_detector import detector_masks


def center_of(sig: tuple[int, ...], cy: float | None, cx: float | None) -> tuple[float, float]:
    """Return (cy, cx), by default the pixel ``(rows // 2, columns // 2)``.

    >>> center_of((8, 9), None, 3.5)
    (4, 3.5)
    """
    rows, cols = sig
    return (rows // 2 if cy is None else cy, cols // 2 if cx is None else cx)


class FrameMoments:
    """Adds sum and first moments of tiles over the ring ``ri < distance <= r`` about (cy, cx).

    Keeps the mask as runs for each signal part of a run.
    """

    def __init__(self, sig: tuple[int, ...], cy: float | None, cx: float | None, r: float, ri: float) -> None:
        self.center = center_of(sig, cy, cx)
        self._mask = detector_masks(sig, "ring", *self.center, r, ri)[0]
        self._parts: dict[int | None, tuple[Any, Any]] = {}  # runs and origin; on a device pixels and weights

    def add(self, meta: UDFMeta, tile: npt.NDArray[Any], out: npt.NDArray[np.float64]) -> None:
        """Add (sum, sum of value * y, sum of value * x) of each frame to `out`, float64 ``(depth, 3)``."""
        index = meta.tiling_scheme_idx
        if index not in self._parts:
            where = meta.sig_slice
            origin = (where.origin[0] - self.center[0], where.origin[1] - self.center[1])
            mask = self._mask[where.get()]
            self._parts[index] = (
                (runs_of_dense(mask[None]), origin)
                if isinstance(tile, np.ndarray)
                else _weights(xp_of(tile), mask, origin)
            )
        if isinstance(tile, np.ndarray):
            add_moments(tile, *self._parts[index], out)
        else:
            pixels, weights = self._parts[index]
            out += tile.reshape(tile.shape[0], -1)[:, pixels].astype(np.float64) @ weights


def _weights(xp: Any, mask: npt.NDArray[np.bool_], origin: tuple[float, float]) -> tuple[Any, Any]:
    """Return the pixels of a mask, and (1, y, x) of each, float64 ``(pixels, 3)``, on a device."""
    pixels = np.flatnonzero(mask)
    y, x = np.divmod(pixels, mask.shape[1])
    return xp.asarray(pixels), xp.asarray(
        np.stack([np.ones(len(pixels)), y + origin[0], x + origin[1]], axis=1)
    )


def shifts_of(moments: npt.NDArray[np.float64], zero: str = "nan") -> npt.NDArray[np.float64]:
    """Return centres of mass (y, x) relative to the centre from moments ``(..., 3)``.

    Frames of sum 0 give NaN, or 0 with ``zero="reference"``; frames that are not there (NaN) stay NaN.
    """
    total = moments[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        shifts: npt.NDArray[np.float64] = moments[..., 1:] / total[..., None]
    if zero == "reference":
        shifts[total == 0] = 0
    shifts[~np.isfinite(shifts).all(axis=-1)] = np.nan
    return shifts
