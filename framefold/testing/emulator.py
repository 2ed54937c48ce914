"""An emulated detector for tests: sends data while a ``with`` statement lasts."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy.typing as npt

from framefold.io.live.replay.frames import frames_of
from framefold.io.live.replay.make import make_emulator


class DetectorEmulator:
    """A detector that sends what it is given, as badly as it is told.

    Detectors that send datagrams need to know where: hand `start` to ``on_ready``, or give it a prepared
    stream. Detectors that are connected to listen at free ports from the beginning.

    Parameters
    ----------
    protocol
        ``"k2is"``, ``"jungfrau"``, ...
    data
        Array ``(..., height, width)``, source or dataset.
    gentle
        Send no faster than the receiver takes it, so that no socket overflows. Linux and loopback only.
    **options
        Of `framefold.io.live.replay.options.EmulatorOptions`, of
        `framefold.io.live.replay.fates.Impairments`, and of the protocol.

    Raises
    ------
    DataError
        If an option is unknown, or the data do not suit the protocol.

    Examples
    --------
    >>> import numpy as np
    >>> with DetectorEmulator("k2is", np.ones((4, 8, 32)), sectors=2) as detector:
    ...     detector.url
    'k2is://127.0.0.1:0?sectors=2&width=16&height=8&piece=4x16&mode=scan'
    """

    def __init__(self, protocol: str, data: Any, *, gentle: bool = True, **options: Any) -> None:
        self.emulator = make_emulator(protocol, frames_of(data), gentle=gentle, **options)

    @property
    def url(self) -> str:
        """URL for ``ctx.load``."""
        return self.emulator.url

    @property
    def frames(self) -> int:
        """Frames of an acquisition."""
        return self.emulator.frames

    def start(self, to: Any = None) -> None:
        """Begin to send; `to`: what ``on_ready`` is called with, a prepared stream, or endpoints."""
        self.emulator.start(to)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything is sent; return whether it is."""
        return self.emulator.wait(timeout)

    def report(self) -> dict[str, Any]:
        """Return what was done with every packet, as plain values."""
        return self.emulator.report()

    def valid(self, acquisition: int = 0) -> tuple[npt.NDArray[Any], ...]:
        """Return per sector, ``(frames, pieces)``, which pieces were sent whole; only of UDP detectors."""
        return self.emulator.valid(acquisition)  # type: ignore[attr-defined]

    def __enter__(self) -> DetectorEmulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.emulator.stop()
