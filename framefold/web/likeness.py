"""Whether the next run can be shown on the page as it stands, with the looks that the user chose."""

from __future__ import annotations

from typing import Any

from framefold.plot.panels import Field
from framefold.web.geometry import grip_of
from framefold.web.hub import Hub, pattern_of
from framefold.web.parameters import parameters_of


def likeness(hub: Hub) -> tuple[Any, ...] | None:
    """Return what a page is made for: runs of which it is equal share a page. None before the first run."""
    if hub.snapshot is None:
        return None
    results = hub.snapshot.buffers
    pictures = [(p.title, p.spec, [_form(f) for f in p.fields(results)]) for p in hub.panels]
    if hub.control is None or not hub.control.changeable:
        return (pictures,)
    forms = [
        (type(u), grip_of(u), [(p.name, type(p.value), p.choices, p.optional) for p in parameters_of(u)])
        for u in hub.udfs
    ]
    pattern = pattern_of(results) or hub.pattern
    return pictures, forms, None if pattern is None else _form(pattern)


def _form(found: Field) -> tuple[Any, ...]:
    return found.label, found.values.shape, found.values.dtype, found.axes
