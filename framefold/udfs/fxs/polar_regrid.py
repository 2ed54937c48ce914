"""Polar frames for any UDF: the polar operator as a transform of ``pre=``."""

# ruff: noqa: D102  # the methods are documented by the protocol in `framefold.udfcore.pre`

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.udfcore.transform_base import Region, Scope, Sig
from framefold.udfs.fxs.build import build_operator
from framefold.udfs.fxs.geometry import Geometry
from framefold.udfs.fxs.grid import PolarGrid
from framefold.udfs.fxs.pixels import PixelModel
from framefold.udfs.fxs.regrid import PolarOperator

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class PolarRegrid:
    """Turn detector frames into polar frames ``(n_q, n_phi)``, float32; for ``pre=[PolarRegrid(...)]``.

    Equal if geometry, grid, pixels and options are. Corrections of the run (``corrections=``) come before
    transforms, so give dark and gain either there or in `pixels`.

    Parameters
    ----------
    geometry, grid, pixels
        Where pixels are, which bins, and what counts mean.
    splitting
        ``"subpixel"``, ``"none"`` or ``"bilinear"``, see `build_operator`.
    min_coverage
        Bins that keep less of their response hold `fill`.
    fill
        Value of bins that no good pixel covers.

    Raises
    ------
    UDFError
        Before the run, if frames have another shape than the geometry.

    Examples
    --------
    >>> geo = Geometry(distance=0.2, pixel_size=75e-6, wavelength=2e-10, centre=(32, 32), shape=(64, 64))
    >>> PolarRegrid(geo, PolarGrid(n_q=5, n_phi=16, q_min=0.005, q_max=0.03)).out_shape((64, 64))
    (5, 16)
    """

    geometry: Geometry
    grid: PolarGrid
    pixels: PixelModel | None = None
    splitting: str = "subpixel"
    min_coverage: float = 0.5
    fill: float = float("nan")
    scope: ClassVar[Scope] = "frame"

    @cached_property
    def operator(self) -> PolarOperator:
        """The sparse matrix; made once in each process."""
        return build_operator(
            self.geometry, self.grid, self.pixels, splitting=self.splitting, min_coverage=self.min_coverage
        )

    @cached_property
    def empty(self) -> npt.NDArray[np.bool_]:
        """``(n_q, n_phi)``: True where a bin holds `fill`; the mask of polar frames for `C2UDF`."""
        return self.operator.weight == 0

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        pixels = (self.pixels or PixelModel()).identity
        return (self.geometry.identity, self.grid, pixels, self.splitting, self.min_coverage, repr(self.fill))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PolarRegrid) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> tuple[Any, ...]:  # without the operator, which is larger than a frame
        return PolarRegrid, (
            self.geometry, self.grid, self.pixels, self.splitting, self.min_coverage, self.fill,
        )  # fmt: skip

    def out_shape(self, sig: Sig) -> Sig:
        if tuple(sig) != self.geometry.shape:
            raise UDFError(f"PolarRegrid: frames have shape {tuple(sig)}, the geometry {self.geometry.shape}")
        return self.grid.shape

    def out_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        if dtype.kind == "c":
            raise UDFError("PolarRegrid needs intensities, frames are complex: take their absolute square")
        return np.dtype(np.float32)

    def input_slice(self, out_slice: Region, sig_shape: Sig) -> Region:
        return tuple(slice(0, n) for n in sig_shape)

    def apply(self, tile: Array, in_slice: Region, out_slice: Region, out: Array, sig_shape: Sig) -> None:
        polar = self.operator.apply(tile)
        polar[:, self.empty] = self.fill
        out[...] = polar[(slice(None), *out_slice)]
