"""Takes the URL of a live source apart, and turns the texts of its query into values."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote

from framefold.errors import DataError, did_you_mean
from framefold.udfcore.live import LiveOptions

MAX_PORTS = 1024
_NONE = ("none", "null", "")
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Address:
    """What stands before the ``?`` of a live URL.

    Attributes
    ----------
    scheme
        Name of the protocol.
    host
        Host name, address or multicast group; for protocols without a host whatever stands there.
    ports
        One per sector where a range was given; empty: not given.
    path
        What follows the host, without the first slash.
    """

    scheme: str
    host: str
    ports: tuple[int, ...] = ()
    path: str = ""

    def port(self, default: int) -> int:
        """Return the only port, or `default` where none was given.

        Raises
        ------
        DataError
            If the URL gives several.
        """
        if len(self.ports) > 1:
            raise DataError(f"{self.scheme}:// takes one port, the URL gives {len(self.ports)}")
        return self.ports[0] if self.ports else default


@dataclass(frozen=True)
class LiveRequest:
    """What a protocol gets to open: the URL taken apart, and everything that is common to all protocols.

    Attributes
    ----------
    url
        As given.
    address
        Taken apart.
    options
        Policies and limits.
    nav_shape
        Scan shape the user stated, or None.
    sync_offset
        As for files.
    """

    url: str
    address: Address
    options: LiveOptions = field(default_factory=LiveOptions)
    nav_shape: tuple[int, ...] | None = None
    sync_offset: int = 0


def split_url(url: str) -> tuple[Address, dict[str, str]]:
    """Return the address and the query of a URL, the latter as texts.

    Raises
    ------
    DataError
        If it is no URL, a port is none, or a query key comes twice.
    """
    head, _, query = url.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=False)
    texts: dict[str, str] = {}
    for key, value in pairs:
        if key in texts:
            raise DataError(f"{url}: {key}= is given twice")
        texts[key] = value
    return parse_address(head), texts


def parse_address(text: str) -> Address:
    """Return the parts of ``scheme://host:port-port/path``.

    Raises
    ------
    DataError
        If there is no scheme, or a port is not a number of 0 to 65535.

    Examples
    --------
    >>> parse_address("k2is://225.1.1.1:2001-2004").ports
    (2001, 2002, 2003, 2004)
    """
    scheme, mark, rest = text.partition("://")
    if not mark or not scheme:
        raise DataError(f"{text!r} is no URL of a live source: write it as protocol://host:port")
    if scheme in ("replay", "pva"):
        # a path, absolute with a third slash or relative without; a name with colons
        return Address(scheme, "", (), unquote(rest))
    place, _, path = rest.partition("/")
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::([0-9,\-]*))?", place)
    if match is None:
        raise DataError(f"{text}: {place!r} is not host:port or host:first-last")
    return Address(scheme, match[1].strip("[]"), _ports(text, match[2]), unquote(path))


def _ports(url: str, text: str | None) -> tuple[int, ...]:
    if not text:
        return ()
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part)
        if match is None:
            raise DataError(f"{url}: {part!r} is neither a port nor a range of ports such as 2001-2008")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last <= 65535:
            raise DataError(f"{url}: ports {part} are not a range within 0..65535")
        found.extend(range(first, last + 1))
    if len(found) > MAX_PORTS:
        raise DataError(f"{url}: {len(found)} ports, at most {MAX_PORTS} are allowed")
    return tuple(found)


def convert(name: str, value: Any, hint: Any) -> Any:
    """Return the value of an option: a text from a URL becomes what `hint` (a type) says.

    Parameters
    ----------
    name
        For messages.
    value
        Text, or a value that already is one.
    hint
        ``int``, ``float``, ``bool``, ``str``, ``Literal``, ``tuple[int, ...]`` (``2x1``),
        ``tuple[str, ...]``, ``Mapping[int, str]`` (``0:hostA,1:hostB``), or one of them with None.

    Raises
    ------
    DataError
        Saying what was given and what is allowed.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in _NONE):
            return None
        rest = [a for a in args if a is not type(None)]
        return convert(name, value, rest[0])
    if origin is Literal:
        if value not in args:
            allowed = ", ".join(map(str, args))
            raise DataError(
                f"{name}={value!r}: allowed are {allowed}{did_you_mean(str(value), map(str, args))}"
            )
        return value
    try:
        return _plain(value, hint, origin, args)
    except (TypeError, ValueError, KeyError) as exc:
        kind = "text such as 0:hostA,1:hostB" if origin else getattr(hint, "__name__", str(hint))
        if origin is tuple:
            kind = "numbers such as 2x1" if args[0] is int else "words with commas"
        raise DataError(f"{name}={value!r} is not {kind}") from exc


def _plain(value: Any, hint: Any, origin: Any, args: tuple[Any, ...]) -> Any:
    if hint is bool:
        if isinstance(value, str):
            return {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}[value.lower()]
        return bool(value)
    if hint is int:
        if isinstance(value, float) and not value.is_integer():
            raise ValueError
        return int(value)
    if hint in (float, str):
        return hint(value)
    if origin is tuple:
        parts = value
        if isinstance(value, str):
            parts = re.split(r"[x,]", value) if args[0] is int else value.split(",")
        elif not isinstance(value, (tuple, list)):
            parts = [value]
        return tuple(args[0](p) for p in parts)
    if isinstance(value, str):
        pairs = (p.partition(":") for p in value.split(",") if p)
        return {int(k): v for k, _, v in pairs}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError
