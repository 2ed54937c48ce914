"""DECTRIS detectors, stream V1 (JSON and blobs over ZeroMQ): ``dectris1://host:9999``."""

from __future__ import annotations

import functools
from typing import Any

from framefold.io.live.protocols.dectris1_messages import MAX_PART, Dectris1Parser, pixel_mask
from framefold.io.live.protocols.series import SeriesFeed, SeriesStart
from framefold.io.live.registry import register_protocol
from framefold.io.live.sequential import SequentialSource
from framefold.io.live.url import LiveRequest

PORT = 9999
_EV = 1.602176634e-19


@register_protocol("dectris1")
def open_dectris1(request: LiveRequest) -> SequentialSource:
    """Return the source of ``dectris1://host:port``."""
    host, port = request.address.host or "127.0.0.1", request.address.port(PORT)
    make = functools.partial(_feed, f"tcp://{host}:{port}")
    return SequentialSource(request.url, request.options, request.nav_shape, request.sync_offset, make)


def _feed(endpoint: str) -> SeriesFeed:
    return SeriesFeed(endpoint, Dectris1Parser().parse, describe, MAX_PART)


def describe(start: SeriesStart, names: tuple[str, ...]) -> dict[str, Any]:
    """Return what the detector's configuration tells: energy in J, lengths in m, times in s."""
    fields = {k: v for k, v in start.fields.items() if isinstance(v, str | int | float)}
    meta: dict[str, Any] = {"detector": fields.get("description", "DECTRIS"), "header": fields}
    number = {k: float(v) for k, v in fields.items() if isinstance(v, int | float)}
    if "photon_energy" in number:
        meta["energy"] = number["photon_energy"] * _EV
    if {"x_pixel_size", "y_pixel_size"} <= number.keys():
        meta["pixel_size"] = number["y_pixel_size"], number["x_pixel_size"]
    if "count_time" in number:
        meta["dwell_time"] = number["count_time"]
    if "frame_time" in number:
        meta["frame_time"] = number["frame_time"]
    mask = pixel_mask(start)
    meta["pixel_masks"] = [] if mask is None else [mask]
    return meta
