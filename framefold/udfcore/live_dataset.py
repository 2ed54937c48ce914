"""Live streams as datasets: what ``ctx.load`` returns for them, and what a run binds them to."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, StreamError
from framefold.udfcore.dataset import Dataset, RoiMaker
from framefold.udfcore.live import AcquisitionStart, LiveSource
from framefold.udfcore.live_plan import LiveGeometry, check_geometry
from framefold.udfcore.metadata import Axis, Metadata
from framefold.udfcore.shapes import Shape
from framefold.udfcore.source import ReadStats
from framefold.udfcore.tile import TileSlice


class BoundSource:
    """A stream whose geometry is known, as the engine's `Source`; its data come with the tasks."""

    is_view = True

    def __init__(self, url: str, nav: tuple[int, ...], geometry: LiveGeometry) -> None:
        start = geometry.start
        self.path = url
        self.geometry = geometry
        self.shape = Shape((*nav, *start.sig_shape), sig_dims=len(start.sig_shape))
        self.dtype = start.dtype
        self.natural_chunks = (1,) * (len(start.sig_shape) + 1)
        self.identity = url
        self.valid = None
        self.metadata = Metadata(
            mask=_bad_pixels(start),
            raw={k: v for k, v in start.meta.items() if not isinstance(v, np.ndarray)},
        )

    def read(self, tile: TileSlice, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Refuse: a stream passes once."""
        raise StreamError(f"{self.path} is live: its frames pass once, in a run; they cannot be read")

    def stats(self) -> ReadStats:
        """Return which way the data come."""
        return ReadStats(path="live")


def _bad_pixels(start: AcquisitionStart) -> npt.NDArray[np.bool_] | None:
    mask = np.asarray(start.meta.get("pixel_mask", 0))
    return mask != 0 if mask.shape == start.sig_shape and mask.ndim else None


class LiveDataset:
    """A live detector with a navigation shape; opens nothing.

    Shape and dtype are known before a run where protocol and user tell them; else asking for them raises
    `StreamError`.

    Parameters
    ----------
    source
        Opens the stream.
    nav_shape, sync_offset
        Of the user; they take the place of the source's own.
    """

    def __init__(
        self, source: LiveSource, *, nav_shape: tuple[int, ...] | None = None, sync_offset: int | None = None
    ) -> None:
        changes: dict[str, Any] = {}
        if nav_shape is not None and nav_shape != source.nav_shape:
            changes["nav_shape"] = nav_shape
        if sync_offset is not None and sync_offset != source.sync_offset:
            changes["sync_offset"] = sync_offset
        if changes:
            try:
                source = dataclasses.replace(source, **changes)  # type: ignore[type-var]
            except TypeError as exc:
                raise DataError(
                    f"{source.url}: give {', '.join(changes)} where this source is made, not to ctx.load"
                ) from exc
        self.source = source

    @property
    def name(self) -> str:
        """The URL."""
        return self.source.url

    @property
    def identity(self) -> str:
        """The URL with what the user stated."""
        s = self.source
        nav = "" if s.nav_shape is None else f" nav={s.nav_shape}"
        return f"{s.url}{nav}" + (f" sync_offset={s.sync_offset}" if s.sync_offset else "")

    @property
    def sync_offset(self) -> int:
        """Frame *i* of the dataset is frame ``i + sync_offset`` of the stream."""
        return self.source.sync_offset

    @property
    def shape(self) -> Shape:
        """Navigation and signal shape, where they are known before the acquisition begins.

        Raises
        ------
        StreamError
            If they are not.
        """
        return self.dataset.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of the raw frames."""
        return self.dataset.dtype

    @property
    def metadata(self) -> Metadata:
        """What is known beforehand."""
        return self.dataset.metadata

    @property
    def axes(self) -> tuple[Axis, ...]:
        """One axis per dataset axis."""
        return self.dataset.axes

    @property
    def roi(self) -> RoiMaker:
        """Index to get a region of interest; needs the scan shape."""
        if self.source.nav_shape is not None:
            return RoiMaker(self.source.nav_shape)
        return RoiMaker(tuple(self.shape.nav))

    def known(self) -> Dataset | None:
        """Return the dataset that a run would be bound to, None where the detector must tell first."""
        start = self.source.known()
        if start is None:
            return None
        return self.bind(start)

    @property
    def dataset(self) -> Dataset:
        """The dataset that a run would be bound to.

        Raises
        ------
        StreamError
            Where the detector must tell first.
        """
        found = self.known()
        if found is None:
            raise StreamError(
                f"{self.name}: shape and dtype are not known before the acquisition begins; results tell them"
            )
        return found

    def bind(self, start: AcquisitionStart) -> Dataset:
        """Return the dataset of an acquisition.

        Raises
        ------
        DataError
            If the stream describes itself wrongly.
        """
        check_geometry(start)
        source = self.source
        nav = source.nav_shape or start.nav_shape
        if nav is None:
            n = source.options.n_frames or start.n_frames
            nav = None if n is None else (max(1, n - max(0, source.sync_offset)),)
        geometry = LiveGeometry(start, source.options, endless=nav is None)
        if nav is None:
            nav = (max(1, source.options.history),)
        bound = Dataset(BoundSource(source.url, tuple(nav), geometry), sync_offset=source.sync_offset)
        # whether a frame comes is seen when it is there; only what was before the first never does
        before = np.arange(math.prod(nav)) + source.sync_offset < 0
        bound.valid = ~before if before.any() else None
        return bound

    def export(self, path: Any, **options: Any) -> None:
        """Refuse: see the message."""
        raise DataError(f"{self.name} is live: record it with RecordUDF, or export what was recorded")

    def __repr__(self) -> str:
        return f"<LiveDataset {self.identity}>"
