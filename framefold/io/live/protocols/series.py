"""Image series over ZeroMQ that announce themselves: start, numbered images, end."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from framefold.errors import StreamError
from framefold.io.live.assembly import Assembly
from framefold.io.live.encoded import EncodedArray, UndecodableError
from framefold.io.live.feed import Over, whole_frames
from framefold.io.live.packed import KeptImages
from framefold.io.live.zmq_socket import ZmqSocket
from framefold.udfcore.live import AcquisitionStart


@dataclass(frozen=True, slots=True)
class SeriesStart:
    """The beginning of a series.

    Attributes
    ----------
    series
        Its number.
    n_images
        None: not stated.
    shape, dtype
        Of an image; None: as the first image has it.
    channels
        Names; empty: as the first image has them.
    fields
        Everything else, arrays still encoded.
    """

    series: int
    n_images: int | None
    shape: tuple[int, ...] | None
    dtype: np.dtype[Any] | None
    channels: tuple[str, ...]
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SeriesImage:
    """An image: its arrays by channel."""

    series: int
    number: int
    arrays: Mapping[str, EncodedArray]


@dataclass(frozen=True, slots=True)
class SeriesEnd:
    """The end of a series."""

    series: int


SeriesMessage = SeriesStart | SeriesImage | SeriesEnd


class SeriesFeed:
    """Images of one PULL socket; see `Feed`.

    Parameters
    ----------
    endpoint
        ``tcp://host:port``.
    parse
        Parts of a message -> what it says: one thing, or none yet.
    describe
        Start and the names of the channels taken -> `AcquisitionStart.meta`; ``"pixel_masks"`` holds those
        of the channels, bool, True where bad.
    limit
        Largest part of a message, bytes.
    channel
        Name; None: the first; ``"all"``: all, as a first signal axis.
    """

    def __init__(
        self,
        endpoint: str,
        parse: Callable[[list[memoryview]], Sequence[SeriesMessage]],
        describe: Callable[[SeriesStart, tuple[str, ...]], dict[str, Any]],
        limit: int,
        channel: str | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._parse, self._describe, self._channel = parse, describe, channel
        self._socket = ZmqSocket(endpoint, "pull", limit)
        self._parsed: deque[SeriesMessage] = deque()
        self._start: SeriesStart | None = None
        self._waiting: SeriesImage | None = None
        self._names: tuple[str, ...] = ()
        self._series = -1
        self._strays = 0
        self._image: tuple[tuple[int, ...], np.dtype[Any]] = (), np.dtype(np.uint8)
        self.keeping: KeptImages | None = None

    def connect(self) -> None:
        """Open the socket."""
        self._socket.connect()

    def begin(self, timeout: float, *, wanted: bool) -> AcquisitionStart | None:
        """Return the next series; where its start lacks shape or dtype, once the first image is here."""
        until = time.monotonic() + timeout
        while True:
            start = self._start
            if start is not None and (self._waiting is not None or (start.shape and start.dtype)):
                return self._begun(start)
            message = self._next(max(0.0, until - time.monotonic()))
            if message is None:
                return None
            if isinstance(message, SeriesStart):
                self._start, self._strays = message, 0
            elif isinstance(message, SeriesEnd):
                self._start = None
            elif start is not None and message.series == start.series:
                self._waiting = message
            else:
                self._strays += 1

    def receive(self, assembly: Assembly, timeout: float) -> Over | None:
        """Hand images to `assembly` for about `timeout` seconds."""
        until = time.monotonic() + timeout
        if self._waiting is not None:
            message, self._waiting = self._waiting, None
            self._put(assembly, message)
        while not assembly.complete and (left := until - time.monotonic()) > 0:
            got = self._next(left)
            if got is None:
                return None
            if isinstance(got, SeriesImage):
                self._put(assembly, got)
            elif isinstance(got, SeriesStart):
                self._start = got
                return Over("restart", f"the detector began series {got.series}")
            elif got.series == self._series:
                return Over("end-message")
        return None

    def heard(self) -> str:
        """Say what came instead of a start message."""
        if self._start is not None:
            return f"Series {self._start.series} began, but no image of it arrived."
        return f"Received {self._strays} images of a series whose start message was missed."

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _next(self, timeout: float) -> SeriesMessage | None:
        while not self._parsed:
            parts = self._socket.receive(timeout)
            if parts is None:
                return None
            try:
                self._parsed.extend(self._parse(parts))
            except StreamError as exc:
                raise StreamError(f"{self.endpoint}: {exc}") from exc
        return self._parsed.popleft()

    def _begun(self, start: SeriesStart) -> AcquisitionStart:
        names = start.channels or (tuple(self._waiting.arrays) if self._waiting else ("threshold_1",))
        self._names = self._chosen(names, start.series)
        shape, dtype = start.shape, start.dtype
        if self._waiting is not None:
            first = self._array(self._waiting, self._names[0])
            shape, dtype = shape or first.shape, dtype or first.dtype
        assert shape is not None
        assert dtype is not None
        self._series, self._start = start.series, None
        sig = shape if self._channel != "all" else (len(self._names), *shape)
        sectors = whole_frames(sig, self.endpoint)
        meta = self._describe(start, self._names)
        masks = meta.pop("pixel_masks", [])
        for mask in masks:
            if mask.shape != shape:
                raise StreamError(f"{self.endpoint}: pixel mask of {mask.shape}, the images have {shape}")
        if len(masks) == len(self._names):
            # offered as `metadata.mask`, applied only where the user passes it on
            meta["pixel_mask"] = np.array(masks) if self._channel == "all" else masks[0]
        self._image = shape, dtype.newbyteorder("=")
        self.keeping = KeptImages(math.prod(sig) * dtype.itemsize, self._channel == "all")
        return AcquisitionStart(start.n_images, sig, dtype.newbyteorder("="), None, sectors, 0, meta)

    def _chosen(self, names: tuple[str, ...], series: int) -> tuple[str, ...]:
        if self._channel == "all":
            return names
        if self._channel is None:
            return names[:1]
        if self._channel not in names:
            raise StreamError(
                f"{self.endpoint}: no channel {self._channel!r} in series {series}; "
                f"there are {', '.join(names)}"
            )
        return (self._channel,)

    def _array(self, message: SeriesImage, name: str) -> EncodedArray:
        if name not in message.arrays:
            raise StreamError(f"{self.endpoint}: image {message.number} lacks the channel {name!r}")
        return message.arrays[name]

    def _put(self, assembly: Assembly, message: SeriesImage) -> None:
        if message.series != self._series:
            assembly.foreign(0)
            return
        rows = assembly.rows(0, message.number)
        if rows is None:
            return
        arrays = [self._array(message, name) for name in self._names]
        try:
            for array in arrays:
                array.check(*self._image)
        except UndecodableError:
            assembly.corrupt(0)
            return
        rows[0] = arrays
        assembly.filled(0, message.number)
