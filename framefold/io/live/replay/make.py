"""Makes the emulator of a detector from the name of its protocol, frames and options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, did_you_mean
from framefold.io.live.replay.fates import Impairments
from framefold.io.live.replay.frames import fitted
from framefold.io.live.replay.options import EmulatorOptions

_MAX_DATAGRAM = 60000


class Emulator(Protocol):
    """An imitated detector. Its `url` is what a receiver opens."""

    @property
    def url(self) -> str:
        """URL for ``ctx.load``."""
        ...

    @property
    def frames(self) -> int:
        """Frames of an acquisition."""
        ...

    def start(self, to: Any) -> None:
        """Begin to send; `to` tells where a receiver listens, where it is not the emulator that listens."""
        ...

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything is sent; return whether it is."""
        ...

    def stop(self) -> None:
        """Stop, and free everything."""
        ...

    def report(self) -> dict[str, Any]:
        """Return what was done, as plain values."""
        ...


Maker = Callable[[npt.NDArray[Any], EmulatorOptions, Mapping[str, Any]], Emulator]


def _k2is(frames: npt.NDArray[Any], options: EmulatorOptions, own: Mapping[str, Any]) -> Emulator:
    from framefold.io.live.replay.k2is import MAX_VALUE, encode  # noqa: PLC0415  # only what is asked for
    from framefold.io.live.replay.udp import UdpEmulator  # noqa: PLC0415

    own = dict(own)
    sectors = own.setdefault("sectors", 8)
    width = frames.shape[2] - frames.shape[2] % (2 * sectors)
    piece = tuple(own.get("piece") or _piece(frames.shape[1] - frames.shape[1] % 2, width // sectors))
    own["piece"] = piece
    fit = fitted(frames, MAX_VALUE, (piece[0], sectors * piece[1]), "k2is")
    return UdpEmulator("k2is", encode(fit, **own), options)


def _piece(height: int, width: int) -> tuple[int, int]:
    """Return a packet for a sector, as the real ones if the size allows."""
    if not height or not width:
        raise DataError("k2is: the frames are too small to be divided among the sectors")
    rows = height // 2
    columns = next(c for c in (16, 8, 4, 2) if width % c == 0)
    while rows * columns * 3 // 2 > _MAX_DATAGRAM:
        divisor = next((d for d in range(2, rows + 1) if rows % d == 0), rows)
        rows //= divisor
    return rows, columns


def _jungfrau(frames: npt.NDArray[Any], options: EmulatorOptions, own: Mapping[str, Any]) -> Emulator:
    from framefold.io.live.replay.jungfrau import MAX_VALUE, encode_jungfrau  # noqa: PLC0415
    from framefold.io.live.replay.udp import UdpEmulator  # noqa: PLC0415

    down, across = own.get("modules", (1, 1))
    rows = own.get("rows", 4) * own.get("interfaces", 1)
    fit = fitted(frames, MAX_VALUE, (down * rows, across), "jungfrau")
    return UdpEmulator("jungfrau", encode_jungfrau(fit, **own), options)


def _eiger(frames: npt.NDArray[Any], options: EmulatorOptions, own: Mapping[str, Any]) -> Emulator:
    from framefold.io.live.replay.jungfrau import MAX_VALUE, encode_eiger  # noqa: PLC0415
    from framefold.io.live.replay.udp import UdpEmulator  # noqa: PLC0415

    down, across = own.get("modules", (1, 1))
    fit = fitted(frames, MAX_VALUE, (2 * down, 2 * across), "eiger-udp")
    return UdpEmulator("eiger-udp", encode_eiger(fit, **own), options)


def _connected(protocol: str) -> Maker:
    """Return the maker of a detector that listens: what it sends arrives in order, but for faults."""

    def make(frames: npt.NDArray[Any], options: EmulatorOptions, own: Mapping[str, Any]) -> Emulator:
        from framefold.io.live.replay.make_connected import make_connected  # noqa: PLC0415  # only what is asked for

        return make_connected(protocol, frames, options, own)

    return make


_LISTENING = {"host": str, "port": int, "nav_shape": tuple[int, ...]}

# protocol -> maker, and its own options with their types
_MAKERS: dict[str, tuple[Maker, dict[str, Any]]] = {
    "k2is": (_k2is, {"sectors": int, "piece": tuple[int, ...], "mode": str}),
    "jungfrau": (_jungfrau, {"modules": tuple[int, ...], "interfaces": int, "rows": int}),
    "eiger-udp": (_eiger, {"modules": tuple[int, ...], "packet_bytes": int}),
    "merlin": (_connected("merlin"), {**_LISTENING, "exposure": float}),
    "dectris": (_connected("dectris"), {**_LISTENING, "compression": str}),
    "dectris1": (_connected("dectris1"), {**_LISTENING, "compression": str}),
    "karabo": (_connected("karabo"), {**_LISTENING, "pulses": int}),
    "pva": (_connected("pva"), {**_LISTENING, "compression": str}),
}


def emulated() -> tuple[str, ...]:
    """Return the protocols that can be emulated."""
    return tuple(_MAKERS)


def own_options(protocol: str) -> Mapping[str, Any]:
    """Return the options of a protocol's own, with their types.

    Raises
    ------
    DataError
        Listing the protocols.
    """
    if protocol not in _MAKERS:
        raise DataError(
            f"there is no emulator of {protocol!r}.{did_you_mean(protocol, _MAKERS)} "
            f"Protocols: {', '.join(_MAKERS)}"
        )
    return _MAKERS[protocol][1]


def make_emulator(protocol: str, frames: npt.NDArray[Any], **options: Any) -> Emulator:
    """Return an emulator that sends `frames`.

    Parameters
    ----------
    protocol
        As in URLs.
    frames
        ``(n, height, width)``.
    **options
        Of `EmulatorOptions`, `Impairments` and the protocol.

    Raises
    ------
    DataError
        If an option is unknown (lists them), or the frames do not suit the protocol.
    """
    own_names = own_options(protocol)
    common = {f.name for f in fields(EmulatorOptions)} - {"impairments"}
    bad = {f.name for f in fields(Impairments)}
    for name in options:
        if name not in common | bad | set(own_names):
            known = sorted(common | bad | set(own_names))
            raise DataError(
                f"emulators have no option {name!r}.{did_you_mean(name, known)} Options: {', '.join(known)}"
            )
    chosen = {k: v for k, v in options.items() if k in common}
    how = Impairments(**{k: v for k, v in options.items() if k in bad})
    if protocol == "k2is" and options.get("mode", "scan") == "scan":
        chosen.setdefault("flag_lag", 1)
    own = {k: v for k, v in options.items() if k in own_names and v is not None}
    return _MAKERS[protocol][0](np.asarray(frames), EmulatorOptions(**chosen, impairments=how), own)


def option_types() -> dict[str, Any]:
    """Return the common options and impairments with their types."""
    out: dict[str, Any] = {}
    for kind in (EmulatorOptions, Impairments):
        hints = inspect.get_annotations(kind, eval_str=True)
        out.update({f.name: hints[f.name] for f in fields(kind) if f.name != "impairments"})
    return out
