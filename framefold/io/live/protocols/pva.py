"""EPICS areaDetectors by PV access (NTNDArray): ``pva://PVNAME``."""

from __future__ import annotations

import functools
import queue
import threading
import time
from typing import Any

from framefold.errors import DataError, StreamError
from framefold.io.live.assembly import Assembly
from framefold.io.live.encoded import EncodedArray, UndecodableError
from framefold.io.live.feed import Over, whole_frames
from framefold.io.live.protocols.pva_messages import Counter, parse_ndarray
from framefold.io.live.registry import register_protocol
from framefold.io.live.sequential import SequentialSource
from framefold.io.live.url import LiveRequest
from framefold.udfcore.live import AcquisitionStart

# plain monitors drop what the client is too slow for; a pipeline makes the server wait
_REQUEST = "record[pipeline=true,queueSize=64]"
_QUEUE = 16


@register_protocol("pva")
def open_pva(
    request: LiveRequest, *, server: str | None = None, connect_timeout: float = 10.0
) -> SequentialSource:
    """Return the source of ``pva://PVNAME``.

    Parameters
    ----------
    request
        Name of the PV.
    server
        ``host:port`` that is asked directly; None: by the ``EPICS_PVA_...`` variables of the environment.
    connect_timeout
        Seconds until a PV that does not answer is an error.
    """
    name = request.address.path
    if not name:
        raise DataError(f"{request.url}: write it as pva://PVNAME, for instance pva://13SIM1:Pva1:Image")
    make = functools.partial(PvaFeed, name, server, connect_timeout)
    return SequentialSource(request.url, request.options, request.nav_shape, request.sync_offset, make)


class PvaFeed:
    """Images of one PV; see `Feed`, and `open_pva` for the parameters."""

    def __init__(self, name: str, server: str | None, connect_timeout: float) -> None:
        self.endpoint = f"pva://{name}"
        self._name, self._server, self._patience = name, server, connect_timeout
        self._queue: queue.Queue[Any] = queue.Queue(_QUEUE)
        self._closing = threading.Event()
        self._there = threading.Event()
        self._context: Any = None
        self._monitor: Any = None
        self._counter = Counter()
        self._waiting: tuple[int, EncodedArray] | None = None
        self._lost_pv = False

    def connect(self) -> None:
        """Subscribe; the value the PV has at that moment is an image of before and not taken.

        Raises
        ------
        StreamError
            If p4p is not installed, or the PV does not answer.
        """
        try:
            from p4p.client.thread import Context  # noqa: PLC0415  # optional
        except ImportError as exc:
            raise StreamError(f"{self.endpoint} needs p4p: pip install 'framefold[epics]'") from exc
        conf = None
        if self._server is not None:
            conf = {
                "EPICS_PVA_NAME_SERVERS": self._server,
                "EPICS_PVA_ADDR_LIST": "",
                "EPICS_PVA_AUTO_ADDR_LIST": "NO",
            }
        self._context = Context("pva", conf=conf, useenv=conf is None, nt=False)
        self._monitor = self._context.monitor(
            self._name, self._take, request=_REQUEST, notify_disconnect=True
        )
        if not self._there.wait(self._patience):
            asked = f"The server {self._server} was asked" if self._server else "The network was asked"
            raise StreamError(
                f"{self.endpoint} did not answer in {self._patience:g} s. {asked}: is the name right, the "
                "IOC running, and does EPICS_PVA_ADDR_LIST name its network?"
            )

    def begin(self, timeout: float, *, wanted: bool) -> AcquisitionStart | None:
        """Return an acquisition with the first image."""
        got = self._next(timeout)
        if got is None:
            return None
        self._counter = Counter()
        self._waiting = got
        array, sig = got[1], got[1].shape
        meta = {"detector": self._name, "first_unique_id": got[0]}
        return AcquisitionStart(None, sig, array.dtype, None, whole_frames(sig, self.endpoint), got[0], meta)

    def receive(self, assembly: Assembly, timeout: float) -> Over | None:
        """Hand images to `assembly` for about `timeout` seconds."""
        until = time.monotonic() + timeout
        while not assembly.complete and (left := until - time.monotonic()) > 0:
            got, self._waiting = self._waiting or self._next(left), None
            if got is None:
                return None
            frame = self._counter.number(got[0])
            rows = assembly.rows(0, frame)
            if rows is None:
                continue
            try:
                got[1].decode_into(rows[0])
            except UndecodableError:
                assembly.corrupt(0)
            else:
                assembly.filled(0, frame)
        return None

    def heard(self) -> str:
        """Say whether the PV is still there."""
        if self._lost_pv:
            return "The PV has disconnected."
        return "The PV is connected, but posts no images: is the plugin enabled and the detector acquiring?"

    def close(self) -> None:
        """End the subscription."""
        self._closing.set()
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        if self._context is not None:
            self._context.close()
            self._context = None

    def _take(self, value: Any) -> None:
        """Queue an update; called by a thread of p4p, which waits while the queue is full."""
        from p4p.client.thread import Disconnected  # noqa: PLC0415  # optional

        self._lost_pv = isinstance(value, Disconnected)
        if self._lost_pv:
            return
        if not self._there.is_set():
            self._there.set()
            if not isinstance(value, Exception):
                return
        while not self._closing.is_set():
            try:
                self._queue.put(value, timeout=0.05)
            except queue.Full:
                continue
            return

    def _next(self, timeout: float) -> tuple[int, EncodedArray] | None:
        try:
            value = self._queue.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(value, Exception):
            raise StreamError(f"{self.endpoint}: the server says {value}")
        sizes = [d.size for d in value.dimension]
        codec, about = value.codec.name, value.codec.parameters
        try:
            array = parse_ndarray(value.value, sizes, codec, about, value.compressedSize)
        except StreamError as exc:
            raise StreamError(f"{self.endpoint}: {exc}") from exc
        return int(value.uniqueId), array
