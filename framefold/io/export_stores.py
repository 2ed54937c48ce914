"""HDF5, Zarr and npy files while an export writes them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.hdf5_nexus import write_geometry
from framefold.io.save_model import to_json
from framefold.udfcore.metadata import Axis, Metadata
from framefold.udfcore.shapes import Shape

_ZARR_CHUNK_BYTES = 4 * 1024**2  # a file per frame would drown file systems


@dataclass(frozen=True)
class Contents:
    """What a store will hold; see `framefold.io.export.open_sink`."""

    shape: Shape
    dtype: np.dtype[Any]
    metadata: Metadata = field(default_factory=Metadata)
    provenance: dict[str, Any] = field(default_factory=dict)
    compression: str = "bslz4"


class Hdf5Store:
    """NeXus, one chunk per frame, bitshuffle-LZ4 unless told otherwise."""

    def __init__(self, path: Path, what: Contents) -> None:
        chunks = (*(1 for _ in what.shape.nav), *what.shape.sig)
        options = _filters(what.compression)
        self._file = h5py.File(path, "w")
        self._file.attrs.update({"NX_class": "NXroot", "creator": "framefold", "default": "entry"})
        entry = self._file.create_group("entry")
        entry.attrs.update({"NX_class": "NXentry", "default": "data"})
        group = entry.create_group("data")
        nav = what.shape.nav_dims
        axes = what.metadata.axes or tuple(Axis() for _ in what.shape)
        names = [_unique(a.name or f"axis_{i}", i, axes) if i < nav else "." for i, a in enumerate(axes)]
        group.attrs.update(
            {"NX_class": "NXdata", "signal": "data", "axes": np.array(names, h5py.string_dtype())}
        )
        for i, (name, axis) in enumerate(zip(names[:nav], axes, strict=False)):
            group[name] = axis.values(what.shape[i])
            group[name].attrs["units"] = axis.units
            group.attrs[f"{name}_indices"] = i
        group.attrs["framefold_axes"] = to_json([[a.name, a.scale, a.offset, a.units] for a in axes])
        self._data = group.create_dataset(
            "data", tuple(what.shape), what.dtype, chunks=chunks if what.shape.size else None, **options
        )
        write_geometry(entry, what.metadata)
        process = entry.create_group("process")
        process.attrs["NX_class"] = "NXprocess"
        process["program"] = "framefold"
        process["provenance"] = to_json(what.provenance)

    def put(self, where: tuple[slice, ...], frames: npt.NDArray[Any]) -> None:
        """Store a box of frames."""
        self._data[where] = frames

    def finish(self, written: npt.NDArray[np.bool_]) -> None:
        """Mark frames that were not written, and close."""
        if not written.all():
            # read back as `Source.valid`: HDF5 gives zeros for frames that were never written
            self._data.parent["frame_valid"] = written.astype(np.uint8)
        self._file.close()

    def drop(self) -> None:
        """Close the file."""
        self._file.close()


def _filters(compression: str) -> dict[str, Any]:
    if compression == "none":
        return {}
    if compression == "gzip":
        return {"compression": "gzip", "shuffle": True}
    if compression != "bslz4":
        raise DataError(f"compression={compression!r} is none of bslz4, gzip, none")
    try:
        import hdf5plugin
    except ImportError:
        raise DataError(
            "bslz4 needs hdf5plugin: pip install 'framefold[formats]', or compression='gzip'"
        ) from None
    return dict(hdf5plugin.Bitshuffle(nelems=0, cname="lz4"))


def _unique(name: str, i: int, axes: tuple[Axis, ...]) -> str:
    """Return a name for an axis dataset that no other axis and no dataset of the group has."""
    name = name.replace("/", "_").strip(". ") or f"axis_{i}"
    clash = name in ("data", "frame_valid") or [a.name for a in axes].index(axes[i].name) != i
    return f"{name}_{i}" if clash and axes[i].name else name


class NpyStore:
    """A plain npy file in the shape of the dataset.

    Written by calls, not through a memory map: there a full disk would kill the process.
    """

    def __init__(self, path: Path, what: Contents) -> None:
        self._nav, self._dtype = tuple(what.shape.nav), what.dtype
        self._frame_bytes = what.shape.sig.size * what.dtype.itemsize
        self._file = open(path, "wb")  # noqa: SIM115  # closed by finish or drop
        header = np.lib.format.header_data_from_array_1_0(np.empty(0, what.dtype))
        np.lib.format.write_array_header_1_0(self._file, {**header, "shape": tuple(what.shape)})
        self._start = self._file.tell()
        self._file.truncate(self._start + what.shape.nav.size * self._frame_bytes)

    def put(self, where: tuple[slice, ...], frames: npt.NDArray[Any]) -> None:
        """Store a box that is contiguous in the file."""
        first = int(np.ravel_multi_index([s.start for s in where], self._nav)) if where else 0
        self._file.seek(self._start + first * self._frame_bytes)
        self._file.write(np.ascontiguousarray(frames, self._dtype).data)

    def finish(self, written: npt.NDArray[np.bool_]) -> None:
        """Close the file; refuse missing frames."""
        self._file.close()
        if not written.all():
            missing = np.flatnonzero(~written)
            raise DataError(
                f"{len(missing)} frames are missing, {missing[0]} is the first, and npy cannot mark them: "
                "write .h5 or .zarr"
            )

    def drop(self) -> None:
        """Close the file."""
        self._file.close()


class ZarrStore:
    """A Zarr group with the array ``data``; chunks of some megabytes along the fastest scan axis."""

    def __init__(self, path: Path, what: Contents) -> None:
        try:
            import zarr
        except ImportError:
            raise DataError(".zarr needs zarr: pip install 'framefold[formats]'") from None
        nav, sig = tuple(what.shape.nav), tuple(what.shape.sig)
        frame = max(1, math.prod(sig) * what.dtype.itemsize)
        run = max(1, min(_ZARR_CHUNK_BYTES // frame, nav[-1])) if nav else 1
        chunks = (*(1 for _ in nav[:-1]), *((run,) if nav else ()), *sig)
        self._root = zarr.open_group(str(path), mode="w")
        self._data = self._root.create_array("data", shape=tuple(what.shape), chunks=chunks, dtype=what.dtype)
        axes = what.metadata.axes or tuple(Axis() for _ in what.shape)
        self._data.attrs["axes"] = [
            {"name": a.name, "scale": a.scale, "offset": a.offset, "units": a.units} for a in axes
        ]
        self._data.attrs["nav_dims"] = len(nav)
        self._root.attrs["provenance"] = to_json(what.provenance)

    def put(self, where: tuple[slice, ...], frames: npt.NDArray[Any]) -> None:
        """Store a box of frames."""
        self._data[where] = frames

    def finish(self, written: npt.NDArray[np.bool_]) -> None:
        """Mark frames that were not written."""
        if not written.all():
            self._root.create_array("frame_valid", data=written.astype(np.uint8))

    def drop(self) -> None:
        """Do nothing: Zarr keeps no file open."""
