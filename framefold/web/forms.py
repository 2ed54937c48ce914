"""Forms: a widget per parameter of the UDFs, and detectors to drag over a frame."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from framefold.errors import FramefoldError
from framefold.plot.panels import Field
from framefold.udfcore.metadata import Axis
from framefold.udfcore.plotspec import PlotSpec
from framefold.web.geometry import Grip, Outline, grip_of, outline_of, patch_of, sound
from framefold.web.panes import ImagePane
from framefold.web.parameters import Parameter, parameters_of, text_of

WIDTH = 105
Change = Callable[[int, dict[str, Any]], None]  # (index of the UDF, parameters)


class ParameterForm:
    """A widget per scalar parameter of each UDF.

    Parameters
    ----------
    udfs
        Of the run.
    change
        Called with what the user typed.
    """

    def __init__(self, udfs: Sequence[Any], change: Change) -> None:
        from bokeh.layouts import column, row  # noqa: PLC0415  # optional library
        from bokeh.models import Div  # noqa: PLC0415

        self._change = change
        self._widgets: list[tuple[int, Parameter, Any]] = []
        self._quiet = False
        parts: list[Any] = []
        for i, udf in enumerate(udfs):
            found = parameters_of(udf)
            if found:
                parts.append(Div(text=f"<b>{html.escape(type(udf).__name__)}</b>"))
            made = [(i, p, self._widget(i, p)) for p in found]
            self._widgets += made
            parts += [row(*(w for _, _, w in made[k : k + 2])) for k in range(0, len(made), 2)]
        self.error = Div(text="", styles={"color": "#b03a2e"}, width=2 * WIDTH)
        self.root = column(self.error, *parts)

    def _widget(self, index: int, parameter: Parameter) -> Any:
        from bokeh.models import Checkbox, Select, TextInput  # noqa: PLC0415

        if isinstance(parameter.value, bool):
            box = Checkbox(label=parameter.name, active=parameter.value, width=WIDTH, align="end")
            box.on_change("active", lambda _a, _o, new: self._typed(index, parameter, text_of(bool(new))))
            return box
        if parameter.choices:
            choose = Select(
                title=parameter.name, value=parameter.text, options=list(parameter.choices), width=WIDTH
            )
            choose.on_change("value", lambda _a, _o, new: self._typed(index, parameter, new))
            return choose
        entry = TextInput(
            title=parameter.name, value=parameter.text, placeholder="default" if parameter.optional else "",
            width=WIDTH,
        )  # fmt: skip
        entry.on_change("value", lambda _a, _o, new: self._typed(index, parameter, new))
        return entry

    def _typed(self, index: int, parameter: Parameter, text: str) -> None:
        if self._quiet:
            return
        try:
            value = parameter.parse(text)
        except FramefoldError as exc:
            self.tell(str(exc))
            return
        self._change(index, {parameter.name: value})

    def tell(self, text: str) -> None:
        """Show an error, or clear it."""
        self.error.text = html.escape(text)

    def refresh(self, values: Sequence[dict[str, Any]]) -> None:
        """Show the parameters as they are."""
        self._quiet = True
        try:
            for i, parameter, widget in self._widgets:
                value = values[i].get(parameter.name)
                if isinstance(parameter.value, bool):
                    widget.active = bool(value)
                else:
                    widget.value = text_of(value)
        finally:
            self._quiet = False


# the outline follows the mouse in the browser; the server hears of every step, and passes on the newest
_GRAB_JS = """
const d = shape.data, x = cb_obj.x, y = cb_obj.y, near = Math.max(tolerance, 1.5);
const inside_box = () => Math.abs(x - d.cx[0]) <= d.b[0] / 2 && Math.abs(y - d.cy[0]) <= d.a[0] / 2;
shape.grab = null;
if (form == "box") {
  const ex = Math.abs(Math.abs(x - d.cx[0]) - d.b[0] / 2), ey = Math.abs(Math.abs(y - d.cy[0]) - d.a[0] / 2);
  const at_x = ex <= near && Math.abs(y - d.cy[0]) <= d.a[0] / 2 + near;
  const at_y = ey <= near && Math.abs(x - d.cx[0]) <= d.b[0] / 2 + near;
  if (at_x || at_y) shape.grab = (at_x ? "x" : "") + (at_y ? "y" : "");
  else if (inside_box()) shape.grab = "move";
} else {
  const r = Math.hypot(x - d.cx[0], y - d.cy[0]);
  if (Math.abs(r - d.a[0]) <= near) shape.grab = "outer";
  else if (has_hole && d.b[0] > 0 && Math.abs(r - d.b[0]) <= near) shape.grab = "inner";
  else if (r < d.a[0]) shape.grab = "move";
}
shape.offset = [d.cx[0] - x, d.cy[0] - y];
"""
_DRAG_JS = """
if (shape.grab == null) return;
const d = shape.data, x = cb_obj.x, y = cb_obj.y;
let [cx, cy, a, b] = [d.cx[0], d.cy[0], d.a[0], d.b[0]];
const r = Math.hypot(x - cx, y - cy);
if (shape.grab == "move") { cx = x + shape.offset[0]; cy = y + shape.offset[1]; }
else if (shape.grab == "outer") a = Math.max(r, b + 0.5, 0.5);
else if (shape.grab == "inner") b = Math.min(Math.max(r, 0), a - 0.5);
else {
  if (shape.grab.includes("x")) b = Math.max(2 * Math.abs(x - cx), 1);
  if (shape.grab.includes("y")) a = Math.max(2 * Math.abs(y - cy), 1);
}
shape.data = {cx: [cx], cy: [cy], a: [a], b: [b], wa: [2 * a], wb: [2 * b]};
"""
_COLOURS = ("#ff5050", "#40e0ff", "#ffd040", "#70ff70")


@dataclass
class _Shape:
    index: int
    grip: Grip
    source: Any


class DetectorPane:
    """Detectors of the UDFs as outlines over a frame, in pixels: drag the edge to resize, inside to move.

    Parameters
    ----------
    udfs
        Of the run.
    pattern
        A frame to look at; its shape is that of the signal.
    change
        Called when an outline was dragged.
    changed
        Called when the user chose another look.
    """

    def __init__(
        self, udfs: Sequence[Any], pattern: Field, change: Change, changed: Callable[[], None]
    ) -> None:
        from bokeh.layouts import column  # noqa: PLC0415
        from bokeh.models import Div  # noqa: PLC0415

        self._change = change
        self._quiet = False
        self._sig = (pattern.values.shape[0], pattern.values.shape[1])
        self._pane = ImagePane(
            PlotSpec("image", (pattern.label,), scale="sqrt"), [in_pixels(pattern)], changed, "image"
        )
        grips = [(i, g) for i, g in enumerate(map(grip_of, udfs)) if g is not None]
        self._shapes = [self._add(i, g, udfs[i], n) for n, (i, g) in enumerate(grips)]
        names = ", ".join(
            f"<b style='color:{_COLOURS[n % 4]};background:#444;padding:0 4px'>"
            f"{html.escape(type(udfs[i]).__name__)}</b>"
            for n, (i, _) in enumerate(grips)
        )
        help_text = Div(text=f"{names}: drag the edge to resize, the inside to move.")
        self.root = column(help_text, self._pane.root)

    @property
    def look(self) -> Any:
        """Colours of the frame."""
        return self._pane.look

    def show(self, picture: Any) -> None:
        """Replace the frame under the outlines."""
        self._pane.show(picture)

    def annotate(self, last: bool) -> None:
        """Bring the marks of the colour bar and the read-out up to the frame."""
        self._pane.annotate(last)

    def _add(self, index: int, grip: Grip, udf: Any, n: int) -> _Shape:
        from bokeh.models import ColumnDataSource, CustomJS  # noqa: PLC0415

        source = ColumnDataSource(_columns(outline_of(grip, udf._kwargs, self._sig)))
        fig, colour = self._pane.figure, _COLOURS[n % 4]
        line = {"line_color": colour, "line_width": 2, "fill_color": colour}
        if grip.form == "box":
            fig.rect("cx", "cy", "b", "a", source=source, fill_alpha=0.15, **line)
        else:
            fig.ellipse("cx", "cy", "wa", "wa", source=source, fill_alpha=0.15, **line)
            fig.ellipse("cx", "cy", "wb", "wb", source=source, fill_alpha=0, **line)
            fig.scatter("cx", "cy", source=source, marker="cross", size=10, color=colour)
        near = max(self._sig) / 64
        about = {"shape": source, "form": grip.form, "has_hole": grip.b is not None, "tolerance": near}
        fig.js_on_event("panstart", CustomJS(args=about, code=_GRAB_JS))
        for event in ("pan", "panend"):
            fig.js_on_event(event, CustomJS(args={"shape": source}, code=_DRAG_JS))
        shape = _Shape(index, grip, source)
        source.on_change("data", lambda _a, _o, _n: self._dragged(shape))
        return shape

    def _dragged(self, shape: _Shape) -> None:
        if self._quiet:
            return
        d = {k: float(v[0]) for k, v in shape.source.data.items()}
        outline = Outline(shape.grip.form, d["cy"], d["cx"], d["a"], d["b"])
        if sound(outline):
            self._change(shape.index, patch_of(shape.grip, outline))

    def refresh(self, values: Sequence[dict[str, Any]]) -> None:
        """Show the parameters as they are, where the outlines differ by more than rounding."""
        self._quiet = True
        try:
            for shape in self._shapes:
                new = _columns(outline_of(shape.grip, values[shape.index], self._sig))
                old = shape.source.data
                if any(abs(new[k][0] - float(old[k][0])) > 0.02 for k in new):
                    shape.source.data = new
        finally:
            self._quiet = False


def in_pixels(found: Field) -> Field:
    """Return a field with axes in pixels, as the parameters of detectors are."""
    names = [a.name for a in found.axes] or ["ky", "kx"]
    return Field(found.label, found.values, found.valid, tuple(Axis(name=n) for n in names))


def _columns(o: Outline) -> dict[str, list[float]]:
    return {"cx": [o.cx], "cy": [o.cy], "a": [o.a], "b": [o.b], "wa": [2 * o.a], "wb": [2 * o.b]}
