"""Live detectors: opens the URL of a stream with the protocol that its scheme names."""

from framefold.io.live.registry import open_url, protocol_names, register_protocol
from framefold.io.live.url import Address, LiveRequest, parse_address

__all__ = ["Address", "LiveRequest", "open_url", "parse_address", "protocol_names", "register_protocol"]
