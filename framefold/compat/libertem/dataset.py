"""A dataset under LiberTEM's interface: what it tells, and where runs cut it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.compat.libertem.arrays import physical_cpus
from framefold.compat.libertem.corrections import CorrectionSet
from framefold.compat.libertem.partition import Partition
from framefold.compat.libertem.shapes import Shape
from framefold.errors import DataError
from framefold.udfcore.backend import Backends
from framefold.udfcore.dataset import Dataset, RoiMaker

Flags = npt.NDArray[np.bool_]


class DataSetException(DataError):
    """A dataset cannot be made from what was given."""


@dataclass(frozen=True)
class DataSetMeta:
    """What a dataset tells about itself."""

    shape: Shape
    raw_dtype: np.dtype[Any]
    dtype: np.dtype[Any]
    image_count: int
    sync_offset: int = 0
    array_backends: tuple[str, ...] = (Backends.BACKEND_NUMPY,)
    metadata: Any = None


class DataSet:
    """A dataset under LiberTEM's interface; `engine` is framefold's.

    Parameters
    ----------
    source
        Delivers the frames.
    nav_shape, sync_offset
        Scan shape, and how many frames of the source to skip (negative: blank frames before the first).
    num_partitions
        In how many parts of equal size runs take it; None: one per core, and per 512 MiB.
    tileshape
        ``(depth, *sig part)`` to force on every run, or None.
    array_backends
        As announced by the source.
    """

    def __init__(
        self,
        source: Any,
        *,
        nav_shape: Sequence[int] | None = None,
        sync_offset: int = 0,
        num_partitions: int | None = None,
        tileshape: tuple[int, ...] | None = None,
        array_backends: tuple[str, ...] | None = None,
    ) -> None:
        with warnings.catch_warnings():  # LiberTEM is silent about surplus and missing frames
            warnings.simplefilter("ignore")
            self.engine = Dataset(
                source, nav_shape=None if nav_shape is None else tuple(nav_shape), sync_offset=sync_offset
            )
        n = source.shape.nav.size
        if not -n < sync_offset < n:
            raise DataSetException(
                f"sync_offset={sync_offset} must lie within -{n} .. {n}, the number of frames"
            )
        self._num_partitions = num_partitions
        self._cores = physical_cpus()
        self._sync_offset = sync_offset
        self.tileshape = tileshape
        self._array_backends = array_backends or (getattr(source, "backend", Backends.BACKEND_NUMPY),)
        self._meta = DataSetMeta(
            self.shape, self.dtype, self.dtype, n, sync_offset, self._array_backends, source.metadata
        )

    @property
    def shape(self) -> Shape:
        """Navigation and signal shape."""
        return Shape.of(self.engine.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of the raw frames."""
        return self.engine.dtype

    raw_dtype = dtype

    @property
    def meta(self) -> DataSetMeta:
        """Shape, dtype and number of frames."""
        return self._meta

    @property
    def roi(self) -> RoiMaker:
        """Index to get a region of interest."""
        return self.engine.roi

    @property
    def array_backends(self) -> tuple[str, ...]:
        """Array backends that the dataset delivers."""
        return self._array_backends

    @property
    def diagnostics(self) -> list[dict[str, str]]:
        """What can be told about the dataset."""
        return [
            {"name": "Shape", "value": str(tuple(self.shape))},
            {"name": "Data type", "value": str(self.dtype)},
            {"name": "Number of partitions", "value": str(self.get_num_partitions())},
        ]

    def initialize(self, executor: Any) -> DataSet:
        """Return the dataset itself: it is ready."""
        return self

    def check_valid(self) -> bool:
        """Return True: what cannot be read is refused when the dataset is made."""
        return True

    def set_num_cores(self, cores: int) -> None:
        """Say for how many cores the default number of partitions is meant."""
        self._cores = cores

    def get_num_partitions(self) -> int:
        """Return the number of partitions of a run without region of interest."""
        if self._num_partitions is not None:
            return self._num_partitions
        size = self.shape.size * self.dtype.itemsize
        per_core = max(self._cores, size // (512 * 2**20))
        return max(1, min(per_core, self.shape.nav.size))

    def get_correction_data(self) -> CorrectionSet:
        """Return the corrections that belong to the data: none."""
        return CorrectionSet()

    def get_task_comm_handler(self) -> Any:
        """Return who is told about tasks: nobody."""
        return None

    def supports_correction(self) -> bool:
        """Return True: the engine corrects any dataset."""
        return True

    def borders(self) -> tuple[int, ...]:
        """Return the borders of the partitions in flat navigation coordinates."""
        n, parts = self.shape.nav.size, self.get_num_partitions()
        if parts > n:
            warnings.warn(
                f"the dataset has {n} frames, fewer than num_partitions={parts}: there will be {n}",
                RuntimeWarning,
                stacklevel=3,
            )
            parts = n
        return tuple(int(b) for b in np.linspace(0, n, num=max(2, parts + 1), dtype=int))

    def row_borders(self, roi: Flags | None) -> tuple[int, ...]:
        """Return the borders in rows of a run with `roi`; partitions without a row are left out."""
        borders = self.borders()
        if roi is None:
            return borders
        before = np.concatenate(([0], np.cumsum(roi.reshape(-1))))
        return tuple(sorted({int(before[b]) for b in borders}))

    def get_partitions(self) -> Iterator[Partition]:
        """Yield the partitions."""
        borders = self.borders()
        for start, stop in zip(borders[:-1], borders[1:], strict=True):
            yield Partition(self, start, stop)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.dtype} shape={tuple(self.shape)}>"
