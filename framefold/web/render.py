"""From a snapshot to what is sent to a page: bytes, points and text; knows nothing of browsers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.plot.calibration import Ruler, extent, ruler
from framefold.plot.colour import hue_image
from framefold.plot.drawing import arrows, brightest, curves, kind_of, length, numbers, plane, real
from framefold.plot.panels import Field
from framefold.udfcore.metadata import Axis
from framefold.udfcore.plotspec import Drawing, PlotSpec
from framefold.web.binning import bin_area, block_of
from framefold.web.look import Look, limits_of, ticks, to_bytes


@dataclass(frozen=True)
class Grid:
    """Where a 2-D result lies: its shape and its axes in readable units."""

    shape: tuple[int, int]
    y: Ruler
    x: Ruler

    def place(self, x: float, y: float) -> tuple[int, int] | None:
        """Return the (row, column) at a point in the units of the axes, None outside."""
        row = round((y - self.y.offset) / self.y.scale)
        column = round((x - self.x.offset) / self.x.scale)
        inside = 0 <= row < self.shape[0] and 0 <= column < self.shape[1]
        return (row, column) if inside else None

    def rectangle(self) -> tuple[float, float, float, float]:
        """Return (left, right, bottom, top); row 0 is on top."""
        return _edges(self.x, self.shape[1]) + _edges(self.y, self.shape[0])[::-1]


def _edges(along: Ruler, n: int) -> tuple[float, float]:
    return along.offset - along.scale / 2, along.offset + along.scale * (n - 0.5)


def grid_of(found: Field) -> Grid:
    """Return where a 2-D field lies."""
    shape = (found.values.shape[0], found.values.shape[1])
    _, y, x = extent((found.axes[0], found.axes[1]), shape)
    return Grid(shape, y, x)


@dataclass(frozen=True)
class Picture:
    """What one panel shows now.

    Attributes
    ----------
    kind
        Which of the other attributes are set.
    pixels
        Image: uint8, row 0 on top, 0 for pixels without a value.
    rgba
        Hue picture: uint32, row 0 on top.
    low, high, ticks
        Limits of the colours, and the marks on the colour bar.
    segments
        Vectors: float64 ``(4, n)``: x0, y0, x1, y1.
    x, lines
        Curves over `x`.
    rows
        Table: (label, text).
    fields
        What was drawn, for the read-out.
    """

    kind: Drawing
    fields: Sequence[Field]
    pixels: npt.NDArray[np.uint8] | None = None
    rgba: npt.NDArray[np.uint32] | None = None
    low: float = 0.0
    high: float = 1.0
    ticks: Sequence[tuple[float, str]] = ()
    segments: npt.NDArray[np.float64] | None = None
    x: npt.NDArray[np.float64] | None = None
    lines: Sequence[tuple[str, npt.NDArray[Any]]] = ()
    rows: Sequence[tuple[str, str]] = field(default=())


def render(spec: PlotSpec, fields: Sequence[Field], look: Look) -> Picture:
    """Return the picture of `fields`.

    Parameters
    ----------
    spec
        Kind of picture.
    fields
        What to draw.
    look
        Colours, for images.
    """
    kind = kind_of(spec, fields)
    if kind == "table":
        units = f" {spec.units}" if spec.units else ""
        return Picture(kind, fields, rows=[(f.label, numbers(f) + units) for f in fields])
    if kind == "line":
        found = curves(fields)
        n = len(found[0][1])
        along = ruler(fields[0].axes[0] if fields[0].axes else Axis(), n)
        places = along.offset + along.scale * np.arange(n, dtype=np.float64)
        return Picture(kind, fields, x=places, lines=found)
    if kind == "hue-phase":
        return _hue(fields, look)
    if kind == "vectors":
        under = _image([length(fields)], look)
        segments = _segments(fields)
        return Picture(kind, fields, under.pixels, None, under.low, under.high, under.ticks, segments)
    return _image(fields, look)


def _shown(found: Field, look: Look) -> npt.NDArray[np.bool_]:
    return found.valid if look.mark else np.ones(found.values.shape, dtype=bool)


def _image(fields: Sequence[Field], look: Look) -> Picture:
    values, shown = real(fields[0].values), _shown(fields[0], look)
    low, high = limits_of(values, shown, look)
    block = block_of((values.shape[0], values.shape[1]))
    values, shown = bin_area(values, shown, block)
    pixels = to_bytes(values, shown, low, high, look.scale)
    return Picture("image", fields, pixels, None, low, high, ticks(low, high, look.scale))


def _hue(fields: Sequence[Field], look: Look) -> Picture:
    z, valid = plane(fields)
    shown = valid if look.mark else np.ones(z.shape, dtype=bool)
    lengths = np.abs(z)
    top = brightest(lengths, shown) if look.mode == "auto" else limits_of(lengths, shown, look)[1]
    z, shown = bin_area(z, shown, block_of((z.shape[0], z.shape[1])))
    rgb = (hue_image(z, shown, top) * 255 + 0.5).astype(np.uint8)
    rgba = np.full((*rgb.shape[:2], 4), 255, dtype=np.uint8)
    rgba[..., :3] = rgb
    return Picture("hue-phase", fields, rgba=rgba.view("<u4")[..., 0], high=top)


def _segments(fields: Sequence[Field]) -> npt.NDArray[np.float64]:
    """Return shafts and heads of arrows: three strokes each."""
    found = arrows(fields)
    x, y = np.meshgrid(found.x, found.y)
    u, v = found.along_x, found.along_y
    tip_x, tip_y = x + u / 2, y + v / 2
    strokes = [(x - u / 2, y - v / 2, tip_x, tip_y)]
    for turn in (0.45, -0.45):  # rad: half the opening of the head
        c, s = np.cos(turn), np.sin(turn)
        strokes.append((tip_x - 0.35 * (c * u - s * v), tip_y - 0.35 * (s * u + c * v), tip_x, tip_y))
    return np.stack([np.concatenate([p[i].ravel() for p in strokes]) for i in range(4)])


def read_out(picture: Picture, x: float, y: float) -> str:
    """Return position and value at a point in the units of the axes, as text; empty outside."""
    first = picture.fields[0]
    if first.values.ndim != 2 or picture.kind in ("line", "table"):
        return ""
    grid = grid_of(first)
    at = grid.place(x, y)
    if at is None:
        return ""
    where = ", ".join(_position(along, i) for along, i in zip((grid.y, grid.x), at, strict=True))
    values = "; ".join(_value(f, at) for f in picture.fields)
    return f"[{at[0]}, {at[1]}]  {where}:  {values}"


def _position(along: Ruler, index: int) -> str:
    value = along.offset + along.scale * index
    return f"{along.name} = {value:.6g} {along.units}".strip() if along.name else f"{value:.6g} {along.units}"


def _value(found: Field, at: tuple[int, int]) -> str:
    value = found.values[at].item()
    text = f"{found.label} = {value:.6g}" if not isinstance(value, bool) else f"{found.label} = {int(value)}"
    return text if found.valid[at] else f"{text} (not valid)"
