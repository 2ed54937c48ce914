"""Makes the emulator of a detector that is connected to, with the options its protocol has a use for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.live.replay.connected import ConnectedEmulator
from framefold.io.live.replay.dectris import DectrisEncoder
from framefold.io.live.replay.dectris1 import Dectris1Encoder
from framefold.io.live.replay.encoder import Encoder
from framefold.io.live.replay.fates import Impairments
from framefold.io.live.replay.frames import fitted
from framefold.io.live.replay.karabo import KaraboEncoder
from framefold.io.live.replay.merlin import MerlinEncoder
from framefold.io.live.replay.options import EmulatorOptions
from framefold.io.live.replay.pva import PvaEncoder

_ENCODERS: dict[str, Callable[..., Encoder]] = {
    "merlin": MerlinEncoder,
    "dectris": DectrisEncoder,
    "dectris1": Dectris1Encoder,
    "karabo": KaraboEncoder,
    "pva": PvaEncoder,
}
_COMMON = ("rate", "loops", "repeat", "gap", "seed", "gentle")
# of single protocols: bytes before the first message, modules that send nothing, the first id
_OWN = {"merlin": ("garbage",), "karabo": ("dead_sectors",), "pva": ("start_id",)}


def make_connected(
    protocol: str, frames: npt.NDArray[Any], options: EmulatorOptions, own: Mapping[str, Any]
) -> ConnectedEmulator:
    """Return the emulator of a protocol with one connection.

    Parameters
    ----------
    protocol
        ``"merlin"``, ``"dectris"``, ``"dectris1"``, ``"karabo"`` or ``"pva"``.
    frames
        ``(n, height, width)``, or ``(n, modules, height, width)`` for Karabo.
    options
        `rate`, `loops`, `repeat`, `gap`, `seed` and the impairments; `garbage` for merlin, `dead_sectors` for
        karabo, `start_id` for pva.
    own
        `host`, `port`, `nav_shape`; `exposure`, `compression`, `pulses` where the protocol has them.

    Raises
    ------
    DataError
        If another option is set: such a connection has no means to do that.
    """
    _require_possible(protocol, options)
    if protocol not in ("karabo", "pva") and frames.dtype.kind not in "bu":
        frames = fitted(frames, 65535, (1, 1), protocol)
    own = dict(own)
    common = {name: own.pop(name) for name in ("host", "port", "nav_shape") if own.get(name) is not None}
    own.pop("nav_shape", None)
    if own.get("compression", "none") not in ("none", "lz4", "bslz4"):
        raise DataError(f"compression={own['compression']!r} is not one of none, lz4, bslz4")
    if own.get("pulses", 1) < 1:
        raise DataError(f"pulses={own['pulses']} is below 1")
    query = ""
    if protocol == "karabo":
        own["absent"], query = options.dead_sectors, "pattern=pull"
    if protocol == "pva":
        own["first_id"] = options.start_id
    return ConnectedEmulator(protocol, _ENCODERS[protocol](**own), frames, options, query=query, **common)


def _require_possible(protocol: str, options: EmulatorOptions) -> None:
    allowed = (*_COMMON, *_OWN.get(protocol, ()), "impairments")
    wrong = [
        f.name
        for f in fields(EmulatorOptions)
        if f.name not in allowed and getattr(options, f.name) != getattr(EmulatorOptions(), f.name)
    ]
    # a structure arrives as it was posted, or not at all
    if protocol == "pva" and options.impairments != replace(options.impairments, corrupt=0.0):
        wrong.append("corrupt")
    if wrong:
        possible = sorted({*allowed, *(f.name for f in fields(Impairments))} - {"impairments", "gentle"})
        raise DataError(
            f"{protocol}: {', '.join(wrong)} cannot be emulated on this connection. Possible are "
            f"{', '.join(possible)}"
        )
