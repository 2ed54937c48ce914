"""LiberTEM's datasets: `MemoryDataSet`, `RawFileDataSet` and what files of other formats become."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.compat.libertem.arrays import is_sparse, physical_cpus
from framefold.compat.libertem.corrections import CorrectionSet
from framefold.compat.libertem.install import ensure, job_flag
from framefold.compat.libertem.shapes import Shape, Slice
from framefold.compat.libertem.tiles import DataTile, TilingScheme
from framefold.errors import DataError
from framefold.udfcore import shapes as core
from framefold.udfcore.backend import Backends, backend_of, for_backend
from framefold.udfcore.dataset import Dataset, RoiMaker
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.source import ReadStats
from framefold.udfcore.tile import TileSlice

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


class FrameArray:
    """A source of frames in an array or in a flat file; carries the shim to workers.

    Parameters
    ----------
    frames
        ``(n, *sig)``, dense or pydata sparse.
    sig
        Signal shape.
    backend
        Which array backend to announce; dense data become sparse when read.
    path, offset
        The file that `frames` maps, so that workers map it too instead of receiving it.
    """

    is_view = True
    metadata = Metadata()
    valid = None

    def __init__(
        self, frames: Any, sig: tuple[int, ...], backend: str, path: str | None = None, offset: int = 0
    ) -> None:
        self._frames = frames
        self._path = path
        self._offset = offset
        self.backend = backend
        self.shape = core.Shape((len(frames), *sig), sig_dims=len(sig))
        self.dtype = np.dtype(frames.dtype).newbyteorder("=")
        self.is_view = frames.dtype.isnative and backend == Backends.BACKEND_NUMPY
        self.natural_chunks = (1,) * (1 + len(sig))
        self.identity = f"{path or 'memory'} {tuple(self.shape)} {self.dtype}"

    @property
    def path(self) -> str | None:
        """The file, or None."""
        return self._path

    def read(self, tile: TileSlice, out: Any = None) -> Any:
        """Return the frames of `tile`."""
        part = self._frames[(slice(tile.start, tile.stop), *tile.sig)]
        if self.backend != Backends.BACKEND_NUMPY:
            return part if is_sparse(part) else for_backend(part, Backends.BACKEND_SPARSE_COO)
        if is_sparse(part):
            part = part.todense()
        if self.is_view or out is None:
            return part
        out[...] = part
        return out

    def stats(self) -> ReadStats:
        """Return nothing of interest: the memory is there."""
        return ReadStats(path="memory")

    def __reduce__(self) -> tuple[Any, ...]:
        sig = tuple(self.shape.sig)
        if self._path is None:
            frames = self._frames if is_sparse(self._frames) else np.asarray(self._frames)
            return (_again, (job_flag(), frames, sig, self.backend))
        return (_mapped, (job_flag(), self._path, self._frames.dtype, self._offset, sig, self.backend))


def _again(flag: Any, frames: Any, sig: tuple[int, ...], backend: str) -> FrameArray:
    ensure(flag)
    return FrameArray(frames, sig, backend)


def _mapped(
    flag: Any, path: str, dtype: np.dtype[Any], offset: int, sig: tuple[int, ...], backend: str
) -> FrameArray:
    ensure(flag)
    return FrameArray(map_frames(path, dtype, offset, sig), sig, backend, path, offset)


def map_frames(path: str, dtype: Any, offset: int, sig: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Map all whole frames of a flat file."""
    kind = np.dtype(dtype)
    raw = np.memmap(path, dtype=np.uint8, mode="r", offset=offset)
    n = len(raw) // (math.prod(sig) * kind.itemsize)
    return np.memmap(path, dtype=kind, mode="r", offset=offset, shape=(n, *sig))


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


