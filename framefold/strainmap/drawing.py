"""Figures of a strain map: its four maps, and one frame with what was fitted to it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.blobfinder.strain_udf import MAPS

if TYPE_CHECKING:
    from framefold.strainmap.value import StrainMap

Float = npt.NDArray[np.float64]


def maps(m: StrainMap, path: str | os.PathLike[str] | None) -> Any:
    """Return a figure of the four maps, written to `path` if given."""
    from framefold.plot.strain import maps_figure  # matplotlib only where something is drawn

    figure = maps_figure({name: getattr(m, name) for name in MAPS}, m.axes, m.axes_degrees)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def fit(m: StrainMap, position: tuple[int, ...], path: str | os.PathLike[str] | None) -> Any:
    """Return a figure of the frame at `position` with its disks, written to `path` if given."""
    from framefold.plot.strain import fit_figure

    if len(position) != len(m.shape) or any(not -n <= p < n for p, n in zip(position, m.shape, strict=True)):
        raise DataError(f"plot_fit takes a position of the scan {m.shape}, got {position}")
    if m.read_frame is None:
        raise DataError("this map came from a file or a live stream: the frame to draw is not at hand")
    at = tuple(p % n for p, n in zip(position, m.shape, strict=True))
    flat = int(np.ravel_multi_index(at, m.shape))
    image = m.read_frame(flat)
    la = m.lattices
    grain = int(la["grain"][at])
    hk = m.indices if m.indices.ndim == 2 else m.indices[grain]
    fitted = la["zero"][at] + hk @ np.stack([la["a"][at], la["b"][at]]).astype(np.float64)
    # disks that counted belong to the nearest lattice point, wherever they were looked for
    fitted = _paired(m.peaks["centers"][at], m.peaks["selector"][at], fitted)
    figure = fit_figure(
        image, m.lattice[grain].positions(hk), m.peaks["centers"][at], fitted,
        m.peaks["selector"][at], m.radius,
        title=f"frame {at}, residual {float(la['residual'][at]):.3f} px",
    )  # fmt: skip
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _paired(found: npt.NDArray[Any], used: npt.NDArray[Any], fitted: Float) -> Float:
    """Return `fitted` with the points that are nearest to used disks at their indices."""
    out = fitted.copy()
    if np.isfinite(fitted).all() and used.any():
        far = np.hypot(*(found[used][:, None] - fitted[None]).transpose(2, 0, 1))
        out[used] = fitted[np.argmin(far, axis=1)]
    return out
