"""Runs of the European XFEL: modules of a detector as a signal axis, trains x pulses as frames."""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.counter import ReadCounter
from framefold.io.euxfel_index import (
    Module,
    ModuleRows,
    choose_modules,
    detector_of,
    match_frames,
    open_run,
    rows_of,
)
from framefold.io.format import Format
from framefold.io.hdf5_frames import ReaderCache
from framefold.io.hdf5_layouts import Candidate, Segment
from framefold.io.hdf5_read import open_file
from framefold.io.output import check_tile, output_for
from framefold.udfcore.metadata import Axis, Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import ReadStats
from framefold.udfcore.tile import TileSlice

_RUN_FILE = re.compile(r"[A-Z]+-R\d{4,}-[A-Z0-9]+-S\d{5}\.h5$")


def open_euxfel(
    path: str | os.PathLike[str],
    key: str | None = None,
    *,
    detector: str | None = None,
    modules: Sequence[int] | None = None,
    plane: int = 0,
) -> EuxfelSource:
    """Open a run directory (needs EXtra-data).

    Parameters
    ----------
    path
        Directory with the files of a run, raw or corrected.
    key
        Which array of the modules to read; None: the image (``"image.data"``, ``"data.adc"`` for JUNGFRAU).
    detector
        Name of a detector with several modules; None: the only one of the run.
    modules
        Numbers of the modules to read; None: all that the run has.
    plane
        Raw AGIPD modules hold image (0) and gain (1) of every frame.

    Returns
    -------
    EuxfelSource
        Signal shape (modules, slow scan, fast scan). A frame that any of the modules lacks is invalid.

    Raises
    ------
    DataError
        If it is no run, or has no such detector, module, key or plane.
    """
    chosen = None if modules is None else tuple(int(m) for m in modules)
    return EuxfelSource(os.fspath(path), key, detector, chosen, plane)


