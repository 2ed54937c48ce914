"""Azimuthal mean and variance of each frame as a function of radius."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.kernels.radial import RadialBins, add_radial, radial_bins, select_part
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.udf import UDF
from framefold.udfs.field_results import check_real_2d


class RadialProfileUDF(UDF):
    """Mean and variance of the pixels in rings of equal width.

    Results, float64: ``profile`` and ``variance`` of navigation kind ``(n_bins,)``; ``counts`` ``(n_bins,)``,
    the pixels (or area) of each ring. Rings without pixels are NaN and invalid.

    Parameters
    ----------
    center
        (y, x) in pixels; None: ``(rows // 2, columns // 2)``.
    n_bins
        Rings; None: one per pixel of radius.
    r_max
        Outer radius of the last ring, pixels; None: to the nearest edge of the frame.
    ellipse
        (ratio, angle): rings are ellipses whose axis at `angle` degrees (from +x towards +y) is `ratio` times
        the other; radii are those of circles of equal area. None: circles.
    split
        Share pixels between rings by area, instead of giving each to the ring of its centre.
    mask
        Bool, signal shape: pixels that count; None: all.

    Examples
    --------
    >>> RadialProfileUDF(center=(64, 64), n_bins=60, r_max=60.0).params.n_bins
    60
    """

    engine = EngineOptions(device=True)

    def __init__(
        self,
        center: tuple[float, float] | None = None,
        n_bins: int | None = None,
        r_max: float | None = None,
        ellipse: tuple[float, float] | None = None,
        split: bool = False,
        mask: npt.ArrayLike | None = None,
    ) -> None:
        if n_bins is not None and n_bins < 1:
            raise UDFError(f"n_bins={n_bins}: at least one ring is needed")
        if r_max is not None and not r_max > 0:
            raise UDFError(f"r_max={r_max} must be positive")
        if ellipse is not None and not ellipse[0] > 0:
            raise UDFError(f"the axis ratio {ellipse[0]} of the ellipse must be positive")
        super().__init__(center=center, n_bins=n_bins, r_max=r_max, ellipse=ellipse, split=split, mask=mask)

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Return the native dtype: sums are taken in float64."""
        return self.USE_NATIVE_DTYPE

    def rings(self) -> tuple[tuple[float, float], int, float]:
        """Return centre, number of rings and outer radius, with defaults filled in."""
        p = self.params
        rows, cols = self.meta.dataset_shape.sig
        cy, cx = (rows // 2, cols // 2) if p.center is None else p.center
        # pixel edges are at -0.5 and n - 0.5; a centre outside the frame has no nearest edge inside
        edge = max(1.0, min(cy + 0.5, rows - 0.5 - cy, cx + 0.5, cols - 0.5 - cx))
        r_max = edge if p.r_max is None else float(p.r_max)
        return (cy, cx), math.ceil(r_max) if p.n_bins is None else p.n_bins, r_max

    def _entries(self) -> Any:
        p = self.params
        sig = tuple(self.meta.dataset_shape.sig)
        mask = None if p.mask is None else np.asarray(p.mask, dtype=bool)
        if mask is not None and mask.shape != sig:
            raise UDFError(f"the mask has shape {mask.shape}, the frames have shape {sig}")
        center, n_bins, r_max = self.rings()
        return radial_bins(sig, center, n_bins, r_max, p.ellipse, p.split, mask)

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare the sums (private) and what is made of them."""
        check_real_2d(self)
        n = self.rings()[1]
        return {
            "total": self.buffer("nav", (n,), "float64", use="private", reduce="sum"),
            "square": self.buffer("nav", (n,), "float64", use="private", reduce="sum"),
            "profile": self.buffer("nav", (n,), "float64", use="result_only"),
            "variance": self.buffer("nav", (n,), "float64", use="result_only"),
            "counts": self.buffer("single", (n,), "float64", use="result_only"),
        }

    def get_worker_data(self) -> Mapping[str, Any]:
        """Return the pixels of each ring, and those of each signal part."""
        return {"entries": self._entries(), "parts": {}}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Add the ring sums of one part of the frames."""
        data, index = self.worker_data, self.meta.tiling_scheme_idx
        if index not in data.parts:
            sig = tuple(self.meta.dataset_shape.sig)
            part = select_part(data.entries, sig, self.meta.sig_slice.get())
            data.parts[index] = part if self.xp is np else self._on_device(part)
        if self.xp is np:
            add_radial(tile, data.parts[index], self.results.total, self.results.square)
            return
        pixels, bins, weights = data.parts[index]
        values = tile.reshape(tile.shape[0], -1)[:, pixels].astype(np.float64)
        where = (self.xp.arange(tile.shape[0])[:, None], bins[None, :])
        self.xp.add.at(self.results.total, where, weights * values)
        self.xp.add.at(self.results.square, where, weights * values * values)

    def _on_device(self, part: RadialBins) -> tuple[Any, ...]:
        pixels = np.repeat(np.arange(len(part.ptr) - 1), np.diff(part.ptr))
        weights = np.ones(len(pixels)) if part.weights is None else part.weights
        return tuple(self.xp.asarray(a) for a in (pixels, part.bins, weights))

    def get_results(self) -> Mapping[str, Any]:
        """Return profile, variance and counts."""
        _, bins, weights = self._entries()
        counts = np.bincount(bins, weights, minlength=self.rings()[1])
        merged = self.meta.get_valid_nav_mask()
        valid = (counts > 0) & np.asarray(merged)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            profile = self.results.total / counts
            variance = np.maximum(self.results.square / counts - profile**2, 0)
        return {
            "profile": self.with_mask(profile, valid),
            "variance": self.with_mask(variance, valid),
            "counts": counts,
        }

    def get_plots(self) -> Sequence[PlotSpec]:
        """Draw the profiles."""
        return (PlotSpec("line", ("profile",)),)
