"""What a user states about data: handed to openers that take it, and held against what the file says."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from framefold.errors import DataError, did_you_mean
from framefold.udfcore.source import Source


def call_opener(
    what: str,
    opener: Callable[..., Source],
    source: Any,
    given: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Source:
    """Open `source` with what `opener` takes of `given`, and with the options; check what was stated."""
    opened = opener(source, **arguments_of(what, opener, given, options))
    check_stated(what, opener, opened, given)
    return opened


def arguments_of(
    what: str, opener: Callable[..., Any], given: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the keyword arguments for `opener`: the options, and what it takes of `given`."""
    parameters = list(inspect.signature(opener).parameters.values())[1:]
    taken = {p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD}
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        for name in options:
            if name not in taken:
                own = ", ".join(sorted(taken - set(given))) or "none"
                raise DataError(
                    f"{what} has no option {name!r}.{did_you_mean(name, taken)} Its options: {own}"
                )
    return {**{k: v for k, v in given.items() if k in taken and v is not None}, **options}


def check_stated(what: str, opener: Callable[..., Any], source: Source, given: Mapping[str, Any]) -> None:
    """Refuse descriptions that contradict the file, as they would be ignored."""
    taken = set(inspect.signature(opener).parameters)
    sig, sig_shape = tuple(source.shape.sig), given["sig_shape"]
    if sig_shape is not None and tuple(sig_shape) != sig:
        raise DataError(
            f"{what}: the frames have the shape {sig}, sig_shape={tuple(sig_shape)} was asked for"
        )
    if given["dtype"] is not None and "dtype" not in taken and np.dtype(given["dtype"]) != source.dtype:
        raise DataError(
            f"{what}: the frames have dtype {source.dtype}, dtype={np.dtype(given['dtype'])} was asked for; "
            "a UDF states the dtype it wants by get_preferred_input_dtype"
        )
    if given["key"] is not None and "key" not in taken:
        raise DataError(f"{what} holds a single array: key={given['key']!r} names nothing in it")
