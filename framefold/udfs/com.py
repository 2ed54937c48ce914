"""Centre of mass of each frame, and the field, divergence and curl that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.udf import UDF
from framefold.udfs.com_fields import GuessResult, guess_corrections
from framefold.udfs.field_results import (
    Regression,
    check_real_2d,
    field_plots,
    field_results,
    masked,
    on_scan,
)
from framefold.udfs.frame_moments import FrameMoments, center_of, shifts_of

__all__ = ["CoMUDF", "GuessResult", "guess_corrections"]


class CoMUDF(UDF):
    """Centre of mass of each frame over a disk, a ring or everything.

    Sums and moments are taken in float64 about the centre: the error is that of the counts, not of rounding.

    Results, all of navigation kind unless stated:

    ========================  ==============================================================================
    ``raw_com`` (2,)          centre of mass (y, x) in detector pixels
    ``raw_shifts`` (2,)       the same relative to (cy, cx)
    ``field`` (2,)            the shifts in scan coordinates: flipped, rotated, background subtracted
    ``field_y``, ``field_x``  its components
    ``magnitude``             its length
    ``divergence``, ``curl``  dFy/dy + dFx/dx and dFy/dx - dFx/dy per scan step, central differences; NaN at
                              positions without a value and next to them
    ``regression`` (3, 2)     single: the background ``[[y, x], [dy/dy, dx/dy], [dy/dx, dx/dx]]``
    ========================  ==============================================================================

    Parameters
    ----------
    cy, cx
        Centre of the mask and reference of the shifts, pixels; None: ``rows // 2``, ``columns // 2``.
    r, ri
        Only pixels with ``ri < distance <= r`` count (`ri` 0: the whole disk).
    scan_rotation
        Degrees from the detector's axes to those of the scan: ``y' = y cos a + x sin a``,
        ``x' = x cos a - y sin a``.
    flip_y
        Reverse y first (detectors that count rows from below).
    regression
        Background of the field to subtract: -1 none, 0 its mean, 1 mean and slopes, or the (3, 2) numbers
        from another run. Fits follow what is in the data, long-range fields included.
    zero
        What a frame of sum zero gives: ``"nan"``, marked invalid, or ``"reference"``, a shift of 0.

    Examples
    --------
    >>> CoMUDF(cy=63.5, cx=64, r=30, scan_rotation=-12.5).params.r
    30
    """

    engine = EngineOptions(device=True)

    def __init__(
        self,
        cy: float | None = None,
        cx: float | None = None,
        r: float = float("inf"),
        ri: float = 0.0,
        scan_rotation: float = 0.0,
        flip_y: bool = False,
        regression: Regression = -1,
        zero: Literal["nan", "reference"] = "nan",
    ) -> None:
        ri = 0.0 if ri is None else ri
        if not 0 <= ri < r:
            raise UDFError(f"the inner radius {ri} must be below the outer radius {r}")
        if zero not in ("nan", "reference"):
            raise UDFError(f"zero={zero!r} is not 'nan' or 'reference'")
        if np.ndim(regression) == 0:
            if regression not in (-1, 0, 1):
                raise UDFError(f"regression={regression!r} is not -1, 0, 1 or an array of shape (3, 2)")
        elif np.shape(regression) != (3, 2):
            raise UDFError(f"regression has shape {np.shape(regression)}, expected (3, 2)")
        super().__init__(
            cy=cy, cx=cx, r=r, ri=ri, scan_rotation=scan_rotation, flip_y=flip_y, regression=regression,
            zero=zero,
        )  # fmt: skip

    @classmethod
    def with_params(cls, **params: Any) -> CoMUDF:
        """Return ``CoMUDF(**params)``."""
        return cls(**params)

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Return the native dtype: the kernel converts in registers."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare the moments (private) and what is made of them."""
        check_real_2d(self)

        def result(*extra: int) -> BufferDecl:
            return self.buffer("nav", extra, "float64", use="result_only")

        return {
            "moments": self.buffer("nav", (3,), "float64", use="private", reduce="sum"),
            "raw_com": result(2),
            "raw_shifts": result(2),
            "field": result(2),
            "field_y": result(),
            "field_x": result(),
            "magnitude": result(),
            "divergence": result(),
            "curl": result(),
            "regression": self.buffer("single", (3, 2), "float64", use="result_only"),
        }

    def get_worker_data(self) -> Mapping[str, Any]:
        """Return the mask and its runs per signal part."""
        p = self.params
        return {"moments": FrameMoments(tuple(self.meta.dataset_shape.sig), p.cy, p.cx, p.r, p.ri)}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Add sum and moments of one part of the frames."""
        self.worker_data.moments.add(self.meta, tile, self.results.moments)

    def get_results(self) -> Mapping[str, Any]:
        """Return shifts and fields; NaN and invalid where there is no value."""
        p = self.params
        shifts = shifts_of(on_scan(self, self.results.moments), p.zero)
        return {
            "raw_com": masked(shifts + center_of(tuple(self.meta.dataset_shape.sig), p.cy, p.cx)),
            "raw_shifts": masked(shifts),
            **field_results(shifts, p.scan_rotation, p.flip_y, p.regression),
        }

    def get_plots(self) -> Sequence[PlotSpec]:
        """Draw the field as colours, and its divergence."""
        return field_plots()
