"""Fluctuation electron microscopy: how much the intensity varies inside a ring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.kernels.mask_runs import runs_of_dense
from framefold.kernels.ring_std import ring_std
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.udf import UDF
from framefold.udfs.field_results import check_real_2d
from framefold.udfs.virtual_detector import detector_masks


class FEMUDF(UDF):
    """Standard deviation (ddof 0) of the pixels of a ring, frame by frame, in float64.

    Result ``intensity``: navigation shape, float64; NaN if the ring holds no pixel.

    Parameters
    ----------
    center
        (y, x) of the ring, pixels.
    rad_in, rad_out
        Pixels with ``rad_in < distance <= rad_out`` count.

    Examples
    --------
    >>> FEMUDF(center=(64, 64), rad_in=20, rad_out=30)
    FEMUDF(center=(64, 64), rad_in=20, rad_out=30)
    """

    engine = EngineOptions(whole_frames=True, device=True)

    def __init__(self, center: tuple[float, float], rad_in: float, rad_out: float) -> None:
        if not 0 <= rad_in < rad_out:
            raise UDFError(f"the inner radius {rad_in} must be below the outer radius {rad_out}")
        super().__init__(center=center, rad_in=rad_in, rad_out=rad_out)

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Return the native dtype: the kernel converts in registers."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare ``intensity``."""
        check_real_2d(self)
        return {"intensity": self.buffer("nav", dtype="float64")}

    def get_worker_data(self) -> Mapping[str, Any]:
        """Return the ring as runs of pixels."""
        p = self.params
        cy, cx = p.center
        sig = tuple(self.meta.dataset_shape.sig)
        mask = detector_masks(sig, "disk", cy, cx, p.rad_out, 0.0)
        mask &= ~detector_masks(sig, "disk", cy, cx, p.rad_in, 0.0)
        return {"runs": runs_of_dense(mask), "pixels": self.xp.asarray(np.flatnonzero(mask))}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Write the deviation of whole frames."""
        data = self.worker_data
        if self.xp is np:
            self.results.intensity[:] = ring_std(tile, data.runs)
        elif data.runs.pixels:
            ring = tile.reshape(tile.shape[0], -1)[:, data.pixels]
            self.results.intensity[:] = ring.astype(np.float64).std(axis=1)
        else:
            self.results.intensity[:] = np.nan

    def get_plots(self) -> Sequence[PlotSpec]:
        """Draw the deviation over the scan."""
        return (PlotSpec("image", ("intensity",)),)
