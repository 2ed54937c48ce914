"""Differential phase contrast with a segmented detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.udf import UDF
from framefold.udfs.field_results import (
    Regression,
    check_real_2d,
    field_plots,
    field_results,
    masked,
    on_scan,
)
from framefold.udfs.mask_container import MaskContainer, MaskEngine
from framefold.udfs.virtual_detector import detector_masks


class DPCUDF(UDF):
    """Shift of the beam as a segmented detector sees it.

    ``shift = sum_k I_k u_k / sum_k I_k`` with the sums `I_k` of the segments and unit vectors `u_k` to
    their middles: between -1 and 1, without unit. Frames without counts in any segment are NaN and invalid.

    Results: ``segments`` (n,), ``raw_shifts`` (y, x), and ``field`` to ``regression`` as of `CoMUDF`.

    Parameters
    ----------
    cy, cx
        Centre, pixels; None: ``rows // 2``, ``columns // 2``.
    r, ri
        Outer and inner radius of the segments, pixels.
    n
        Number of segments, at least 3.
    rotation
        Degrees at which the first segment starts, from +x towards +y. The default puts four segments right,
        down, left and up.
    scan_rotation, flip_y, regression
        As for `CoMUDF`.
    """

    engine = EngineOptions(device=True)

    def __init__(
        self,
        cy: float | None = None,
        cx: float | None = None,
        r: float = float("inf"),
        ri: float = 0.0,
        n: int = 4,
        rotation: float = -45.0,
        scan_rotation: float = 0.0,
        flip_y: bool = False,
        regression: Regression = -1,
    ) -> None:
        if not 0 <= ri < r:
            raise UDFError(f"the inner radius {ri} must be below the outer radius {r}")
        if n < 3:
            raise UDFError(f"a direction needs 3 segments or more, got n={n}")
        super().__init__(
            cy=cy, cx=cx, r=r, ri=ri, n=n, rotation=rotation, scan_rotation=scan_rotation, flip_y=flip_y,
            regression=regression,
        )  # fmt: skip

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Return the native dtype: sums are exact."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare the segment sums and the field made of them."""
        check_real_2d(self)

        def result(*extra: int) -> BufferDecl:
            return self.buffer("nav", extra, "float64", use="result_only")

        return {
            "segments": self.buffer("nav", (self.params.n,), "float64", reduce="sum"),
            "raw_shifts": result(2),
            "field": result(2),
            **{name: result() for name in ("field_y", "field_x", "magnitude", "divergence", "curl")},
            "regression": self.buffer("single", (3, 2), "float64", use="result_only"),
        }

    def get_worker_data(self) -> Mapping[str, Any]:
        """Return the segments as runs of pixels."""
        p = self.params
        sig = tuple(self.meta.dataset_shape.sig)
        stack = detector_masks(sig, "segments", p.cy, p.cx, p.r, p.ri, n=p.n, rotation=p.rotation)
        return {"engine": MaskEngine(MaskContainer(stack), sparse=True)}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Add the segment sums of one part of the frames."""
        sums = self.xp.zeros(self.results.segments.shape, np.float64 if tile.dtype.kind == "f" else np.int64)
        self.worker_data.engine.add(self.meta, tile, sums)
        self.results.segments += sums

    def get_results(self) -> Mapping[str, Any]:
        """Return segment sums, shifts and fields."""
        p = self.params
        sums = on_scan(self, self.results.segments)
        middle = np.deg2rad(p.rotation) + (np.arange(p.n) + 0.5) * 2 * np.pi / p.n
        directions = np.stack([np.sin(middle), np.cos(middle)], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            shifts = sums @ directions / sums.sum(axis=-1, keepdims=True)
        shifts[~np.isfinite(shifts).all(axis=-1)] = np.nan
        return {
            "segments": self.results.segments,
            "raw_shifts": masked(shifts),
            **field_results(shifts, p.scan_rotation, p.flip_y, p.regression),
        }

    def get_plots(self) -> Sequence[PlotSpec]:
        """Draw the field as colours, and its divergence."""
        return field_plots()
