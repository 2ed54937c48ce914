"""The two messages between head and workers: `Task` and `Partial`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Task:
    """A partition to fold: rows ``[start, stop)`` of the run's `RowMap`.

    Attributes
    ----------
    index
        Number of the partition within the run.
    start, stop
        Rows.
    params_version
        Which parameters to use; 0: those of the plan.
    patches
        For each UDF the parameters that differ from the plan's; empty for version 0.
    """

    index: int
    start: int
    stop: int
    params_version: int = 0
    patches: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class LiveTask(Task):
    """A closed block of a live stream to fold: the rows of its frames.

    Attributes
    ----------
    block
        Where the data are, until the task is done.
    shift
        Frame number of a row minus the row: not 0 where rows are used again, in runs without an end.
    """

    block: Any = None
    shift: int = 0


@dataclass(slots=True)
class LivePart:
    """What a partial of a live run tells about the frames inside.

    Attributes
    ----------
    status
        `FrameStatus` per row, uint8; empty in deltas.
    counts
        Rows folded per piece, int64, in the order of the sectors; weighted (float64) in deltas that fade.
    whole
        Rows of which everything was folded; weighted as `counts`.
    closed
        ``time.monotonic()`` of the last packet of each block inside.
    shift
        As in `LiveTask`.
    damaged
        By sector, pieces that arrived and turned out not to be decodable; empty: none.
    arrived
        By sector, valid pieces of the block that is done with this partial; empty: others follow.
    time
        Where old frames fade: ``time.monotonic()`` of the moment that the weights of the frames are for.
    window
        Number of the window that the frames belong to, in runs that start anew every so many frames.
    block
        Frames in the block that they came with.
    """

    status: npt.NDArray[np.uint8]
    counts: npt.NDArray[Any]
    whole: float
    closed: list[float]
    shift: int = 0
    damaged: tuple[int, ...] = ()
    arrived: tuple[int, ...] = ()
    window: int = 0
    time: float = 0.0
    block: int = 0


@dataclass(slots=True)
class Partial:
    """The folded buffers of one partition, or the delta of large buffers over several.

    Attributes
    ----------
    tasks
        ``(index, start, stop)`` of every partition inside.
    arrays
        For each UDF its buffers by name; absent names are not part of this partial.
    frames
        Frames folded.
    seconds
        Wall time of the fold.
    cpu_seconds
        CPU time of the folding thread.
    bytes_read
        Raw bytes of the frames.
    params_version
        Version of the parameters used.
    worker
        Who folded.
    delta
        True for large buffers that come after the small ones of the same partitions.
    warnings
        Numpy warnings collected while folding: text -> count.
    live
        What arrived, in live runs.
    members
        Numbers of the UDFs that `arrays` belong to; None: all of the run.
    """

    tasks: tuple[tuple[int, int, int], ...]
    arrays: tuple[dict[str, npt.NDArray[Any]], ...]
    frames: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    bytes_read: int = 0
    params_version: int = 0
    worker: str = ""
    delta: bool = False
    warnings: dict[str, int] = field(default_factory=dict)
    last_ids: npt.NDArray[np.int64] | None = None
    live: LivePart | None = None
    members: tuple[int, ...] | None = None
