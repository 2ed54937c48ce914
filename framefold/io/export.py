"""Write a dataset as HDF5, Zarr or npy: the sinks of ``ds.export`` and ``framefold convert``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, did_you_mean
from framefold.io.export_sink import FileSink, Store
from framefold.io.export_stores import Contents, Hdf5Store, NpyStore, ZarrStore
from framefold.io.save import check_target
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import Source
from framefold.udfcore.tile import TileSlice, full_sig

_STORES: dict[str, Callable[[Path, Contents], Store]] = {
    ".h5": Hdf5Store,
    ".nxs": Hdf5Store,
    ".hdf5": Hdf5Store,
    ".zarr": ZarrStore,
    ".npy": NpyStore,
}
_BLOCK_BYTES = 8 * 1024**2

Block = tuple[int, npt.NDArray[Any]]


def open_sink(
    path: str | os.PathLike[str],
    shape: Shape,
    dtype: npt.DTypeLike,
    *,
    metadata: Metadata | None = None,
    provenance: dict[str, Any] | None = None,
    compression: str = "bslz4",
    overwrite: bool = False,
) -> FileSink:
    """Return a sink that writes frames to a new file.

    The file appears under its name when the sink is closed. Use it in a ``with`` statement: an error
    inside leaves nothing behind.

    Parameters
    ----------
    path
        ``.h5`` or ``.nxs``: NeXus with one chunk per frame; ``.zarr``; ``.npy`` (uncompressed).
    shape, dtype
        Of the whole dataset.
    metadata
        Axes, geometry and mask to write along (HDF5; axes in Zarr).
    provenance
        Plain values to write along, for instance where the data came from.
    compression
        For HDF5: ``"bslz4"`` (needs hdf5plugin), ``"gzip"`` or ``"none"``.
    overwrite
        Replace an existing file.

    Raises
    ------
    DataError
        If the ending or the compression is unknown, the file exists, or a library is missing.
    """
    target = Path(path)
    store = _STORES.get(target.suffix.lower())
    if store is None:
        raise DataError(
            f"{target}: unknown ending {target.suffix!r}.{did_you_mean(target.suffix, _STORES)} "
            f"Datasets are written as {', '.join(_STORES)}."
        )
    check_target(target, overwrite=overwrite)
    native = np.dtype(dtype).newbyteorder("=")
    what = Contents(shape, native, metadata or Metadata(), provenance or {}, compression)
    return FileSink(target, shape, native, lambda temporary: store(temporary, what), overwrite=overwrite)


def export(
    blocks: Iterable[Block],
    path: str | os.PathLike[str],
    shape: Shape,
    dtype: npt.DTypeLike,
    *,
    metadata: Metadata | None = None,
    provenance: dict[str, Any] | None = None,
    compression: str = "bslz4",
    overwrite: bool = False,
) -> int:
    """Write blocks ``(first frame, frames)`` to a new file; see `open_sink` for the parameters.

    Returns
    -------
    int
        How many frames were written. Frames that no block brings are marked invalid; an error for npy.
    """
    sink = open_sink(
        path,
        shape,
        dtype,
        metadata=metadata,
        provenance=provenance,
        compression=compression,
        overwrite=overwrite,
    )
    with sink:
        for start, frames in blocks:
            sink.write(start, frames)
    return int(sink.written.sum())


def blocks_of(source: Source, *, block_bytes: int = _BLOCK_BYTES) -> Iterator[Block]:
    """Yield all valid frames of `source` in blocks of whole natural chunks, about `block_bytes` each."""
    sig = tuple(source.shape.sig)
    frames = source.shape.nav.size
    frame_bytes = max(1, source.shape.sig.size * source.dtype.itemsize)
    chunk = max(1, source.natural_chunks[0])
    depth = max(1, block_bytes // frame_bytes // chunk) * chunk
    valid = np.ones(frames, bool) if source.valid is None else source.valid
    for first in range(0, frames, depth):
        inside = valid[first : first + depth]
        edges = np.flatnonzero(np.diff(np.concatenate(([0], inside.astype(np.int8), [0]))))
        for a, b in edges.reshape(-1, 2).tolist():
            yield first + a, source.read(TileSlice(first + a, first + b, full_sig(sig)))
