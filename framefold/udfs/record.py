"""Frames written to a .npy file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, UDFError
from framefold.udfcore.auxdata import AuxData
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.udf import UDF

Choose = Callable[[npt.NDArray[Any], npt.NDArray[np.int64]], npt.NDArray[Any]]


class RecordUDF(UDF):
    """Write the frames to a .npy file, in the dtype in which they arrive (raw, or corrected).

    The head node makes the file; every worker writes its frames to their places, so that `path` must name the
    same file on all of them. What is written of a partition is on disk before its result is merged.
    Result ``recorded``: how many frames were written; frames that the dataset lacks stay 0 in the file.

    Parameters
    ----------
    path
        Of the file. Its shape is that of the dataset, or ``(frames, *sig)`` with a ROI.
    overwrite
        Replace an existing file.
    keep
        Bool per frame of the dataset, in navigation or flat shape, or the same as nav aux data: only these
        frames are written, one after the other, shape ``(kept frames, *sig)``. None: all.
    choose
        Decides during the run, also of live data: takes frames ``(n, *sig)`` and their flat indices in the
        dataset, and returns flags. The file has the shape of the dataset; frames that were not chosen are
        holes in it, which read as 0 and take no space on disk. Result ``chosen`` says which are there.
        For shots: ``udf.accepts()`` of a `C2UDF`.

    Raises
    ------
    DataError
        If the file exists, or `keep` does not fit the dataset, before anything is read.
    """

    engine = EngineOptions(whole_frames=True, gil="free", effects=True)

    def __init__(
        self,
        path: str | os.PathLike[str],
        overwrite: bool = False,
        keep: npt.ArrayLike | AuxData | None = None,
        choose: Choose | None = None,
    ) -> None:
        if keep is not None and choose is not None:
            raise UDFError(
                "RecordUDF takes keep= (known before the run) or choose= (decides in it), not both"
            )
        # not as aux data: the place of a frame in the file depends on all frames before it
        flags = keep.array if isinstance(keep, AuxData) else keep
        super().__init__(
            path=os.fspath(path), overwrite=overwrite, keep=None if flags is None else np.asarray(flags),
            choose=choose,
        )  # fmt: skip

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Ask for raw data."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare the number of frames, and which of them where they are chosen."""
        buffers = {"recorded": self.buffer("single", dtype="int64", reduce="sum")}
        if self.params.choose is not None:
            buffers["chosen"] = self.buffer("nav", dtype="bool")
        return buffers

    def preprocess(self) -> None:
        """Make the file, on the head node only."""
        if self.meta.partition_index is not None:
            return
        meta = self.meta
        nav = tuple(meta.dataset_shape.nav) if meta.roi is None else (int(np.count_nonzero(meta.roi)),)
        if self.params.keep is not None:
            nav = (int(np.count_nonzero(self._kept())),)
        create_npy(
            Path(self.params.path), (*nav, *meta.dataset_shape.sig), meta.input_dtype, self.params.overwrite,
            reserve=self.params.choose is None,
        )  # fmt: skip

    def _kept(self) -> npt.NDArray[np.bool_]:
        """Return which rows of the run are written."""
        keep, meta = self.params.keep, self.meta
        if keep.dtype != np.bool_ or keep.size != meta.dataset_shape.nav.size:
            raise DataError(
                f"keep has dtype {keep.dtype} and shape {keep.shape}: it must be bool, one entry for each of "
                f"the frames {tuple(meta.dataset_shape.nav)}"
            )
        flat = keep.reshape(-1)
        return flat if meta.roi is None else flat[meta.roi.reshape(-1)]

    def get_worker_data(self) -> Mapping[str, Any]:
        """Find the place of every kept frame in the file."""
        if self.params.keep is None:
            return {}
        kept = self._kept()
        return {"place": np.where(kept, np.cumsum(kept) - 1, -1)}

    def get_task_data(self) -> Mapping[str, Any]:
        """Open the file for one partition."""
        file = FileIO(self.params.path, "r+")
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        read(file)
        return {"file": file, "header": file.tell()}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Write the frames of the tile."""
        where = self.meta.slice
        assert where is not None  # known for every tile
        row = where.origin[0]
        if self.params.choose is not None:
            self._write_chosen(tile, row)
            return
        if self.params.keep is None:
            self._write(tile, row)
            return
        place = self.worker_data.place[row : row + tile.shape[0]]
        wanted = np.flatnonzero(place >= 0)
        if len(wanted):  # what is kept of a tile stays together in the file
            self._write(tile[wanted], int(place[wanted[0]]))

    def _write_chosen(self, tile: npt.NDArray[Any], row: int) -> None:
        flags = np.asarray(self.params.choose(tile, self.meta.frame_ids), dtype=bool)
        if flags.shape != (len(tile),):
            self.task_data.file.close()  # there will be no cleanup
            raise UDFError(f"choose= returned flags of shape {flags.shape} for {len(tile)} frames")
        self.results.chosen[...] = flags
        for i in np.flatnonzero(flags):
            self._write(tile[i : i + 1], row + int(i))

    def _write(self, frames: npt.NDArray[Any], place: int) -> None:
        data = memoryview(np.ascontiguousarray(frames).reshape(-1).view(np.uint8).data)
        offset = self.task_data.header + place * (data.nbytes // max(1, frames.shape[0]))
        while data.nbytes:  # the system writes at most 2 GiB at a time
            done = os.pwrite(self.task_data.file.fileno(), data, offset)
            data, offset = data[done:], offset + done
        self.results.recorded += frames.shape[0]

    def postprocess(self) -> None:
        """Wait until the frames are on disk."""
        os.fsync(self.task_data.file.fileno())

    def cleanup(self) -> None:
        """Close the file."""
        self.task_data.file.close()
        super().cleanup()


def create_npy(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], overwrite: bool, *, reserve: bool = True
) -> None:
    """Make a .npy file of zeros at its full size; `reserve` makes sure that the disk has room for it.

    Raises
    ------
    DataError
        If the file exists and `overwrite` is False, or the disk has no room for it.
    """
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    try:
        with path.open("wb" if overwrite else "xb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(file, header)
            start = file.tell()
            file.truncate(start + size)
            if size and reserve and hasattr(os, "posix_fallocate"):
                # a full disk is an error now, not in the middle of a run
                os.posix_fallocate(file.fileno(), start, size)
    except FileExistsError:
        raise DataError(f"{path} exists: choose another name, or pass overwrite=True to replace it") from None
    except OSError as exc:
        raise DataError(f"cannot make {path} with {size} bytes for frames {shape} {dtype}: {exc}") from exc