class Partition:
    """Frames ``[start, stop)`` of a dataset."""

    def __init__(self, dataset: DataSet, start: int, stop: int) -> None:
        self._dataset = dataset
        self._start_frame, self._num_frames = start + dataset.meta.sync_offset, stop - start
        sig = dataset.shape.sig
        self.slice = Slice((start, *(0,) * sig.dims), Shape((stop - start, *sig), sig_dims=sig.dims))
        self.meta = dataset.meta

    @property
    def shape(self) -> Shape:
        """Frames and signal shape."""
        return Shape.of(self.slice.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of the raw frames."""
        return self.meta.dtype

    def get_locations(self) -> None:
        """Return None: any worker will do."""

    def get_frame_count(self, roi: Flags | None = None) -> int:
        """Return the number of frames inside `roi`."""
        start, n = self.slice.origin[0], self.slice.shape[0]
        return n if roi is None else int(np.count_nonzero(np.reshape(roi, -1)[start : start + n]))

    def get_tiles(
        self, tiling_scheme: Any = None, dest_dtype: npt.DTypeLike = "float32", roi: Flags | None = None,
        array_backend: str | None = None,
    ) -> Iterator[DataTile]:  # fmt: skip
        """Yield the tiles of the partition; navigation coordinates are flat and ROI-compressed."""
        ds = self._dataset
        if ds.tileshape is not None:
            tiling_scheme = TilingScheme.make_for_shape(ds.tileshape, ds.shape)
        if tiling_scheme is None:
            tiling_scheme = TilingScheme.make_for_shape(self.shape.to_tuple(), ds.shape)
        start, n = self.slice.origin[0], self.slice.shape[0]
        ids = np.arange(start, start + n)
        first = start
        if roi is not None:
            flat = np.asarray(roi, dtype=bool).reshape(-1)
            ids = ids[flat[start : start + n]]
            first = int(np.count_nonzero(flat[:start]))
        rows = np.arange(first, first + len(ids))
        if ds.engine.valid is not None:
            have = ds.engine.valid[ids]
            ids, rows = ids[have], rows[have]
        for a in range(0, len(ids), tiling_scheme.depth):
            some, where = ids[a : a + tiling_scheme.depth], int(rows[a])
            for index, part in tiling_scheme.slices:
                data = self._read(some + ds.meta.sync_offset, part.get(), dest_dtype, array_backend)
                shape = Shape((len(some), *part.shape), sig_dims=part.shape.dims)
                yield DataTile(data, Slice((where, *part.origin), shape), index)

    def _read(self, ids: Any, sig: Any, dtype: npt.DTypeLike, backend: str | None) -> Any:
        runs = np.split(ids, np.flatnonzero(np.diff(ids) != 1) + 1)
        source = self._dataset.engine.source
        pieces = [source.read(TileSlice(int(r[0]), int(r[-1]) + 1, sig), None) for r in runs]
        if is_sparse(pieces[0]):
            import sparse  # noqa: PLC0415  # slow to import

            data = sparse.concatenate(pieces).astype(dtype)
        else:
            data = np.ascontiguousarray(np.concatenate(pieces), dtype=dtype)
        return data if backend is None else for_backend(data, backend)

    def get_macrotile(
        self,
        dest_dtype: npt.DTypeLike = "float32",
        roi: Flags | None = None,
        array_backend: str | None = None,
    ) -> DataTile:
        """Return the whole partition as one tile."""
        ds = self._dataset
        whole = DataSet(ds.engine.source, nav_shape=ds.shape.nav.to_tuple(), sync_offset=ds.meta.sync_offset)
        start, n = self.slice.origin[0], self.slice.shape[0]
        tiles = list(Partition(whole, start, start + n).get_tiles(None, dest_dtype, roi, array_backend))
        if tiles:
            return tiles[0]
        shape = Shape((0, *self.slice.shape.sig), sig_dims=self.slice.shape.sig.dims)
        return DataTile(np.zeros(shape.to_tuple(), dtype=dest_dtype), Slice(self.slice.origin, shape), 0)

    def __repr__(self) -> str:
        return f"<Partition [{self._start_frame}:{self._start_frame + self._num_frames}]>"


class MemoryDataSet(DataSet):
    """Frames of an array in memory.

    Parameters
    ----------
    tileshape, num_partitions
        Force this tiling and this number of partitions.
    data
        Navigation axes first; dense or sparse. None: zeros of shape `datashape`.
    sig_dims
        Number of signal axes, 2 by default.
    check_cast, crop_frames, tiledelay, base_shape, force_need_decode
        Of LiberTEM's readers; only `tiledelay`, in s per tile, could have an effect and is refused.
    nav_shape, sig_shape, sync_offset
        Other shapes of the same frames, and the first frame.
    array_backends
        Announce these array backends.
    """

    def __init__(
        self,
        tileshape: Sequence[int] | None = None,
        num_partitions: int | None = None,
        data: Any = None,
        sig_dims: int | None = None,
        check_cast: bool = True,
        tiledelay: float | None = None,
        datashape: Sequence[int] | None = None,
        base_shape: Sequence[int] | None = None,
        force_need_decode: bool = False,
        io_backend: Any = None,
        nav_shape: Sequence[int] | None = None,
        sig_shape: Sequence[int] | None = None,
        sync_offset: int = 0,
        array_backends: Sequence[str] | None = None,
    ) -> None:
        if io_backend is not None:
            raise ValueError("a MemoryDataSet takes no io_backend: its data are in memory")
        if tiledelay:
            raise DataSetException("tiledelay is not provided: delay inside the UDF instead")
        if data is None:
            if datashape is None:
                raise DataSetException("a MemoryDataSet needs data= or datashape=")
            data = np.zeros(tuple(datashape), dtype=np.float32)
        sig, sig_dims = _split(data, sig_dims, nav_shape, sig_shape)
        if data.size % max(1, math.prod(sig)):
            raise ValueError(f"{data.size} values are not whole frames of shape {sig}")
        if tileshape is not None and len(tileshape) != sig_dims + 1:
            raise ValueError(
                f"tileshape {tuple(tileshape)} needs {sig_dims + 1} entries: depth and signal part"
            )
        self.data = data
        backend = backend_of(data) if array_backends is None else next(iter(array_backends))
        frames = data.reshape((-1, *sig))
        super().__init__(
            FrameArray(frames, sig, backend),
            nav_shape=tuple(data.shape[: len(data.shape) - sig_dims]) if nav_shape is None else nav_shape,
            sync_offset=sync_offset,
            num_partitions=physical_cpus() if num_partitions is None else num_partitions,
            tileshape=None if tileshape is None else tuple(int(n) for n in tileshape),
            array_backends=None if array_backends is None else tuple(array_backends),
        )


def _split(
    data: Any, sig_dims: int | None, nav_shape: Sequence[int] | None, sig_shape: Sequence[int] | None
) -> tuple[tuple[int, ...], int]:
    if sig_dims is None:
        if sig_shape is not None:
            sig_dims = len(sig_shape)
        else:
            sig_dims = 2 if nav_shape is None else data.ndim - len(nav_shape)
    elif sig_shape is not None and len(sig_shape) != sig_dims:
        raise ValueError(f"sig_shape {tuple(sig_shape)} does not have sig_dims={sig_dims} axes")
    sig = tuple(data.shape[data.ndim - sig_dims :]) if sig_shape is None else tuple(int(n) for n in sig_shape)
    return sig, sig_dims


class RawFileDataSet(DataSet):
    """Frames one after the other in a flat file.

    Parameters
    ----------
    path
        The file.
    dtype
        Of the values, byte order included.
    nav_shape, sig_shape
        Scan and detector shape.
    sync_offset
        Frames to skip; negative: blank frames before the first.
    io_backend, enable_direct
        How LiberTEM would read; framefold maps the file.
    num_partitions
        Force this number of partitions.
    """

    def __init__(
        self,
        path: Any,
        dtype: npt.DTypeLike,
        scan_size: Sequence[int] | None = None,
        detector_size: Sequence[int] | None = None,
        enable_direct: bool = False,
        detector_size_raw: Any = None,
        crop_detector_to: Any = None,
        tileshape: Any = None,
        nav_shape: Sequence[int] | None = None,
        sig_shape: Sequence[int] | None = None,
        sync_offset: int = 0,
        io_backend: Any = None,
        num_partitions: int | None = None,
    ) -> None:
        nav = nav_shape if nav_shape is not None else scan_size
        sig = sig_shape if sig_shape is not None else detector_size
        if nav is None or sig is None:
            raise TypeError("RawFileDataSet needs nav_shape and sig_shape")
        if detector_size_raw is not None or crop_detector_to is not None:
            raise ValueError("cropping while reading is not provided: crop in the UDF")
        signal = tuple(int(n) for n in sig)
        self._path = str(path)
        try:
            frames = map_frames(self._path, dtype, 0, signal)
        except (OSError, ValueError) as exc:
            raise DataSetException(
                f"cannot map {self._path} as frames of {signal} {np.dtype(dtype)}: {exc}"
            ) from exc
        super().__init__(
            FrameArray(frames, signal, Backends.BACKEND_NUMPY, self._path),
            nav_shape=tuple(int(n) for n in nav),
            sync_offset=sync_offset,
            num_partitions=num_partitions,
        )


class FileDataSet(DataSet):
    """A file of any format that framefold reads."""

    def __init__(
        self, path: Any, *, nav_shape: Any = None, sig_shape: Any = None, dtype: Any = None,
        sync_offset: int = 0, num_partitions: int | None = None, **options: Any,
    ) -> None:  # fmt: skip
        from framefold.io.registry import open_source  # noqa: PLC0415  # many formats, only where wanted

        opened = open_source(path, nav_shape=nav_shape, sig_shape=sig_shape, dtype=dtype, **options)
        self._path = str(path)
        super().__init__(opened, nav_shape=nav_shape, sync_offset=sync_offset, num_partitions=num_partitions)
