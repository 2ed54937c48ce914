"""What ``ctx.load`` returns: a source with the user's navigation shape and offset."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfcore.metadata import Axis, Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import Source

Flags = npt.NDArray[np.bool_]


class RoiMaker:
    """``ds.roi[...]``: a bool mask of the navigation shape, True where indexed."""

    def __init__(self, nav: tuple[int, ...]) -> None:
        self._nav = nav

    def __getitem__(self, key: Any) -> Flags:
        mask = np.zeros(self._nav, dtype=bool)
        mask[key] = True
        return mask


class Dataset:
    """Frames with a navigation shape; immutable, no data held.

    Parameters
    ----------
    source
        Delivers the frames.
    nav_shape
        Overrides that of the source. A smaller product ignores the rest, a larger one leaves the tail
        invalid.
    sync_offset
        Frame *i* of the dataset is frame ``i + sync_offset`` of the source; what falls off is invalid.

    exporter
        What `export` calls; given by the layer that knows formats.

    Raises
    ------
    DataError
        If `nav_shape` is not a sequence of positive numbers.
    """

    def __init__(
        self,
        source: Source,
        *,
        nav_shape: tuple[int, ...] | None = None,
        sync_offset: int = 0,
        exporter: Callable[..., None] | None = None,
    ) -> None:
        self.source = source
        self._exporter = exporter
        self.sync_offset = int(sync_offset)
        n_source = source.shape.nav.size
        nav = tuple(source.shape.nav) if nav_shape is None else _as_nav_shape(nav_shape)
        n = math.prod(nav)
        if nav_shape is not None and n < n_source:
            warnings.warn(
                f"nav_shape {nav} holds {n} frames, the source has {n_source}: the rest is ignored",
                stacklevel=3,
            )
        if nav_shape is not None and n > n_source:
            warnings.warn(
                f"nav_shape {nav} holds {n} frames, the source has only {n_source}: "
                f"the tail is marked invalid",
                stacklevel=3,
            )
        self.shape = Shape((*nav, *source.shape.sig), sig_dims=source.shape.sig.dims)
        self.valid = _valid_frames(source.valid, n, n_source, self.sync_offset)

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of the raw frames."""
        return self.source.dtype

    @property
    def metadata(self) -> Metadata:
        """Calibration and context."""
        return self.source.metadata

    @property
    def axes(self) -> tuple[Axis, ...]:
        """One axis per dataset axis, navigation first, uncalibrated where the file is silent."""
        stated = self.metadata.axes
        sig_dims = self.shape.sig.dims
        if len(stated) == self.shape.dims:
            return stated
        nav = tuple(Axis(name=n) for n in _nav_names(self.shape.nav.dims))
        if len(stated) >= sig_dims and sig_dims:
            return (*nav, *stated[-sig_dims:])
        return (*nav, *(Axis(name=n) for n in _sig_names(sig_dims)))

    @property
    def roi(self) -> RoiMaker:
        """Index to get a region of interest: ``ds.roi[2:8, :]``."""
        return RoiMaker(tuple(self.shape.nav))

    @property
    def identity(self) -> str:
        """What identifies the data, for provenance."""
        extra = f" sync_offset={self.sync_offset}" if self.sync_offset else ""
        return f"{self.source.identity} nav={tuple(self.shape.nav)}{extra}"

    @property
    def candidates(self) -> tuple[Any, ...]:
        """Other arrays in the file that ``key=`` can choose; empty for formats with a single one."""
        return tuple(getattr(self.source, "candidates", ()))

    @property
    def name(self) -> str:
        """A short name for messages: the file name, or the kind of source."""
        path = getattr(self.source, "path", None)
        return str(path).rsplit("/", 1)[-1] if path else type(self.source).__name__

    def export(self, path: Any, **options: Any) -> None:
        """Write the dataset to `path`: ``Context.export`` of the context that loaded it."""
        if self._exporter is None:
            raise DataError("this dataset was made without a context: use ctx.export(dataset, path)")
        self._exporter(self, path, **options)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_exporter": None}  # a context does not travel to workers

    def __repr__(self) -> str:
        gib = self.shape.size * self.dtype.itemsize / 2**30
        stats = self.source.stats()
        path = f", {stats.path}" if stats.path else ""
        return f"<Dataset {self.name}: {self.shape} {self.dtype}, {gib:.3g} GiB{path}>"

    def _repr_html_(self) -> str:
        rows = [
            ("source", self.name),
            ("shape (nav | sig)", str(self.shape)),
            ("dtype", str(self.dtype)),
            ("size", f"{self.shape.size * self.dtype.itemsize / 2**30:.3g} GiB"),
        ]
        rows += [
            (f"axis {a.name or i}", f"{a.scale:.6g} {a.units} per step, from {a.offset:.6g}")
            for i, a in enumerate(self.axes)
        ]
        body = "".join(f"<tr><th style='text-align:left'>{k}</th><td>{v}</td></tr>" for k, v in rows)
        return f"<table>{body}</table>"


def _as_nav_shape(nav_shape: Any) -> tuple[int, ...]:
    try:
        nav = (int(nav_shape),) if np.ndim(nav_shape) == 0 else tuple(int(n) for n in nav_shape)
    except (TypeError, ValueError):
        nav = ()
    if not nav or any(n < 1 for n in nav):
        raise DataError(f"nav_shape {nav_shape!r} must be one or more positive numbers, such as (64, 64)")
    return nav


def _valid_frames(stated: Flags | None, n: int, n_source: int, offset: int) -> Flags | None:
    if stated is None and offset == 0 and n <= n_source:
        return None
    index = np.arange(n, dtype=np.int64) + offset
    valid = (index >= 0) & (index < n_source)
    if stated is not None:
        inside = np.flatnonzero(valid)
        valid[inside] = np.asarray(stated).reshape(-1)[index[inside]]
    return None if valid.all() else valid


def _nav_names(n: int) -> tuple[str, ...]:
    return {0: (), 1: ("frame",), 2: ("y", "x")}.get(n, tuple(f"nav{i}" for i in range(n)))


def _sig_names(n: int) -> tuple[str, ...]:
    return {0: (), 1: ("pixel",), 2: ("ky", "kx")}.get(n, tuple(f"sig{i}" for i in range(n)))
