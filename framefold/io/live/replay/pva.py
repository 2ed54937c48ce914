"""Frames as an EPICS areaDetector posts them: NTNDArray structures of one PV, from a server of our own."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError
from framefold.io.live.replay.compress import Compression, bitshuffled, lz4_block
from framefold.io.live.replay.encoder import Message, Transport
from framefold.udfcore.live import AcquisitionStart

PV = "EMULATED:Image"
# pvData's ScalarType, by which compressed images tell their pixels
_SCALARS = {
    np.dtype(name): number
    for number, name in enumerate(
        ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")
    )
}  # fmt: skip
# a channel is there before its subscription, of which a server is told nothing
_SUBSCRIBED = 0.5
_TICK = 0.05


class PvaEncoder:
    """Images with running ids; the PV tells neither begin nor end.

    Parameters
    ----------
    compression
        Of the images.
    first_id
        `uniqueId` of the first image; the field has 32 bits.
    """

    transport: Transport = "pva"

    def __init__(self, compression: Compression = "none", first_id: int = 1) -> None:
        self._compression: Compression = compression
        self._next, self._first = first_id, first_id

    def begin(self, start: AcquisitionStart) -> list[Message]:
        """Return nothing; the ids go on where the acquisition before ended."""
        if start.dtype not in _SCALARS or not 1 <= len(start.sig_shape) <= 10:
            raise StreamError(f"pva carries no arrays of {start.sig_shape} {start.dtype}")
        self._first, self._next = self._next, self._next + (start.n_frames or 0)
        return []

    def frame(self, index: int, frame: npt.NDArray[Any]) -> Message:
        """Return what stands in the structure, as JSON, and the pixels."""
        image = np.ascontiguousarray(frame)
        codec = "" if self._compression == "none" else self._compression
        data = image.tobytes()
        if codec:
            data = lz4_block(data) if codec == "lz4" else bitshuffled(image)
        number = (self._first + index + 2**31) % 2**32 - 2**31
        head = {"id": number, "shape": image.shape, "dtype": image.dtype.str, "codec": codec}
        return [json.dumps(head).encode("ascii"), data]

    def end(self) -> list[Message]:
        """Return nothing."""
        return []


class PvaLine:
    """A server with one PV; see `Line`.

    Parameters
    ----------
    host, port
        Where it listens; 0: any port.
    stopped
        Set when the emulator is stopped.
    """

    def __init__(self, host: str, port: int, stopped: threading.Event) -> None:
        try:
            from p4p.nt import NTNDArray  # noqa: PLC0415  # optional
            from p4p.server import Server  # noqa: PLC0415
            from p4p.server.thread import SharedPV  # noqa: PLC0415
        except ImportError as exc:
            raise StreamError("this emulator needs p4p: pip install 'framefold[epics]'") from exc
        self._array = NTNDArray()
        self._stopped = stopped
        self._there = threading.Event()
        first = self._array.wrap(np.zeros((1, 1), np.uint8))
        self._pv = SharedPV(initial=first, handler=_Handler(self._there))
        conf = {
            "EPICS_PVAS_INTF_ADDR_LIST": host,
            "EPICS_PVAS_SERVER_PORT": str(port),
            "EPICS_PVAS_BROADCAST_PORT": "0",
            "EPICS_PVAS_AUTO_BEACON_ADDR_LIST": "NO",
        }
        self._server = Server(providers=[{PV: self._pv}], conf=conf, useenv=False)
        self.address = f"{PV}?server={host}:{self._server.conf()['EPICS_PVAS_SERVER_PORT']}"

    def ready(self) -> bool:
        """Wait for a client, and until it has subscribed."""
        while not self._there.wait(_TICK):
            if self._stopped.is_set():
                return False
        return not self._stopped.wait(_SUBSCRIBED)

    def send(self, message: Message) -> bool:
        """Post an image."""
        head, data = json.loads(message[0]), message[1]
        pixels = np.dtype(head["dtype"])
        value = self._array.wrap(np.zeros(head["shape"], np.uint8 if head["codec"] else pixels))
        if head["codec"]:
            value["value"] = np.frombuffer(data, np.uint8)
            value["codec"] = {"name": head["codec"], "parameters": _SCALARS[pixels]}
        else:
            value["value"] = np.frombuffer(data[: len(data) // pixels.itemsize * pixels.itemsize], pixels)
        value["uniqueId"] = head["id"]
        value["compressedSize"] = len(data)
        self._pv.post(value)
        return not self._stopped.is_set()

    def cut(self) -> None:
        """Do nothing: there is one server for all clients."""

    def close(self) -> None:
        """Stop the server."""
        self._server.stop()


class _Handler:
    """Told by the server when clients come and go."""

    def __init__(self, there: threading.Event) -> None:
        self._there = there

    def onFirstConnect(self, pv: Any) -> None:
        self._there.set()

    def onLastDisconnect(self, pv: Any) -> None:
        self._there.clear()
