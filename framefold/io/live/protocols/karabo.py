"""Detectors of the European XFEL through a Karabo bridge: ``karabo://host:4545?source=*DET/*CH0*``."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError
from framefold.io.live.assembly import Assembly
from framefold.io.live.encoded import UndecodableError
from framefold.io.live.feed import Over
from framefold.io.live.protocols.karabo_messages import (
    MAX_PART,
    TrainData,
    choose_sources,
    parse_train,
    pulse_ids,
)
from framefold.io.live.registry import register_protocol
from framefold.io.live.sequential import SequentialSource
from framefold.io.live.url import LiveRequest
from framefold.io.live.zmq_socket import ZmqSocket
from framefold.udfcore.live import AcquisitionStart, PieceGrid, SectorSpec

PORT = 4545
Pattern = Literal["req", "sub", "pull"]
Trains = Literal["count", "received"]


@register_protocol("karabo")
def open_karabo(
    request: LiveRequest,
    *,
    pattern: Pattern = "req",
    source: tuple[str, ...] = (),
    key: str = "image.data",
    modules: int | None = None,
    plane: int = 0,
    trains: Trains = "count",
) -> SequentialSource:
    """Return the source of ``karabo://host:port?source=...&key=...``.

    Parameters
    ----------
    request
        Host and port of the bridge.
    pattern
        Socket of the bridge: it answers (``"req"``), publishes (``"sub"``) or deals out (``"pull"``).
    source
        Patterns of the names of sources, with commas; none: all that have `key`. Each is a sector.
    key
        Array of the source.
    modules
        Number of sources; the first train that has as many begins the acquisition. None: the first train.
    plane
        Raw AGIPD modules hold image (0) and gain (1) of every frame.
    trains
        Whether train ids that are left out are lost frames (``"count"``), or frames are numbered as trains
        are received (for bridges that pass on some trains only).
    """
    host, port = request.address.host or "127.0.0.1", request.address.port(PORT)
    make = functools.partial(KaraboFeed, f"tcp://{host}:{port}", pattern, source, key, modules, plane, trains)
    return SequentialSource(request.url, request.options, request.nav_shape, request.sync_offset, make)


class KaraboFeed:
    """Trains of one bridge; see `Feed`, and `open_karabo` for the parameters."""

    def __init__(
        self,
        endpoint: str,
        pattern: Pattern,
        patterns: tuple[str, ...],
        key: str,
        modules: int | None,
        plane: int,
        trains: Trains,
    ) -> None:
        self.endpoint = endpoint
        self._socket = ZmqSocket(endpoint, pattern, MAX_PART)
        self._asks, self._asked = pattern == "req", 0.0
        self._patterns, self._key, self._modules = patterns, key, modules
        self._plane, self._trains = plane, trains
        self._waiting: list[TrainData] = []
        self._names: list[str] = []
        self._ids: npt.NDArray[np.int64] | None = None
        self._pulses = 1
        self._sig: tuple[int, ...] = ()
        self._train0 = self._train = self._ordinal = 0
        self._heard: set[str] = set()

    def connect(self) -> None:
        """Open the socket.

        Raises
        ------
        StreamError
            Also if msgpack is not installed.
        """
        try:
            import msgpack  # noqa: F401, PLC0415  # optional
        except ImportError as exc:
            raise StreamError("karabo:// needs msgpack: pip install 'framefold[live]'") from exc
        self._socket.connect()

    def begin(self, timeout: float, *, wanted: bool) -> AcquisitionStart | None:
        """Return an acquisition once a train with all sources is here: it is the first one."""
        train = self._next(timeout)
        if not train:
            return None
        names = choose_sources(train, self._patterns, self._key)
        self._heard |= {d.source for d in train}
        if not names or (self._modules is not None and len(names) != self._modules):
            return None
        return self._begun(train, names)

    def receive(self, assembly: Assembly, timeout: float) -> Over | None:
        """Hand trains to `assembly` for about `timeout` seconds."""
        until = time.monotonic() + timeout
        while not assembly.complete and (left := until - time.monotonic()) > 0:
            train, self._waiting = self._waiting or self._next(left), []
            if not train:
                return None
            for number in sorted({data.train for data in train}):
                self._put(assembly, [data for data in train if data.train == number])
        return None

    def heard(self) -> str:
        """Say which sources were there."""
        if not self._heard:
            return "No train arrived."
        some = ", ".join(sorted(self._heard)[:8])
        more = f" and {len(self._heard) - 8} more" if len(self._heard) > 8 else ""
        wanted = f"{self._modules} sources" if self._modules else "a source"
        return (
            f"Trains arrived, but none with {wanted} like {', '.join(self._patterns) or '*'} that has "
            f"{self._key!r}; there are {some}{more}."
        )

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _next(self, timeout: float) -> list[TrainData]:
        if self._asks and not self._asked:
            self._socket.send(b"next")
            self._asked = time.monotonic()
        parts = self._socket.receive(timeout)
        if parts is None:
            return []
        self._asked = 0.0
        try:
            return parse_train(parts)
        except StreamError as exc:
            raise StreamError(f"{self.endpoint}: {exc}") from exc

    def _begun(self, train: list[TrainData], names: list[str]) -> AcquisitionStart:
        by_name = {d.source: d for d in train}
        first = by_name[names[0]]
        array = first.arrays[self._key]
        shape = array.shape
        if len(shape) < 2:
            raise StreamError(
                f"{self.endpoint}: {self._key!r} of {names[0]} has the shape {shape}: no images"
            )
        if len(shape) > 3 and not -shape[-3] <= self._plane < shape[-3]:
            raise StreamError(f"{self.endpoint}: plane={self._plane}, {names[0]} has {shape[-3]} planes")
        pulsed = len(shape) > 2
        self._pulses = shape[0] if pulsed else 1
        self._ids = pulse_ids(first, self._pulses) if pulsed else None
        self._names, self._waiting, self._sig = names, train, shape[-2:]
        self._train0 = self._train = first.train
        self._ordinal = 0
        self._heard = set()
        stacked = pulsed or len(names) > 1
        sectors = []
        for i, name in enumerate(names):
            part = tuple(slice(0, n) for n in self._sig)
            piece = self._sig
            if stacked:
                part, piece = (slice(i, i + 1), *part), (1, *piece)
            sectors.append(
                SectorSpec(i, part, PieceGrid(piece, ((0,) * len(piece),)), f"{self.endpoint} {name}")
            )
        meta: dict[str, Any] = {"sources": names, "key": self._key, "first_train": first.train}
        meta["pulses"] = self._pulses
        sig = (len(names), *self._sig) if stacked else self._sig
        return AcquisitionStart(None, sig, array.dtype.newbyteorder("="), None, tuple(sectors), 0, meta)

    def _put(self, assembly: Assembly, train: list[TrainData]) -> None:
        """Copy a train block by block: a train may be longer than the blocks that can be open at once."""
        runs = [run for data in train for run in self._runs_of(assembly, data)]
        if not runs:
            return
        at, stop = min(f for _, f, _ in runs), max(f + len(images) for _, f, images in runs)
        while at < stop:
            until = at + assembly.block_frames
            for sector, frame, images in runs:
                a, b = max(at, frame), min(until, frame + len(images))
                if a < b:
                    self._copy(assembly, sector, a, images[a - frame : b - frame])
            at = until

    def _runs_of(self, assembly: Assembly, data: TrainData) -> list[tuple[int, int, npt.NDArray[Any]]]:
        """Return (sector, first frame, images) for what a source sent, in the order of frames."""
        array = data.arrays.get(self._key)
        if data.source not in self._names or array is None:
            return []
        sector = self._names.index(data.source)
        n = array.shape[0] if len(array.shape) > 2 else 1
        try:
            images = array.view()
        except UndecodableError:
            assembly.corrupt(sector, n)
            return []
        if images.shape[-2:] != self._sig or images.dtype != assembly.start.dtype:
            raise StreamError(
                f"{self.endpoint}: train {data.train} of {data.source} has {images.shape} {images.dtype}, "
                f"the first one had images of {self._sig} {assembly.start.dtype}"
            )
        if images.ndim > 3:
            images = images.reshape(n, -1, *self._sig)[:, self._plane]
        images = images.reshape(n, *self._sig)
        begin = self._number(data.train) * self._pulses
        runs = []
        for first, pulse, count in sorted(_runs(self._places(data, n)), key=lambda run: run[1]):
            if pulse < 0:
                assembly.foreign(sector, count)
            else:
                runs.append((sector, begin + pulse, images[first : first + count]))
        return runs

    def _copy(self, assembly: Assembly, sector: int, frame: int, images: npt.NDArray[Any]) -> None:
        at = 0
        while at < len(images):
            rows = assembly.rows(sector, frame + at)
            if rows is None:
                at += 1
                continue
            n = min(len(rows), len(images) - at)
            rows[:n] = images[at : at + n].reshape(n, *rows.shape[1:])
            assembly.filled(sector, frame + at, n)
            at += n

    def _number(self, train: int) -> int:
        if self._trains == "count":
            return train - self._train0
        if train > self._train:
            self._ordinal += 1
            self._train = train
        return self._ordinal if train == self._train else -1

    def _places(self, data: TrainData, n: int) -> npt.NDArray[np.int64]:
        """Return the place of each image among the pulses of the first train, -1 for others."""
        ids = None if self._ids is None else pulse_ids(data, n)
        if ids is None or self._ids is None:
            places = np.arange(n)
            return np.where(places < self._pulses, places, -1)
        order = np.argsort(self._ids, kind="stable")
        at = order[np.minimum(np.searchsorted(self._ids, ids, sorter=order), len(order) - 1)]
        return np.where(self._ids[at] == ids, at, -1)


def _runs(places: npt.NDArray[np.int64]) -> Sequence[tuple[int, int, int]]:
    """Return (first image, its place, count) of images at consecutive places, or of those without one."""
    if not len(places):
        return []
    step = np.diff(places)
    same = (step == 1) & (places[:-1] >= 0) | (places[1:] < 0) & (places[:-1] < 0)
    edges = [0, *(np.flatnonzero(~same) + 1).tolist(), len(places)]
    return [(a, int(places[a]), b - a) for a, b in zip(edges[:-1], edges[1:], strict=True)]
