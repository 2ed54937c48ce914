"""Weighted sums of each frame with masks."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.udfcore.auxdata import AuxData
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.udf import UDF
from framefold.udfs.mask_container import MaskContainer, MaskEngine, Masks


class ApplyMasksUDF(UDF):
    """Sum each frame times each mask: ``intensity[k] = sum over pixels of frame * mask[k]``.

    Result ``intensity``: navigation shape + ``(masks,)``. Integer masks on integer data are exact (int64);
    otherwise the dtype is the joint one of data and masks, at least float32 (relative error below 1e-6).
    Masks that are mostly zero touch only their pixels, so that NaN outside them does no harm.

    Parameters
    ----------
    masks
        Arrays of the signal shape, stacks, scipy or pydata sparse arrays, functions without arguments that
        return these (called once on each worker), or a list of any of them.
    shifts
        (dy, dx) in pixels for all frames, or ``ApplyMasksUDF.aux_data(..., kind="nav", extra_shape=(2,))``
        per frame: positive moves the masks down and right. What leaves the frame does not count; without
        overlap the sum is 0. Rounded half to even, which a warning says.
    use_sparse
        True: treat every mask as sparse; False: as dense; None: by how much of it is zero.
    mask_count, mask_dtype
        Number and dtype, to be known without calling functions; masks are cast to `mask_dtype`.

    Examples
    --------
    >>> import numpy as np
    >>> disk = np.hypot(*np.ogrid[-4:4, -4:4]) < 3
    >>> ApplyMasksUDF([disk, ~disk]).params.shifts is None
    True
    """

    engine = EngineOptions(device=True)

    def __init__(
        self,
        masks: Masks,
        shifts: AuxData | Sequence[float] | npt.NDArray[Any] | None = None,
        use_sparse: bool | None = None,
        mask_count: int | None = None,
        mask_dtype: npt.DTypeLike | None = None,
    ) -> None:
        # rounded before it travels: workers make this object again, and must not warn again
        shifts = None if shifts is None else _whole_pixels(shifts)
        super().__init__(
            masks=masks, shifts=shifts, use_sparse=use_sparse, mask_count=mask_count, mask_dtype=mask_dtype
        )
        self._masks = MaskContainer(masks, mask_dtype, mask_count)

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Return the native dtype: conversion happens in registers."""
        return self.USE_NATIVE_DTYPE

    def get_backends(self) -> Sequence[str] | str:
        """Take arrays of a device, too, where masks do not move."""
        return super().get_backends() if self.params.shifts is None else self.BACKEND_NUMPY

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare ``intensity``, accumulated in 64 bits per component."""
        sig = self.meta.dataset_shape.sig
        if self.params.shifts is not None and len(sig) != 2:
            raise UDFError(f"shifts need 2-D frames, the signal shape is {tuple(sig)}")
        dtype = self._masks.sum_dtype(self.meta)
        return {"intensity": self.buffer("nav", (self._masks.count(sig),), dtype, reduce="sum")}

    def get_worker_data(self) -> Mapping[str, Any]:
        """Return the masks, prepared for each signal part when it first comes."""
        return {"engine": MaskEngine(self._masks, self.params.use_sparse, self.params.shifts is not None)}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Add the sums of one part of the frames."""
        self.worker_data.engine.add(self.meta, tile, self.results.intensity, self.params.shifts)

    def get_results(self) -> Mapping[str, Any]:
        """Return the sums in the precision that they have."""
        dtype = self._masks.result_dtype(self.meta)
        return {"intensity": self.results.intensity.astype(dtype, copy=False)}

    def get_plots(self) -> Sequence[PlotSpec]:
        """Draw the sums of the first mask."""
        return (PlotSpec("image", ("intensity",)),)


def _whole_pixels(shifts: Any) -> AuxData | npt.NDArray[np.int64]:
    values = shifts.array if isinstance(shifts, AuxData) else np.asarray(shifts)
    if values.dtype.kind not in "iuf" or not np.all(np.isfinite(values)):
        raise UDFError("shifts must be finite numbers (dy, dx)")
    rounded = np.rint(values).astype(np.int64)
    if np.any(rounded != values):
        warnings.warn(
            "mask shifts are not whole pixels: they are rounded (half to even)", UserWarning, stacklevel=4
        )
    if isinstance(shifts, AuxData):
        if shifts.extra_shape != (2,):
            raise UDFError(f"shifts need extra_shape=(2,), got {shifts.extra_shape}")
        return AuxData(rounded, shifts.kind, shifts.extra_shape, np.int64)
    if rounded.shape != (2,):
        raise UDFError(f"shifts are two numbers (dy, dx), got shape {rounded.shape}")
    return rounded
