"""The strongest periodicities of each frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.kernels.spectral import HalfTransform, half_ring, strongest_peaks
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.udf import UDF
from framefold.udfs.field_results import check_real_2d


class SpectralPeaksUDF(UDF):
    """The strongest local maxima of the Fourier amplitude of each frame, of which half a plane is looked at.

    Results of navigation kind: ``peaks`` (n, 2), frequencies (ky, kx) in cycles per frame, ``kx >= 0``,
    strongest first; ``amplitude`` (n,); ``count``, how many there are. The rest of ``peaks`` is NaN.

    Parameters
    ----------
    n
        How many peaks to keep.
    rad_in, rad_out
        Where to look: ``rad_in < |k| <= rad_out``; `rad_out` None: everywhere.
    window
        Multiply frames by a Hann window, so that their edges make no peaks.
    """

    engine = EngineOptions(whole_frames=True)

    def __init__(
        self, n: int = 6, rad_in: float = 2.0, rad_out: float | None = None, window: bool = True
    ) -> None:
        if n < 1:
            raise UDFError(f"n={n}: at least one peak is needed")
        if not 0 <= rad_in < (np.inf if rad_out is None else rad_out):
            raise UDFError(f"the inner radius {rad_in} must be below the outer radius {rad_out}")
        super().__init__(n=n, rad_in=rad_in, rad_out=rad_out, window=window)

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Return the native dtype: the window is applied while converting."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare ``peaks``, ``amplitude`` and ``count``."""
        check_real_2d(self)
        n = self.params.n
        return {
            "peaks": self.buffer("nav", (n, 2), "float32"),
            "amplitude": self.buffer("nav", (n,), "float32"),
            "count": self.buffer("nav", dtype="int64"),
        }

    def get_worker_data(self) -> Mapping[str, Any]:
        """Return the region of Fourier space and the window."""
        p = self.params
        rows, cols = self.meta.dataset_shape.sig
        window = None
        if p.window:
            window = np.outer(_hann(rows), _hann(cols)).astype(np.float32)
        ring = half_ring((rows, cols), p.rad_in, rows + cols if p.rad_out is None else p.rad_out)
        double = self.meta.input_dtype == np.float64
        return {
            "ring": ring,
            "window": window,
            "transform": HalfTransform(ring, double) if ring.columns else None,
        }

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Write the peaks of whole frames."""
        data, n = self.worker_data, self.params.n
        ring = data.ring
        if not ring.columns:
            self.results.peaks[:] = np.nan
            return
        rows = ring.shape[0]
        for f, frame in enumerate(tile):
            one = np.abs(data.transform(frame, data.window))
            where, height = np.zeros((n, 2), dtype=np.int64), np.zeros(n)
            found = strongest_peaks(one, ring.mask, where, height)
            peaks = where.astype(np.float32)
            peaks[where[:, 0] > rows // 2, 0] -= rows
            peaks[found:] = np.nan
            self.results.peaks[f] = peaks
            self.results.amplitude[f] = height
            self.results.count[f] = found

    def get_plots(self) -> Sequence[PlotSpec]:
        """Draw the amplitude of the strongest peak."""
        return (PlotSpec("image", ("amplitude",)),)


def _hann(n: int) -> npt.NDArray[np.float64]:
    """Return the periodic Hann window."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n)
