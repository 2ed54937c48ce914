"""Panes: each shows one kind of picture with Bokeh, made once; afterwards only its data are replaced."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from framefold.plot.calibration import aspect, ruler
from framefold.plot.colour import wheel
from framefold.plot.drawing import kind_of
from framefold.plot.panels import Field
from framefold.udfcore.plotspec import PlotSpec
from framefold.web import palettes
from framefold.web.canvas import PixelCanvas
from framefold.web.look import Look
from framefold.web.render import Grid, Picture, grid_of, read_out, render
from framefold.web.text import LiveText

SIDE = 512  # CSS pixels of a picture
MARKS_SECONDS = 1.5  # between other marks on the colour bar: 25 ms of a browser's time
_CURSOR_JS = """
const send = () => { cursor.late = null; cursor.at = Date.now();
                     cursor.data = {x: [cursor.seen[0]], y: [cursor.seen[1]]}; };
cursor.seen = [cb_obj.x, cb_obj.y];
const wait = 60 - (Date.now() - (cursor.at ?? 0));
if (wait <= 0) send(); else cursor.late ??= setTimeout(send, wait);
"""


class Pane(Protocol):
    """One kind of picture on a page."""

    root: Any

    @property
    def look(self) -> Look:
        """How it is to be drawn."""
        ...

    def show(self, picture: Picture) -> None:
        """Replace what is shown; called with the document locked."""
        ...

    def annotate(self, last: bool) -> None:
        """Bring up to date what need not change with every picture; `last`: no other is to be expected."""
        ...


def pane_for(spec: PlotSpec, fields: Sequence[Field], changed: Callable[[], None]) -> Pane:
    """Return the pane that suits `spec` and the data.

    Parameters
    ----------
    changed
        Called when the user chose another look: the pane wants its picture anew.
    """
    kind = kind_of(spec, fields)
    if kind == "table":
        return TablePane()
    if kind == "line":
        return LinePane(spec, fields)
    return ImagePane(spec, fields, changed, kind)


class ImagePane:
    """A 2-D picture with calibrated axes, colour bar, controls and read-out."""

    def __init__(
        self, spec: PlotSpec, fields: Sequence[Field], changed: Callable[[], None], kind: str
    ) -> None:
        from bokeh.layouts import column, row  # noqa: PLC0415  # optional library
        from bokeh.models import ColumnDataSource, CustomJS  # noqa: PLC0415

        self._changed = changed
        self._spec = spec
        self._picture: Picture | None = None
        self._note = ""
        self._marked_at = 0.0
        self._marked_look: Look | None = None
        self.look = Look(scale=spec.scale, symmetric=spec.symmetric)
        grid = grid_of(fields[0])
        self.figure = picture_figure(grid)
        self._palette = spec.cmap or ("RdBu_r" if spec.symmetric else "viridis")
        chosen = palettes.colours(self._palette)
        edges = grid.rectangle()
        self.canvas = PixelCanvas(self.figure, edges, palettes.with_grey(chosen))
        left, right, bottom, top = edges  # the border shows where the picture ends when it is moved
        self.figure.quad(
            left=left, right=right, bottom=bottom, top=top, fill_color=None, line_color="#cccccc"
        )
        self._hue = kind == "hue-phase"
        if not self._hue:
            self._add_bar(chosen)
        self._arrows = ColumnDataSource({k: [] for k in ("x0", "y0", "x1", "y1")})
        if kind == "vectors":
            self.figure.segment(
                "x0", "y0", "x1", "y1", source=self._arrows, line_color="white", line_width=1.4
            )
        self._read = LiveText("&nbsp;", styles={"font-family": "monospace", "min-height": "1.4em"})
        self._cursor = ColumnDataSource({"x": [], "y": []})
        self._cursor.on_change("data", lambda _a, _o, _n: self._tell())
        self.figure.js_on_event("mousemove", CustomJS(args={"cursor": self._cursor}, code=_CURSOR_JS))
        beside = [self.figure, _wheel_figure()] if self._hue else [self.figure]
        self.root = column(self._controls(), row(*beside), self._read.root)

    def _add_bar(self, chosen: Sequence[str]) -> None:
        from bokeh.models import ColorBar, FixedTicker, LinearColorMapper  # noqa: PLC0415

        self._scale = LinearColorMapper(palette=chosen, low=0, high=1)
        self._ticker = FixedTicker(ticks=[])
        self._bar = ColorBar(
            color_mapper=self._scale, ticker=self._ticker, title=self._spec.units or None, width=14, padding=4
        )
        self.figure.add_layout(self._bar, "right")

    def _controls(self) -> Any:
        from bokeh.layouts import row  # noqa: PLC0415
        from bokeh.models import Checkbox, NumericInput, Select  # noqa: PLC0415

        look = self.look
        self._mode = Select(
            title="limits", value=look.mode, options=["auto", "percentile", "manual"], width=100
        )
        self._low = NumericInput(title="from", mode="float", value=None, width=100, disabled=True)
        self._high = NumericInput(title="to", mode="float", value=None, width=100, disabled=True)
        mark = Checkbox(label="grey where not valid", active=look.mark, align="end")
        self._mode.on_change("value", lambda _a, _o, _n: self._choose_mode())
        self._low.on_change("value", lambda _a, _o, _n: self._choose_limits())
        self._high.on_change("value", lambda _a, _o, _n: self._choose_limits())
        mark.on_change("active", lambda _a, _o, new: self._set(mark=bool(new)))
        widgets = [self._mode, self._low, self._high, mark]
        if not self._hue:
            scale = Select(title="scale", value=look.scale, options=["linear", "log", "sqrt"], width=90)
            scale.on_change("value", lambda _a, _o, new: self._set(scale=new))
            colour = Select(
                title="palette", value=self._palette, options=palettes.names(self._palette), width=110
            )
            colour.on_change("value", lambda _a, _o, new: self._choose_palette(new))
            widgets[:0] = [scale]
            widgets[-1:-1] = [colour]
        return row(*widgets)

    def _set(self, **changes: Any) -> None:
        look = replace(self.look, **changes)
        if look != self.look:
            self.look = look
            self._changed()

    def _choose_palette(self, name: str) -> None:
        chosen = palettes.colours(name)
        self.canvas.recolour(palettes.with_grey(chosen))
        self._scale.palette = chosen

    def _choose_mode(self) -> None:
        mode = self._mode.value
        self._low.disabled = self._high.disabled = mode == "auto"
        if mode == "percentile":
            self._low.value, self._high.value = self.look.percent
        elif mode == "manual":
            self._start_from_picture()
        self._set(mode=mode)
        self._choose_limits()

    def _start_from_picture(self) -> None:
        if self._picture is not None:
            self._low.value, self._high.value = self._picture.low, self._picture.high

    def _choose_limits(self) -> None:
        low, high = self._low.value, self._high.value
        if self.look.mode != self._mode.value or low is None or high is None or not low < high:
            return
        if self.look.mode == "manual":
            self._set(manual=(float(low), float(high)))
        elif self.look.mode == "percentile":
            self._set(percent=(min(max(float(low), 0.0), 100.0), min(max(float(high), 0.0), 100.0)))

    def show(self, picture: Picture) -> None:
        """Replace pixels and arrows; marks and texts are left to `annotate`: they cost the browser more."""
        first, self._picture = self._picture is None, picture
        if first and self._mode.value == "manual":  # chosen before there was anything to see
            self._start_from_picture()
        pixels = picture.rgba if picture.rgba is not None else picture.pixels
        assert pixels is not None
        self.canvas.put(pixels)
        if picture.segments is not None:
            self._arrows.data = dict(zip(("x0", "y0", "x1", "y1"), picture.segments, strict=True))

    def annotate(self, last: bool) -> None:
        """Bring the read-out up to the picture, and now and then the marks of the colour bar."""
        picture = self._picture
        if picture is None:
            return
        now = time.monotonic()
        if self._hue:
            units = f" {self._spec.units}" if self._spec.units else ""
            self._note = f"brightest: {picture.high:.4g}{units}"
        else:
            self._note = f"colours from {picture.low:.6g} to {picture.high:.6g}"
            if last or self.look != self._marked_look or now - self._marked_at > MARKS_SECONDS:
                self._marked_look, self._marked_at = self.look, now
                self._mark(picture.ticks)
        self._tell()

    def _mark(self, ticks: Sequence[tuple[float, str]]) -> None:
        places = [p for p, _ in ticks]
        if places != self._ticker.ticks or self._bar.major_label_overrides != dict(ticks):
            self._bar.major_label_overrides = dict(ticks)
            self._ticker.ticks = places

    def _tell(self) -> None:
        if self._picture is None:
            return
        x, y = self._cursor.data["x"], self._cursor.data["y"]
        here = read_out(self._picture, x[0], y[0]) if len(x) and x[0] is not None else ""
        self._read.text = html.escape(here) if here else f"<span style='color:#777'>{self._note}</span>"


class LinePane:
    """Curves over a calibrated axis, on a linear or logarithmic scale."""

    def __init__(self, spec: PlotSpec, fields: Sequence[Field]) -> None:
        from bokeh.layouts import column  # noqa: PLC0415
        from bokeh.models import ColumnDataSource, Select  # noqa: PLC0415
        from bokeh.palettes import Category10_10  # noqa: PLC0415
        from bokeh.plotting import figure  # noqa: PLC0415

        self.look = Look()
        found = render(spec, fields, self.look)
        along = _along(fields)
        self._sources = [ColumnDataSource({"x": [], "y": []}) for _ in found.lines]
        self._figures = []
        for kind in ("linear", "log"):
            fig = figure(
                width=760, height=420, y_axis_type=kind, x_axis_label=along, y_axis_label=spec.units,
                tools="pan,wheel_zoom,box_zoom,reset,save,hover", visible=kind == _axis_type(spec),
            )  # fmt: skip
            for i, ((label, _), source) in enumerate(zip(found.lines, self._sources, strict=True)):
                colour = Category10_10[i % 10]
                legend = {"legend_label": label} if len(found.lines) > 1 else {}
                fig.line("x", "y", source=source, line_color=colour, line_width=1.6, **legend)
                if found.x is not None and len(found.x) <= 64:
                    fig.scatter("x", "y", source=source, color=colour, size=5)
            self._figures.append(fig)
        scale = Select(title="scale", value=_axis_type(spec), options=["linear", "log"], width=90)
        scale.on_change("value", lambda _a, _o, new: self._choose(new))
        self.root = column(scale, *self._figures)

    def _choose(self, kind: str) -> None:
        for fig, name in zip(self._figures, ("linear", "log"), strict=True):
            fig.visible = name == kind

    def show(self, picture: Picture) -> None:
        """Replace the curves."""
        assert picture.x is not None
        for source, (_, values) in zip(self._sources, picture.lines, strict=True):
            source.data = {"x": picture.x, "y": np.asarray(values, dtype=np.float64)}

    def annotate(self, last: bool) -> None:
        """Nothing more."""


class TablePane:
    """A few numbers."""

    def __init__(self) -> None:
        self.look = Look()
        self._text = LiveText(styles={"font-size": "130%"})
        self.root = self._text.root

    def show(self, picture: Picture) -> None:
        """Replace the numbers."""
        rows = (f"<tr><td>{html.escape(k)}&emsp;</td><td>{html.escape(v)}</td></tr>" for k, v in picture.rows)
        self._text.text = f"<table>{''.join(rows)}</table>"

    def annotate(self, last: bool) -> None:
        """Nothing more."""


def _along(fields: Sequence[Field]) -> str:
    axes = fields[0].axes
    return ruler(axes[0], fields[0].values.shape[0]).label if axes else ""


def _axis_type(spec: PlotSpec) -> str:
    return "log" if spec.scale == "log" else "linear"


def picture_figure(grid: Grid) -> Any:
    """Return an empty Bokeh figure for a picture: row 0 on top, true to scale where that makes sense."""
    from bokeh.models import Range1d  # noqa: PLC0415
    from bokeh.plotting import figure  # noqa: PLC0415

    left, right, bottom, top = grid.rectangle()
    width, height = _size(grid)
    fig = figure(
        frame_width=width, frame_height=height, tools="pan,wheel_zoom,box_zoom,reset",
        active_drag=None, active_scroll="wheel_zoom", x_axis_label=grid.x.label,
        y_axis_label=grid.y.label, x_range=Range1d(left, right), y_range=Range1d(bottom, top),
        background_fill_color=None,
    )  # fmt: skip
    fig.grid.visible = False
    return fig


def _size(grid: Grid) -> tuple[int, int]:
    if aspect(grid.shape, grid.y, grid.x) != "equal":
        return SIDE, SIDE
    ratio = abs(grid.y.scale * grid.shape[0]) / abs(grid.x.scale * grid.shape[1])
    return (SIDE, max(round(SIDE * ratio), 120)) if ratio <= 1 else (max(round(SIDE / ratio), 120), SIDE)


def _wheel_figure() -> Any:
    from bokeh.plotting import figure  # noqa: PLC0415

    fig = figure(
        frame_width=100, frame_height=100, x_range=(-1, 1), y_range=(-1, 1), tools="", toolbar_location=None
    )
    fig.axis.visible = fig.grid.visible = False
    fig.outline_line_color = None
    rgba = np.ascontiguousarray((wheel() * 255 + 0.5).astype(np.uint8)[::-1]).view("<u4")[..., 0]
    fig.image_rgba([rgba], x=-1, y=-1, dw=2, dh=2)
    return fig