class EuxfelSource:
    """Frames of a detector of many modules; see `open_euxfel`."""

    def __init__(
        self, path: str, key: str | None, detector: str | None, modules: tuple[int, ...] | None, plane: int
    ) -> None:
        self._path, self._options = path, (key, detector, modules, plane)
        run = open_run(path)
        name, sources, main_key = detector_of(run, detector)
        self._key = key or main_key
        numbers = choose_modules(name, sorted(sources), modules)
        rows = [rows_of(run, sources[n], self._key) for n in numbers]
        self._candidate = _stored_as(run, rows, sources[numbers[0]])
        self._plane = _plane_of(self._candidate, plane)
        frames, nav, self._modules = match_frames(numbers, rows)
        there = np.stack([m.row >= 0 for m in self._modules])
        sig = (len(numbers), *self._candidate.shape[-2:])
        self._shape = Shape((*nav, *sig), sig_dims=3)
        self._dtype = self._candidate.dtype.newbyteorder("=")
        self._valid: npt.NDArray[np.bool_] | None = None if there.all() else np.asarray(there.all(axis=0))
        lost = [(n, int((~t).sum())) for n, t in zip(numbers, there, strict=True) if not t.all()]
        reason = "" if not lost else "frames are missing: " + ", ".join(f"{k} of module {n}" for n, k in lost)
        names = ("train", "pulse") if len(nav) == 2 else ("frame",)
        self._metadata = Metadata(
            axes=tuple(Axis(n) for n in (*names, "module", "ss", "fs")),
            raw={"detector": name, "modules": list(numbers), "key": self._key, **_run_metadata(run)},
        )
        self.train_ids, self.pulse_ids = frames >> 16, frames & 0xFFFF
        self._readers = ReaderCache()
        first = self._modules[0].segments[0]
        self._counter = ReadCounter(self._readers.get(first, self._candidate).path, reason)
        self._identity = _identity(path, self._options)
        self._depth = _chunk_depth(first)

    @property
    def shape(self) -> Shape:
        """(trains, pulses) or (frames,), then (modules, slow scan, fast scan)."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type in native byte order."""
        return self._dtype

    @property
    def metadata(self) -> Metadata:
        """Axis names; detector, modules and run in `raw`."""
        return self._metadata

    @property
    def natural_chunks(self) -> tuple[int, ...]:
        """Whole modules."""
        return (self._depth, 1, *self._shape.sig[1:])

    @property
    def identity(self) -> str:
        """Directory, files with size and modification time, and options."""
        return self._identity

    @property
    def is_view(self) -> bool:
        """False: modules lie in different files."""
        return False

    @property
    def valid(self) -> npt.NDArray[np.bool_] | None:
        """Bool per frame, False where a module lacks the frame; None: all there."""
        return self._valid

    def read(self, tile: TileSlice, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return the raw values of `tile`; see `Source.read`."""
        check_tile(tile, self._shape.nav.size, tuple(self._shape.sig), self._path)
        out = output_for(tile, self._dtype, out, self._path)
        began = time.perf_counter()
        which, rows, columns = tile.sig
        for i, module in enumerate(self._modules[which]):
            self._read_module(module, tile.start, tile.stop, (*self._plane, rows, columns), out[:, i])
        self._counter.add(out.nbytes, time.perf_counter() - began)
        return out

    def stats(self) -> ReadStats:
        """Return what was read so far in this process, and by which path."""
        return self._counter.stats()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._path, self._options, self.identity)

    def __repr__(self) -> str:
        return f"<EuxfelSource {self._path} {self._metadata.raw['detector']} {self._shape} {self._dtype}>"

    def _read_module(
        self, module: Module, start: int, stop: int, sig: tuple[slice, ...], out: npt.NDArray[Any]
    ) -> None:
        file, row = module.file[start:stop], module.row[start:stop]
        if (row < 0).any():
            lacking = start + int(np.flatnonzero(row < 0)[0])
            raise DataError(f"{self._path}: module {module.number} lacks frame {lacking}")
        # runs of consecutive rows of one file
        borders = np.flatnonzero((np.diff(file) != 0) | (np.diff(row) != 1)) + 1
        for a, b in zip([0, *borders], [*borders, stop - start], strict=True):
            if a == b:
                continue
            part = np.empty((b - a, *(s.stop - s.start for s in sig)), self._dtype)
            reader = self._readers.get(module.segments[file[a]], self._candidate)
            reader.read(int(row[a]), int(row[a]) + int(b - a), sig, part)
            out[a:b] = part.reshape(out[a:b].shape)


def _stored_as(run: Any, rows: Sequence[ModuleRows], source: str) -> Candidate:
    """Return how a module is stored; the shape of a frame must be the same in all of them."""
    first = rows[0].segments[0]
    with open_file(first.file) as file:
        dataset = file[first.key]
        if dataset.ndim < 3 or dataset.dtype.kind not in "iuf":
            raise DataError(
                f"{source}: {first.key} has the shape {dataset.shape} {dataset.dtype}, which is no image"
            )
        nav_dims = 2 if first.frames != dataset.shape[0] else 1
        return Candidate(first.key, dataset.shape, dataset.dtype, nav_dims, "EuXFEL")


def _plane_of(candidate: Candidate, plane: int) -> tuple[slice, ...]:
    """Return the slice that selects the plane, empty where frames have only one."""
    between = candidate.shape[candidate.nav_dims : -2]
    planes = between[0] if between else 1
    if not 0 <= plane < planes:
        raise DataError(f"plane={plane}: frames of {candidate.key} have {planes} plane(s), counted from 0")
    return (slice(plane, plane + 1),) if between else ()


def _chunk_depth(segment: Segment) -> int:
    with open_file(segment.file) as file:
        chunks = file[segment.key].chunks
    return 1 if chunks is None else int(chunks[0])


def _run_metadata(run: Any) -> dict[str, Any]:
    try:
        stated = run.run_metadata()
    except Exception:  # noqa: BLE001  # older files have none, and EXtra-data raises what it likes
        return {}
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in stated.items()}


def _run_files(path: str) -> list[str]:
    return sorted(n for n in os.listdir(path) if _RUN_FILE.match(n))


def _identity(path: str, options: tuple[Any, ...]) -> str:
    status = [os.stat(os.path.join(path, n)) for n in _run_files(path)]
    total = sum(s.st_size for s in status)
    newest = max((s.st_mtime_ns for s in status), default=0)
    return f"euxfel:{os.path.abspath(path)}:{len(status)} files:{total}:{newest}:{options}"


@functools.lru_cache(maxsize=4)
def _reopen(path: str, options: tuple[Any, ...], identity: str) -> EuxfelSource:
    """Open a run in a worker; once per process, as every task brings one along."""
    source = EuxfelSource(path, *options)
    if source.identity != identity:
        raise DataError(f"{path} is not the run that was loaded: {identity} became {source.identity}")
    return source


def sniff(path: str, head: bytes) -> str | None:
    """Tell whether a directory holds files of a run, such as ``RAW-R0012-AGIPD00-S00000.h5``."""
    try:
        return None if _run_files(path) else "no files named like RAW-R0012-AGIPD00-S00000.h5"
    except OSError as exc:
        return str(exc)


FORMAT = Format(
    name="euxfel",
    description="run directory of the European XFEL, detectors of many modules (needs EXtra-data)",
    sniff=sniff,
    open=open_euxfel,
    directory=True,
)
