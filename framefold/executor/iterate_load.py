"""Frames into memory: read, decoded and corrected once, in their own type, in the order of the UDF."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.executor.base import Executor
from framefold.executor.drive import Run
from framefold.executor.follow import to_end
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.events import Observer
from framefold.udfcore.iterative import DataInfo, IterativeUDF
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.roi import row_map
from framefold.udfcore.udf import UDF

Array = npt.NDArray[Any]
SAMPLE = 64
RAM_SHARE = 0.6
Residency = Literal["auto", "memory", "disk"]


class LoadUDF(UDF):
    """Hands whole frames to ``sink.put(frame_ids, tile)``."""

    engine: ClassVar[EngineOptions] = EngineOptions(gil="free", whole_frames=True, effects=True)

    def __init__(self, sink: Any) -> None:
        super().__init__(sink=sink)

    def get_result_buffers(self) -> dict[str, BufferDecl]:
        """Return a counter: the frames themselves go elsewhere."""
        return {"frames": self.buffer("single", dtype="int64", reduce="sum")}

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Return the neutral dtype: frames keep theirs."""
        return UDF.USE_NATIVE_DTYPE

    def process_tile(self, tile: Array) -> None:
        """Hand the tile over."""
        self.params.sink.put(self.meta.frame_ids, tile)
        self.results.frames[...] += len(tile)


@dataclass
class _Sink:
    """Where frames go: ``target[place[frame_id]] = keep(tile)``."""

    target: Any
    place: npt.NDArray[np.int64]
    keep: Any

    def put(self, ids: Array, tile: Array) -> None:
        self.target[self.place[ids]] = self.keep(tile)


class _Sample:
    """Collects a few frames, whatever shape and type the transforms give them."""

    def __init__(self) -> None:
        self.frames: dict[int, Array] = {}

    def put(self, ids: Array, tile: Array) -> None:
        for i, frame in zip(ids.tolist(), tile, strict=True):
            self.frames[i] = np.array(frame)


def inspect_data(executor: Executor, dataset: Dataset, options: RunOptions) -> DataInfo:
    """Return what `IterativeUDF.resolve` needs: which frames there are, and a sample of them.

    Raises
    ------
    DataError
        If no frame is left by ROI and source.
    """
    ids = frame_ids(dataset, options)
    if len(ids) == 0:
        raise DataError(f"{dataset.name}: no frame is left to reduce (roi= and missing frames)")
    chosen = ids[np.unique(np.linspace(0, len(ids) - 1, min(SAMPLE, len(ids))).astype(np.int64))]
    sample = _Sample()
    _read(executor, dataset, options, chosen, sample, ())
    frames = np.stack([sample.frames[i] for i in chosen.tolist()])
    return data_info(dataset, options, ids, chosen, frames)


def data_info(
    dataset: Dataset, options: RunOptions, ids: npt.NDArray[np.int64], chosen: npt.NDArray[np.int64],
    sample: Array,
) -> DataInfo:  # fmt: skip
    """Return what `IterativeUDF.resolve` needs of the frames `ids`, with the sample `chosen` of them."""
    excluded = None
    if options.corrections is not None and not options.pre:  # transforms move pixels: these stay repaired
        excluded = options.corrections.excluded_mask(tuple(dataset.shape.sig))
    return DataInfo(dataset, ids, sample, chosen, excluded)


def frame_ids(dataset: Dataset, options: RunOptions) -> npt.NDArray[np.int64]:
    """Return the flat dataset indices of the frames of a run that can be had."""
    roi = options.roi
    rows = row_map(
        dataset.shape.nav.size, dataset.valid, dataset.sync_offset, None if roi is None else roi.reshape(-1)
    )
    return rows.frame_ids(0, rows.n_rows)[rows.deliverable(0, rows.n_rows)]


def load_frames(
    executor: Executor,
    dataset: Dataset,
    options: RunOptions,
    udf: IterativeUDF,
    ordered: npt.NDArray[np.int64],
    sample: Array,
    residency: Residency = "auto",
    observers: tuple[Observer, ...] = (),
) -> Array:
    """Return the frames `ordered` (flat dataset indices) as ``udf.keep`` leaves them, ``(n, ...)``.

    In memory, or in a file without a name that the system maps (``"disk"``, or ``"auto"`` where they exceed
    60 % of the memory).
    """
    kept = udf.keep(sample[:1])
    out = allocate_frames((len(ordered), *kept.shape[1:]), kept.dtype, residency)
    read_frames(executor, dataset, options, udf, ordered, np.arange(len(ordered)), out, observers)
    return out


def read_frames(
    executor: Executor,
    dataset: Dataset,
    options: RunOptions,
    udf: IterativeUDF,
    ids: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    out: Array,
    observers: tuple[Observer, ...] = (),
) -> None:
    """Read the frames `ids` into the rows `rows` of `out`."""
    place = np.full(dataset.shape.nav.size, -1, np.int64)
    place[ids] = rows
    _read(executor, dataset, options, np.sort(ids), _Sink(out, place, udf.keep), observers)


def _read(
    executor: Executor, dataset: Dataset, options: RunOptions, ids: Array, sink: Any, observers:
    tuple[Observer, ...]
) -> None:  # fmt: skip
    flags = np.zeros(dataset.shape.nav.size, bool)
    flags[ids] = True
    chosen = None if flags.all() else flags.reshape(tuple(dataset.shape.nav))
    run = Run(executor, dataset, [LoadUDF(sink)], replace(options, roi=chosen), observers=observers)
    to_end(run)


def allocate_frames(
    shape: tuple[int, ...], dtype: np.dtype[Any], residency: Residency, sharers: int = 1
) -> Array:
    """Return room for frames, in memory or in a file; `sharers` processes use the memory of this machine."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if residency == "memory" or (residency == "auto" and size <= RAM_SHARE / sharers * memory_available()):
        return np.empty(shape, dtype)
    folder = Path(os.environ.get("TMPDIR") or tempfile.gettempdir())
    with tempfile.TemporaryFile(dir=folder, prefix="framefold-frames-") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(1, size))
        except OSError as exc:
            raise DataError(
                f"{size / 2**30:.1f} GiB of frames do not fit the memory, nor {folder}: {exc}. "
                "Set TMPDIR to a folder with room, or bin or crop the frames (pre=[ff.Bin(2)])"
            ) from exc
        return np.memmap(file, dtype, "r+", shape=shape)


def memory_available() -> int:
    """Return the bytes of memory that this machine can still give."""
    try:
        with open("/proc/meminfo") as f:
            for line in f:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 4 * 1024**3
