"""Knows the protocols of live detectors, and opens a URL with the one that its scheme names."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from framefold.errors import DataError, did_you_mean
from framefold.io.live.url import LiveRequest, convert, split_url
from framefold.udfcore.live import LiveOptions, LiveSource

Opener = Callable[..., LiveSource]

# scheme -> module in io/live/protocols that registers it; imported when a URL names it
_MODULES: dict[str, str] = {
    "dectris": "dectris",
    "dectris1": "dectris1",
    "karabo": "karabo",
    "pva": "pva",
    "merlin": "merlin",
    "k2is": "k2is",
    "jungfrau": "jungfrau",
    "eiger-udp": "jungfrau",
    "replay": "replay",
}
_registered: dict[str, Opener] = {}


def register_protocol(name: str, *, replace: bool = False) -> Callable[[Opener], Opener]:
    """Return a decorator that makes a function the opener of ``name://`` URLs.

    The function takes a `LiveRequest`, and keyword-only parameters with types and defaults: they are the
    query keys of the protocol's own. It returns a `LiveSource`, which must open nothing by itself. Packages
    name their module in the entry point group ``framefold.protocols``, and it is imported on demand.

    Parameters
    ----------
    name
        Scheme of the URL.
    replace
        Take the place of a protocol of the same name.

    Raises
    ------
    DataError
        If the name is taken.
    """

    def register(opener: Opener) -> Opener:
        taken = _registered.get(name)
        # a module may be imported again, by a reload or under another name
        same = taken is not None and taken.__qualname__ == opener.__qualname__
        if not replace and not same and (taken is not None or (name in _MODULES and not _is_ours(opener))):
            raise DataError(f"a protocol named {name!r} exists: choose another name, or replace=True")
        _registered[name] = opener
        return opener

    return register


def protocol_names() -> tuple[str, ...]:
    """Return the names of all protocols: built in, of plug-ins, registered."""
    return tuple(sorted({*_MODULES, *_registered, *_plug_ins()}))


def get_protocol(name: str) -> Opener:
    """Return the opener of a protocol.

    Raises
    ------
    DataError
        Listing the names.
    """
    if name not in _registered:
        if name in _MODULES:
            importlib.import_module(f"framefold.io.live.protocols.{_MODULES[name]}")
        elif name in _plug_ins():
            _plug_ins()[name].load()
    if name not in _registered:
        known = protocol_names()
        raise DataError(
            f"unknown protocol {name!r}.{did_you_mean(name, known)} Protocols: {', '.join(known) or 'none'}"
        )
    return _registered[name]


def open_url(
    url: str, *, nav_shape: Sequence[int] | None = None, sync_offset: int = 0, **options: Any
) -> LiveSource:
    """Return the live source that `url` stands for; nothing is bound or connected.

    Parameters
    ----------
    url
        ``protocol://host:port?key=value&...``.
    nav_shape
        Scan shape; None: as the stream states it.
    sync_offset
        Frame *i* of the dataset is frame ``i + sync_offset`` of the stream.
    **options
        Of `LiveOptions` or of the protocol, as in the query.

    Raises
    ------
    DataError
        If the protocol or a key is unknown (lists the names), a value is wrong, or a key is given both in the
        URL and as an option.

    Examples
    --------
    >>> open_url("k3is://localhost:2001")
    Traceback (most recent call last):
    ...
    framefold.errors.DataError: unknown protocol 'k3is'...
    """
    address, query = split_url(url)
    opener = get_protocol(address.scheme)
    for key in query.keys() & options.keys():
        raise DataError(f"{key}= is given in the URL {url} and as an option: leave one of them out")
    common, own = _sorted(f"{address.scheme}://", opener, {**query, **options})
    request = LiveRequest(
        url,
        address,
        _checked(LiveOptions(**common)),
        None if nav_shape is None else tuple(int(n) for n in nav_shape),
        int(sync_offset),
    )
    return opener(request, **own)


def frames_wanted(request: LiveRequest) -> int | None:
    """Return how many frames of the stream make up the acquisition; None: it has no end of its own."""
    if request.options.n_frames is not None:
        return request.options.n_frames
    if request.nav_shape is None:
        return None
    return max(1, math.prod(request.nav_shape) + request.sync_offset)


def _sorted(what: str, opener: Opener, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the common and the own options with their values."""
    hints = typing.get_type_hints(opener)
    own = {
        p.name: hints.get(p.name, str)
        for p in inspect.signature(opener).parameters.values()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }
    shared = typing.get_type_hints(LiveOptions)
    common_values, own_values = {}, {}
    for name, value in given.items():
        if name in own:
            own_values[name] = convert(name, value, own[name])
        elif name in shared:
            common_values[name] = convert(name, value, shared[name])
        else:
            known = [*own, *shared]
            raise DataError(
                f"{what} has no option {name!r}.{did_you_mean(name, known)} "
                f"Its own: {', '.join(sorted(own)) or 'none'}; of all live sources: "
                f"{', '.join(sorted(shared))}"
            )
    return common_values, own_values


def _checked(options: LiveOptions) -> LiveOptions:
    limits = {
        "deadline": (0, False), "idle_timeout": (0, True), "start_timeout": (0, True),
        "block_time": (0, True), "ring_bytes": (0, True), "n_frames": (1, False), "history": (1, False),
        "first_frame": (0, False), "restart_every": (1, False),
        "decay": (0, True),
    }  # fmt: skip
    for f in fields(options):
        value = getattr(options, f.name)
        if f.name not in limits or value is None:
            continue
        least, beyond = limits[f.name]
        if not (value > least if beyond else value >= least):
            raise DataError(f"{f.name}={value} must be {'above' if beyond else 'at least'} {least}")
    return options


def _is_ours(opener: Opener) -> bool:
    return opener.__module__.startswith("framefold.io.live.")


def _plug_ins() -> dict[str, importlib.metadata.EntryPoint]:
    return {p.name: p for p in importlib.metadata.entry_points(group="framefold.protocols")}
