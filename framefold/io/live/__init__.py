"""Live detectors: opens the URL of a stream with the protocol that its scheme names."""

from framefold.io.live.assembly import Assembly
from framefold.io.live.encoded import checked_dtype, checked_shape
from framefold.io.live.feed import Feed, Over, whole_frames
from framefold.io.live.registry import open_url, protocol_names, register_protocol
from framefold.io.live.sequential import SequentialSource
from framefold.io.live.tcp import Closed, TcpReader
from framefold.io.live.url import Address, LiveRequest, parse_address

__all__ = [
    "Address",
    "Assembly",
    "Closed",
    "Feed",
    "LiveRequest",
    "Over",
    "SequentialSource",
    "TcpReader",
    "checked_dtype",
    "checked_shape",
    "open_url",
    "parse_address",
    "protocol_names",
    "register_protocol",
    "whole_frames",
]
