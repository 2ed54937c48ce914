"""The datasets that a user of LiberTEM makes: of an array, a raw file, a file of another format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.compat.libertem.arrays import physical_cpus
from framefold.compat.libertem.dataset import DataSet, DataSetException
from framefold.compat.libertem.frames import FrameArray, map_frames
from framefold.udfcore.backend import Backends, backend_of


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
