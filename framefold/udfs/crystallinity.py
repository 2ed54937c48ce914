"""How crystalline the specimen is: Fourier amplitude of each frame in a ring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.kernels.spectral import HalfTransform, half_ring, ring_amplitude
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.udf import UDF
from framefold.udfs.field_results import check_real_2d
from framefold.udfs.virtual_detector import detector_masks


class CrystallinityUDF(UDF):
    """Sum of the Fourier amplitude of each frame over a ring of the half plane ``kx >= 0``.

    Result ``intensity``: navigation shape, float32; transforms in single precision, error below 1e-5.

    Parameters
    ----------
    rad_in, rad_out
        Radii in pixels of the spectrum (cycles per frame): ``rad_in < |k| <= rad_out``.
    real_center, real_rad
        (y, x) and radius of a disk that is set to zero first, usually the direct beam; both or none.

    Examples
    --------
    >>> CrystallinityUDF(rad_in=4, rad_out=6, real_center=(8, 8), real_rad=3)
    CrystallinityUDF(rad_in=4, rad_out=6, real_center=(8, 8), real_rad=3)
    """

    engine = EngineOptions(whole_frames=True, device=True)

    def __init__(
        self,
        rad_in: float,
        rad_out: float,
        real_center: tuple[float, float] | None = None,
        real_rad: float | None = None,
    ) -> None:
        if not 0 <= rad_in < rad_out:
            raise UDFError(f"the inner radius {rad_in} must be below the outer radius {rad_out}")
        if (real_center is None) != (real_rad is None):
            raise UDFError("real_center and real_rad go together: give both or none")
        super().__init__(rad_in=rad_in, rad_out=rad_out, real_center=real_center, real_rad=real_rad)

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Return the native dtype: the window is applied while converting."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare ``intensity``."""
        check_real_2d(self)
        return {"intensity": self.buffer("nav", dtype="float32")}

    def get_worker_data(self) -> Mapping[str, Any]:
        """Return the ring in Fourier space and the window in real space."""
        p = self.params
        sig = tuple(self.meta.dataset_shape.sig)
        window = None
        if p.real_center is not None:
            cy, cx = p.real_center
            disk = detector_masks(sig, "disk", cy, cx, p.real_rad, 0.0)[0]
            window = (~disk).astype(np.float32)
        ring = half_ring(sig, p.rad_in, p.rad_out)
        double = self.meta.input_dtype == np.float64
        if self.xp is not np:
            on_device = self.xp.asarray
            window = None if window is None else on_device(window)
            return {"ring": replace(ring, mask=on_device(ring.mask)), "window": window, "transform": None}
        return {
            "ring": ring,
            "window": window,
            "transform": HalfTransform(ring, double) if ring.columns else None,
        }

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Write the ring sums of whole frames."""
        data = self.worker_data
        self.results.intensity[:] = ring_amplitude(tile, data.ring, data.window, data.transform)

    def get_plots(self) -> Sequence[PlotSpec]:
        """Draw the crystallinity over the scan."""
        return (PlotSpec("image", ("intensity",)),)
