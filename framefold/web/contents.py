"""What a page shows of a run: a pane for each picture, forms for its parameters, a header."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from framefold.plot.panels import Panel
from framefold.web.forms import DetectorPane, ParameterForm
from framefold.web.geometry import grip_of
from framefold.web.hub import Hub, pattern_of
from framefold.web.panes import Pane, pane_for

DETECTORS = "detectors"


@dataclass
class Contents:
    """Panes of a run, by title; `detectors` is one of them, and `panels` say what the others draw."""

    panes: dict[str, Pane] = field(default_factory=dict)
    panels: dict[str, Panel] = field(default_factory=dict)
    form: ParameterForm | None = None
    detectors: DetectorPane | None = None


def contents_of(
    hub: Hub,
    change: Callable[[int, dict[str, Any]], None],
    again: Callable[[], None],
    report: Callable[[str, Exception], None],
) -> Contents:
    """Make panes for what the run draws; panels that cannot be drawn are reported and left out."""
    made = Contents()
    for panel in hub.panels:
        title = _unused(panel.title, made.panes)
        try:
            fields = panel.fields(hub.snapshot.buffers) if hub.snapshot else []
            made.panes[title] = pane_for(panel.spec, fields, again)
            made.panels[title] = panel
        except Exception as exc:  # noqa: BLE001  # the other panels go on
            report(title, exc)
    if hub.control is not None and hub.control.changeable and hub.panels:
        made.form = ParameterForm(hub.udfs, change)
        pattern = (pattern_of(hub.snapshot.buffers) if hub.snapshot else None) or hub.pattern
        if pattern is not None and any(grip_of(u) is not None for u in hub.udfs):
            made.detectors = DetectorPane(hub.udfs, pattern, change, again)
            made.panes[DETECTORS] = made.detectors
    return made


def _unused(title: str, taken: Any) -> str:
    name, n = title, 2
    while name in taken or name == DETECTORS:
        name, n = f"{title} ({n})", n + 1
    return name


def header_html(hub: Hub) -> str:
    """Return title, UDFs and links of a run."""
    links = " ".join(
        f"<a href='{html.escape(url, quote=True)}' target='_blank' rel='noreferrer'>{html.escape(label)}</a>"
        for label, url in hub.links.items()
    )
    names = ", ".join(type(u).__name__ for u in hub.udfs)
    title = html.escape(hub.title or "framefold")
    return f"<b style='font-size:120%'>{title}</b>&emsp;{html.escape(names)}&emsp;{links}"
