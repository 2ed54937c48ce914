"""``replay://PATH?protocol=k2is``: a dataset as a detector in this process sends it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from framefold.errors import DataError
from framefold.io.live.registry import get_protocol, open_url, register_protocol
from framefold.io.live.replay.frames import frames_of
from framefold.io.live.replay.make import Emulator, make_emulator
from framefold.io.live.url import LiveRequest
from framefold.udfcore.live import (
    AcquisitionEnd,
    AcquisitionStart,
    Block,
    EndReason,
    Layout,
    LiveOptions,
    LiveSource,
    SectorStats,
    Stream,
)  # fmt: skip


@dataclass(frozen=True)
class ReplaySource:
    """A file that comes as a live stream.

    Attributes
    ----------
    url, options, nav_shape, sync_offset
        See `LiveSource`.
    path
        The file.
    protocol
        Of the emulated detector.
    emulation
        Options of the emulator.
    """

    url: str
    options: LiveOptions
    nav_shape: tuple[int, ...] | None
    sync_offset: int
    path: str
    protocol: str
    emulation: tuple[tuple[str, Any], ...]

    def emulator(self, limit: int | None = None) -> Emulator:
        """Return a detector that will send the file, or its first frames."""
        from framefold.io.registry import open_source  # noqa: PLC0415  # knows this module

        return make_emulator(self.protocol, frames_of(open_source(self.path), limit), **dict(self.emulation))

    def live(self, emulator: Emulator) -> LiveSource:
        """Return the source that receives what the emulator sends."""
        from framefold.io.registry import open_source  # noqa: PLC0415  # knows this module

        source = open_url(emulator.url, nav_shape=self.nav_shape, sync_offset=self.sync_offset)
        file: Any = open_source(self.path)
        frames = file.shape.nav.size * dict(self.emulation)["loops"]
        n = self.options.n_frames or (None if self.nav_shape is not None else frames)
        options = replace(self.options, n_frames=n)
        made: Any = source
        changes: dict[str, Any] = {"options": options}
        if hasattr(made, "n_frames"):
            changes["n_frames"] = n if n is not None else made.n_frames
        return replace(made, **changes)

    def known(self) -> AcquisitionStart | None:
        """Return the geometry."""
        emulator = self.emulator(limit=1)
        try:
            return self.live(emulator).known()
        finally:
            emulator.stop()

    def open(self, sectors: tuple[int, ...] | None = None) -> Stream:
        """Return the stream; sending begins with the first acquisition that is waited for."""
        emulator = self.emulator()
        return ReplayStream(self.live(emulator).open(sectors), emulator)


class ReplayStream:
    """A stream with the detector that sends it; see `Stream`.

    Parameters
    ----------
    stream
        Receives.
    emulator
        Sends.
    """

    def __init__(self, stream: Stream, emulator: Emulator) -> None:
        self._stream, self._emulator, self._begun = stream, emulator, False

    def prepare(self, layout: Layout = "pieces") -> AcquisitionStart | None:
        """Bind or connect."""
        return self._stream.prepare(layout)

    def wait_start(self, timeout: float | None) -> AcquisitionStart:
        """Begin to send, and return what is announced."""
        if not self._begun:
            self._begun = True
            self._emulator.start(self._stream)
        return self._stream.wait_start(timeout)

    def next_block(self, timeout: float) -> Block | AcquisitionEnd | None:
        """Return the next closed block, the end, or None."""
        return self._stream.next_block(timeout)

    def release(self, block: Block) -> None:
        """Give the memory of a block back."""
        self._stream.release(block)

    def stop(self, reason: EndReason = "stopped") -> None:
        """End the acquisition."""
        self._stream.stop(reason)

    def stats(self) -> tuple[SectorStats, ...]:
        """Return the accounts."""
        return self._stream.stats()

    def close(self) -> None:
        """Stop the detector, and free everything."""
        self._emulator.stop()
        self._stream.close()


@register_protocol("replay")
def open_replay(
    request: LiveRequest,
    *,
    protocol: str = "k2is",
    rate: float | None = 400.0,
    sectors: int | None = None,
    modules: tuple[int, ...] | None = None,
    loss: float = 0.0,
    seed: int = 0,
    loops: int = 1,
    gentle: bool = True,
) -> ReplaySource:
    """Return the source of ``replay://PATH?protocol=k2is&rate=400``; its scan shape is that of the file.

    Parameters
    ----------
    request
        The URL; what follows ``replay://`` is the path of a dataset.
    protocol
        Of the detector that is emulated.
    rate
        Frames per second; ``none``: as fast as possible.
    sectors, modules
        Of that detector; None: as usual for it.
    loss
        Probability that a packet is lost.
    seed
        Of the loss.
    loops
        Times that the dataset is sent.
    gentle
        Send no faster than the receiver takes it.

    Raises
    ------
    DataError
        If there is no path, or no such protocol.
    """
    path = request.address.path
    if not path:
        raise DataError(f"{request.url}: the path of a dataset is missing, as in replay:///data/scan.mib")
    get_protocol(protocol)
    nav_shape = request.nav_shape
    if nav_shape is None and loops == 1 and request.options.n_frames is None:
        from framefold.io.registry import open_source  # noqa: PLC0415  # knows this module

        file: Any = open_source(path)
        nav_shape = tuple(file.shape.nav)
    chosen: dict[str, Any] = {"rate": rate, "loss": loss, "seed": seed, "loops": loops, "gentle": gentle}
    chosen.update({k: v for k, v in (("sectors", sectors), ("modules", modules)) if v is not None})
    return ReplaySource(
        request.url, request.options, nav_shape, request.sync_offset, path, protocol,
        tuple(sorted(chosen.items())),
    )  # fmt: skip
