"""What a run will do, as frozen values: options, UDFs, lanes, reads. Executors and workers follow it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.corrections import Corrections
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.live_plan import LivePlan
from framefold.udfcore.meta import RunInfo
from framefold.udfcore.partitioning import PartitionLimits
from framefold.udfcore.pre import PreChain, Transform
from framefold.udfcore.prepared import PreparedCorrections
from framefold.udfcore.roi import RowMap
from framefold.udfcore.tiling import TilingScheme
from framefold.udfcore.udf import UDF, UDFMethod

FIRST_BYTES = 16 * 1024**2  # about 20 ms of a light reduction with a first, unwarmed pass over the data
FIRST_ROWS = 16  # a UDF that takes a second per frame must not hide behind its first partition
DETERMINISTIC_BYTES = 128 * 1024**2


@dataclass(frozen=True)
class RunOptions:
    """Options of a run that shape its plan; see ``Context.run_udf``.

    `tile_shape`, `borders` and `contiguous` (tiles are always C-contiguous) serve the compatibility layer;
    `publish_interval` is how often, in seconds, live workers ship what they have.
    """

    roi: npt.NDArray[np.bool_] | None = None
    corrections: Corrections | None = None
    backends: tuple[str, ...] | None = None
    pre: tuple[Transform, ...] = ()
    dtype_policy: str = "group"
    partition_frames: int | None = None
    deterministic: bool = False
    tile_shape: tuple[int, ...] | None = None
    borders: tuple[int, ...] | None = None
    contiguous: bool = False
    publish_interval: float = 0.1


@dataclass(frozen=True)
class UDFPlan:
    """One UDF of the run: its class, parameters and resolved declarations.

    `resident` names the large buffers that stay on the worker and travel as deltas; `joined` those that the
    worker joins by the UDF's own `merge` (``merge_scope="any"``) before they travel, likewise as deltas.
    """

    cls: type[UDF]
    kwargs: Mapping[str, Any]
    name: str
    decls: Mapping[str, BufferDecl]
    method: UDFMethod
    info: RunInfo
    sig: tuple[int, ...]
    resident: frozenset[str]
    joined: frozenset[str]

    @property
    def lags(self) -> bool:
        """Whether some buffers come later than the others, as deltas."""
        return bool(self.resident or self.joined)


@dataclass(frozen=True)
class LanePlan:
    """UDFs that share tiles: same method, input dtype, backend, transforms and corrections."""

    udfs: tuple[int, ...]
    method: UDFMethod
    dtype: np.dtype[Any]
    backend: str
    pre: PreChain | None
    scheme: TilingScheme
    corrections: PreparedCorrections | None
    parts_of: tuple[tuple[int, ...], ...]  # lane parts inside each read part


@dataclass(frozen=True)
class Plan:
    """Everything a worker needs to fold any partition of a run; pickles without data."""

    run_id: str
    dataset: Dataset
    rows: RowMap
    udfs: tuple[UDFPlan, ...]
    lanes: tuple[LanePlan, ...]
    read_depth: int
    read_parts: tuple[tuple[slice, ...], ...]
    max_rows: int
    chunk: int
    options: RunOptions
    max_lanes: int | None = None
    live: LivePlan | None = None

    @property
    def n_rows(self) -> int:
        """Rows of the run."""
        return self.rows.n_rows

    def partition_limits(self, lanes: int) -> PartitionLimits:
        """Return how the rows may be cut for `lanes` parallel folds."""
        opts = self.options
        fixed = opts.partition_frames
        frame = max(1, self.dataset.shape.sig.size * self.dataset.dtype.itemsize)
        first = max(1, min(FIRST_ROWS, int(FIRST_BYTES // frame)))
        if opts.deterministic and fixed is None:
            # from the dataset only: never from times, cores or free memory
            fixed = max(1, min(self.max_rows, -(-self.n_rows // 64), DETERMINISTIC_BYTES // frame or 1))
            fixed = max(self.chunk, fixed // self.chunk * self.chunk)
        return PartitionLimits(
            self.n_rows, self.chunk, self.max_rows, first, lanes, first, fixed, opts.borders
        )
