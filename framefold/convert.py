"""Write the frames of a dataset, as a run would see them, to another file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.executor.drive import Run
from framefold.executor.follow import to_end
from framefold.executor.inline import InlineExecutor
from framefold.io.export import open_sink
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.events import Observer
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.pre import PreChain
from framefold.udfcore.shapes import Shape
from framefold.udfs.export import ExportUDF


def export_frames(
    dataset: Dataset,
    path: Any,
    options: RunOptions,
    *,
    dtype: npt.DTypeLike | None = None,
    compression: str = "bslz4",
    overwrite: bool = False,
    observers: Sequence[Observer] = (),
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write `dataset` with ROI, corrections and transforms applied; see ``Context.export``.

    Raises
    ------
    DataError
        If frames are missing and the file is npy, which cannot say that they are.
    """
    seen = dataset.dtype if options.corrections is None else np.result_type(dataset.dtype, np.float32)
    sig = tuple(dataset.shape.sig)
    if options.pre:
        chain = PreChain(options.pre, sig, seen)
        sig, seen = chain.out_shape, chain.out_dtype
    nav = tuple(dataset.shape.nav) if options.roi is None else (int(options.roi.sum()),)
    if dataset.valid is not None and Path(path).suffix.lower() == ".npy":
        wanted = dataset.valid if options.roi is None else dataset.valid[options.roi.reshape(-1)]
        if not wanted.all():
            raise DataError(
                f"{int((~wanted).sum())} of {wanted.size} frames are missing in {dataset.name}, which npy "
                "cannot say: write .h5 or .zarr, or leave them out with roi="
            )
    rows = None if options.roi is None else np.cumsum(options.roi.reshape(-1), dtype=np.int64) - 1
    metadata = dataset.metadata if options.roi is None and not options.pre else None
    target = np.dtype(seen if dtype is None else dtype)
    sink = open_sink(
        path, Shape((*nav, *sig), len(sig)), target, metadata=metadata, provenance=dict(provenance or {}),
        compression=compression, overwrite=overwrite,
    )  # fmt: skip
    with sink:
        to_end(Run(InlineExecutor(), dataset, [ExportUDF(sink, target, rows)], options, observers=observers))
