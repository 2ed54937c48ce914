"""``self.meta``: where in the dataset the current call is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.metadata import Axis
from framefold.udfcore.roi import RowMap
from framefold.udfcore.shapes import Shape, Slice
from framefold.udfcore.tiling import TilingScheme


@dataclass(frozen=True)
class RunInfo:
    """What is the same for a UDF during a whole run; the unchanging part of `UDFMeta`."""

    dataset_shape: Shape
    source_shape: Shape
    dataset_dtype: np.dtype[Any]
    input_dtype: np.dtype[Any]
    rows: RowMap
    roi: npt.NDArray[np.bool_] | None
    scheme: TilingScheme | None
    corrections: Any
    axes: tuple[Axis, ...]
    backend: str
    run_id: str


class UDFMeta:
    """Read by user code as ``self.meta``; slices and coordinates are built only when read.

    Navigation indices are flat and ROI-compressed in `slice`, full in `coordinates` and `frame_ids`.
    """

    __slots__ = (
        "_count", "_info", "_mask", "_missing", "_missing_frame", "_missing_from", "_part", "_partition",
        "_shift", "_sig", "_start",
        "params_version", "partition_index", "threads_per_worker",
    )  # fmt: skip

    def __init__(self, info: RunInfo) -> None:
        self._info = info
        self._start = -1  # first row of the current unit; -1: no unit (head node)
        self._count = 0
        self._shift = 0  # frame number minus row, in runs without an end
        self._part: int | None = None
        self._sig: tuple[slice, ...] | None = None
        self._partition: tuple[int, int] | None = None
        self._mask: npt.NDArray[np.bool_] | None = None
        self._missing: npt.NDArray[np.bool_] | None = None  # like the tile whose first row is `_missing_from`
        self._missing_from = 0
        self._missing_frame = False  # process_frame: without the axis of frames
        self.params_version = 0
        self.partition_index: int | None = None
        self.threads_per_worker = 1

    # --- the current unit --------------------------------------------------------------------

    @property
    def slice(self) -> Slice:
        """The current unit in flat, ROI-compressed navigation and signal coordinates; None on the head."""
        if self._start < 0:
            return None  # type: ignore[return-value]  # on the head only: process_* need not check
        sig = self.sig_slice
        return Slice((self._start, *sig.origin), Shape((self._count, *sig.shape), sig.shape.dims))

    @property
    def sig_slice(self) -> Slice:
        """The current part of the signal axes."""
        shape = tuple(self._info.dataset_shape.sig)
        if self._sig is None:
            return Slice.from_shape(shape, sig_dims=len(shape))
        return Slice(
            tuple(s.start for s in self._sig), Shape([s.stop - s.start for s in self._sig], len(shape))
        )

    @property
    def frame_ids(self) -> npt.NDArray[np.int64]:
        """Flat dataset indices of the frames of the unit, int64."""
        if self._start < 0:
            return np.zeros(0, dtype=np.int64)
        ids = self._info.rows.frame_ids(self._start, self._start + self._count)
        return ids + self._shift if self._shift else ids

    @property
    def coordinates(self) -> npt.NDArray[np.int64]:
        """``(n, nav_dims)`` indices of the frames of the unit in the full navigation shape."""
        nav = tuple(self._info.dataset_shape.nav)
        if self._shift:
            return self.frame_ids[:, np.newaxis]
        return np.stack(np.unravel_index(self.frame_ids, nav), axis=1).astype(np.int64)

    @property
    def tiling_scheme(self) -> TilingScheme | None:
        """The tiling of the signal axes; a single part where whole frames are processed."""
        return self._info.scheme

    @property
    def tiling_scheme_idx(self) -> int | None:
        """Index of the current part in `tiling_scheme`, the same on all workers."""
        return self._part

    @property
    def missing(self) -> npt.NDArray[np.bool_] | None:
        """Pixels of the tile or frame that never arrived (live, ``missing="fill"``), bool, or None."""
        if self._missing is None or self._start < 0:
            return None
        first = self._start - self._missing_from
        lost = self._missing[first : first + self._count]
        if not lost.any():
            return None
        return lost[0] if self._missing_frame else lost

    # --- the run -----------------------------------------------------------------------------

    @property
    def partition_shape(self) -> Shape:
        """Rows of the partition after the ROI, and the signal shape.

        Raises
        ------
        ValueError
            On the head node, where there is no partition.
        """
        if self._partition is None:
            raise ValueError("meta.partition_shape is only known on a worker, while a partition is processed")
        a, b = self._partition
        sig = self._info.dataset_shape.sig
        return Shape((b - a, *sig), sig_dims=sig.dims)

    @property
    def dataset_shape(self) -> Shape:
        """Shape of the whole dataset, without ROI, after transforms."""
        return self._info.dataset_shape

    @property
    def source_shape(self) -> Shape:
        """Shape of the whole dataset before transforms."""
        return self._info.source_shape

    @property
    def roi(self) -> npt.NDArray[np.bool_] | None:
        """The region of interest, bool in navigation shape, or None."""
        return self._info.roi

    @property
    def dataset_dtype(self) -> np.dtype[Any]:
        """Native dtype of the dataset."""
        return self._info.dataset_dtype

    @property
    def input_dtype(self) -> np.dtype[Any]:
        """dtype of the data that ``process_*`` receives."""
        return self._info.input_dtype

    @property
    def corrections(self) -> Any:
        """The corrections of the run, or None."""
        return self._info.corrections

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Calibrated axes, navigation first; empty when the file states none."""
        return self._info.axes

    @property
    def array_backend(self) -> str:
        """Name of the array backend of the data."""
        return self._info.backend

    @property
    def device_class(self) -> str:
        """``"cpu"`` or ``"cuda"``."""
        return "cuda" if self._info.backend.startswith(("cu",)) else "cpu"

    @property
    def run_id(self) -> str:
        """Unique for the run."""
        return self._info.run_id

    def get_valid_nav_mask(self, full_nav: bool = False) -> npt.NDArray[np.bool_] | None:
        """Return which frames are merged: flat, ROI-compressed or of the full navigation shape.

        None inside ``process_*``; in `merge` without the partition being merged.
        """
        if self._mask is None:
            return None
        return self._info.rows.expand(self._mask, False) if full_nav else self._mask.copy()

    def __repr__(self) -> str:
        return f"<UDFMeta {self._info.dataset_shape} unit={self.slice}>"
