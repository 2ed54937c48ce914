"""The frame of a page: header, buttons, progress, tabs, sectors, and the models that carry confirmations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from framefold.web.text import LiveText

# the picture is on the screen when the next frame of animation begins; hidden tabs have none
_SEEN_JS = "const n = tick.data.n; requestAnimationFrame(() => { ack.data = {n: n}; });"
_WIDE_CSS = ".bk-clearfix { width: 100%; }"
# past Bokeh, which would want to tell the server
_LOST_JS = """
if (!document.getElementById("framefold-lost")) {
  const note = document.createElement("div");
  note.id = "framefold-lost";
  note.style = "background:#b9770e;color:white;padding:4px 8px;font-family:sans-serif";
  note.textContent = "Not connected any more: this is the last picture.";
  document.body.prepend(note);
}
"""
_SAVE_JS = "const a = document.createElement('a'); a.href = path; a.download = ''; a.click();"


@dataclass
class Frame:
    """The parts of a page that change.

    Attributes
    ----------
    header, progress, sectors
        Texts.
    stop
        The button.
    tabs
        A tab per picture.
    tick, ack
        Numbers of the picture sent, and seen.
    """

    header: Any
    progress: LiveText
    sectors: LiveText
    stop: Any
    tabs: Any
    side: Any
    tick: Any
    ack: Any

    def fill(self, panes: Mapping[str, Any], side: Sequence[Any]) -> None:
        """Set the tabs and what stands beside them."""
        from bokeh.models import Div, TabPanel  # noqa: PLC0415  # optional library

        found = [TabPanel(title=name, child=root) for name, root in panes.items()]
        empty = [TabPanel(title="waiting", child=Div(text="Waiting for the first data."))]
        self.tabs.tabs = found or empty
        self.tabs.active = min(self.tabs.active, max(len(found) - 1, 0))
        self.side.children = list(side)


def page_frame(doc: Any, downloads: Mapping[str, str], stop: Callable[[], None]) -> Frame:
    """Put the frame of a page into a document.

    Parameters
    ----------
    downloads
        Label of a button -> path.
    stop
        Called by the Stop button.
    """
    from bokeh.layouts import column, row  # noqa: PLC0415
    from bokeh.models import Button, ColumnDataSource, CustomJS, Div, Tabs  # noqa: PLC0415

    header = Div(text="")
    wide = {"width": "calc(100% - 10px)"}  # margins of 5 px
    # two lines: what lies below must not move under the mouse when the text grows
    two = {**wide, "min-height": "3.6em"}
    progress = LiveText(sizing_mode="stretch_width", styles=two, stylesheets=[_WIDE_CSS])
    sectors = LiveText(sizing_mode="stretch_width", styles=wide)
    button = Button(label="Stop", button_type="danger", width=80)
    button.on_click(lambda _event: stop())
    saves = []
    for label, path in downloads.items():
        save = Button(label=label, width=110)
        save.js_on_click(CustomJS(args={"path": path}, code=_SAVE_JS))
        saves.append(save)
    tick, ack = ColumnDataSource({"n": [0]}), ColumnDataSource({"n": [0]})
    tick.js_on_change("data", CustomJS(args={"tick": tick, "ack": ack}, code=_SEEN_JS))
    tabs = Tabs(tabs=[])
    side = column()
    body = column(
        row(header), progress.root, row(button, *saves), row(tabs, side), sectors.root,
        sizing_mode="stretch_width",
    )  # fmt: skip
    doc.add_root(body)
    for model in (tick, ack):
        doc.add_root(model)
    doc.js_on_event("connection_lost", CustomJS(code=_LOST_JS))
    doc.title = "framefold"
    return Frame(header, progress, sectors, button, tabs, side, tick, ack)
