"""DECTRIS detectors, stream V2 (CBOR over ZeroMQ): ``dectris://host:31001``."""

from __future__ import annotations

import functools
from typing import Any

from framefold.errors import StreamError
from framefold.io.live.protocols.dectris_messages import MAX_START, parse_message, pixel_mask, plain_fields
from framefold.io.live.protocols.series import SeriesFeed, SeriesMessage, SeriesStart
from framefold.io.live.registry import register_protocol
from framefold.io.live.sequential import SequentialSource
from framefold.io.live.url import LiveRequest

PORT = 31001
_EV = 1.602176634e-19


@register_protocol("dectris")
def open_dectris(request: LiveRequest, *, channel: str | None = None) -> SequentialSource:
    """Return the source of ``dectris://host:port?channel=``.

    Parameters
    ----------
    request
        Host and port of the stream.
    channel
        Name of the threshold; None: the first. ``"all"``: all of them, as a first signal axis.
    """
    host, port = request.address.host or "127.0.0.1", request.address.port(PORT)
    make = functools.partial(SeriesFeed, f"tcp://{host}:{port}", _parse, describe, MAX_START, channel)
    return SequentialSource(request.url, request.options, request.nav_shape, request.sync_offset, make)


def describe(start: SeriesStart, names: tuple[str, ...]) -> dict[str, Any]:
    """Return what a start message tells beyond the geometry: energy in J, lengths in m, times in s."""
    fields = plain_fields(start)
    meta: dict[str, Any] = {"detector": fields.get("detector_description", "DECTRIS"), "header": fields}
    energy, pitch = fields.get("incident_energy"), [fields.get(f"pixel_size_{a}") for a in "yx"]
    if isinstance(energy, int | float):
        meta["energy"] = energy * _EV
    if all(isinstance(p, int | float) for p in pitch):
        meta["pixel_size"] = tuple(float(p) for p in pitch if p is not None)
    for ours, theirs in (("dwell_time", "count_time"), ("frame_time", "frame_time")):
        if isinstance(fields.get(theirs), int | float):
            meta[ours] = float(fields[theirs])
    masks = [pixel_mask(start, name) for name in names]
    meta["pixel_masks"] = [mask for mask in masks if mask is not None]
    return meta


def _parse(parts: list[memoryview]) -> tuple[SeriesMessage]:
    if len(parts) != 1:
        raise StreamError(
            f"a message of {len(parts)} parts. Is this the stream V1? It is opened as dectris1://host:9999"
        )
    return (parse_message(parts[0]),)
