"""TIFF and BigTIFF stacks by tifffile: memory-mapped when contiguous, decoded page by page otherwise."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from framefold.errors import DataError
from framefold.io.format import Format
from framefold.io.identity import file_identity
from framefold.io.indexed import IndexedSource
from framefold.io.memmap import FrameLayout, MemmapSource, checked_shape, frames_present
from framefold.io.memory import require_numbers
from framefold.udfcore.metadata import Axis, Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import Source

_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def sniff(path: str, head: bytes) -> str | None:
    """Tell why a file is not TIFF."""
    if head[:4] not in _SIGNATURES:
        return "begins with none of II*, MM*, II+, MM+"
    if b"MMX" in head[1024:1056] and not path.lower().endswith((".tif", ".tiff")):
        return "has a header of MarCCD"
    return None


def open_tiff(path: str, *, sig_dims: int = 2, series: int | None = None, strict: bool = False) -> Source:
    """Open a TIFF stack.

    Parameters
    ----------
    path
        The file.
    sig_dims
        How many of the last axes are signal.
    series
        Which series of pages, where a file has several of different shape; None: all pages, if they have one
        shape, else the first series.
    strict
        A truncated file is an error.

    Raises
    ------
    DataError
        If tifffile is missing or cannot read the file.
    """
    tifffile = _tifffile()
    try:
        with tifffile.TiffFile(path) as file:
            count = len(file.series)
            if not 0 <= (series or 0) < count:
                raise DataError(f"{path} has {count} series of pages, series={series} was asked for")
            chosen = file.series[series or 0]
            single = series is None and _are_single_frames(file.series, sig_dims)
            stated = (count, *chosen.shape) if single else tuple(chosen.shape)
            shape = checked_shape(path, stated, "the stack")
            dtype = None if chosen.dtype is None else chosen.dtype.newbyteorder(file.byteorder)
            offset = None if single else chosen.dataoffset
            metadata = _metadata(file, chosen)
    except DataError:
        raise
    except Exception as exc:
        # tifffile raises its own and many built-in types for damaged files
        raise DataError(f"{path}: cannot read as TIFF: {exc}") from exc
    if dtype is None:
        raise DataError(f"{path}: pages of an unknown pixel type")
    require_numbers(dtype, path)
    if not 0 < sig_dims <= len(shape):
        raise DataError(
            f"{path} has the shape {shape}: sig_dims={sig_dims} must lie between 1 and {len(shape)}"
        )
    nav, sig = shape[: len(shape) - sig_dims] or (1,), shape[len(shape) - sig_dims :]
    identity = file_identity(path, "tiff", series=series, sig_dims=sig_dims)
    if offset is not None:
        size = math.prod(sig) * dtype.itemsize
        _, present = frames_present(path, offset, size, size, math.prod(nav), strict=strict)
        return MemmapSource(FrameLayout(path, nav, sig, dtype, offset, size, present), metadata, identity)
    opener = functools.partial(_Pages, path, None if single else series or 0, nav, sig)
    return IndexedSource(
        opener, Shape((*nav, *sig), sig_dims=sig_dims), dtype, (*(1 for _ in nav), *sig),
        identity=identity, read_path="tifffile", path=path, metadata=metadata,
    )  # fmt: skip


def _are_single_frames(series: Any, sig_dims: int) -> bool:
    """Tell whether a program wrote each frame as a series of its own."""
    first = series[0]
    return len(series) > 1 and all(
        s.shape == first.shape and s.dtype == first.dtype and len(s.shape) == sig_dims and len(s.pages) == 1
        for s in series
    )


class _Pages:
    """Decodes pages on demand; a file handle per call, as threads cannot share those of tifffile."""

    def __init__(self, path: str, series: int | None, nav: tuple[int, ...], sig: tuple[int, ...]) -> None:
        self._path, self._series, self._nav, self._sig = path, series, nav, sig

    def __getitem__(self, key: tuple[slice, ...]) -> Any:
        nav, sig = key[: len(self._nav)], key[len(self._nav) :]
        frames = np.arange(math.prod(self._nav)).reshape(self._nav)[nav].reshape(-1)
        with _tifffile().TiffFile(self._path) as file:
            if self._series is None:
                pages = [s.pages[0] for s in file.series]
            else:
                pages = file.series[self._series].pages
            if len(pages) != math.prod(self._nav):
                # a page holds several frames, or a frame several pages: rare, so all are read
                whole = file.series[self._series or 0].asarray().reshape(-1, *self._sig)
                return whole[frames][(slice(None), *sig)]
            return np.stack([pages[int(i)].asarray().reshape(self._sig)[sig] for i in frames])


def _metadata(file: Any, series: Any) -> Metadata:
    """Return what ImageJ, OME and our own exporter write; pixel sizes only where a unit is stated."""
    raw: dict[str, Any] = {"axes": series.axes}
    page = file.pages[0]
    for name in ("ImageDescription", "Software", "DateTime"):
        tag = page.tags.get(name)
        if tag is not None and isinstance(tag.value, str):
            raw[name] = tag.value[:65536]
    unit, resolution = (
        page.tags.get("ResolutionUnit"),
        (page.tags.get("YResolution"), page.tags.get("XResolution")),
    )
    metres = {2: 25.4e-3, 3: 1e-2}.get(int(unit.value)) if unit is not None else None
    per_unit = [t.value[0] / t.value[1] if t is not None and t.value[1] else 0.0 for t in resolution]
    # 1 and 72 per inch are what programs write who do not know
    if metres is None or min(per_unit) <= 0 or per_unit[0] in (1.0, 72.0) or len(series.shape) < 2:
        return Metadata(raw=raw)
    sig = tuple(Axis(n, metres / p, units="m") for n, p in zip("yx", per_unit, strict=True))
    nav = tuple(Axis() for _ in series.shape[:-2]) or (Axis("frame"),)
    return Metadata(axes=(*nav, *sig), raw=raw)


def _tifffile() -> Any:
    try:
        import tifffile  # noqa: PLC0415  # optional
    except ImportError as exc:
        raise DataError("TIFF files need the tifffile package: pip install 'framefold[formats]'") from exc
    return tifffile


FORMAT = Format("tiff", "TIFF, BigTIFF, OME-TIFF, ImageJ stacks", sniff, open_tiff, (".tif", ".tiff", ".btf"))
