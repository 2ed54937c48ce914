"""Small pictures of arrays as HTML, for notebooks; needs no drawing library."""

from __future__ import annotations

import base64
import html
import struct
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from framefold.udfcore.results import ResultBuffer

SIDE = 96  # pixels of the array a picture shows at most, along its longer side
LINE = (160, 60)
GREY = (140, 140, 140)
QUANTILES = (0.001, 0.999)
MAX_PICTURES = 4  # of a result with an extra axis
# viridis (S. van der Walt and N. Smith, 2015, CC0) at sixteen places
_VIRIDIS = np.array(
    [
        (68, 1, 84), (72, 26, 108), (71, 47, 125), (65, 68, 135), (57, 86, 140), (49, 104, 142),
        (42, 120, 142), (35, 136, 142), (31, 152, 139), (34, 168, 132), (53, 183, 121), (84, 197, 104),
        (122, 209, 81), (165, 219, 54), (210, 226, 27), (253, 231, 37),
    ],
    dtype=np.float64,
)  # fmt: skip
Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]


def png(rgb: npt.NDArray[np.uint8]) -> bytes:
    """Return a picture, uint8 ``(rows, columns, 3)``, as a PNG file."""
    rows, columns, _ = rgb.shape
    lines = np.zeros((rows, 1 + 3 * columns), dtype=np.uint8)  # each line begins with its filter: none
    lines[:, 1:] = rgb.reshape(rows, -1)
    head = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def colours(values: Array, valid: Flags) -> npt.NDArray[np.uint8]:
    """Return a real 2-D array in colours between its 0.1 % and 99.9 % quantiles; grey where not valid."""
    good = valid & np.isfinite(values)
    safe = np.where(good, values, 0).astype(np.float64)
    low, high = np.quantile(safe[good], QUANTILES) if good.any() else (0.0, 1.0)
    part = np.clip((safe - low) / ((high - low) or 1.0), 0, 1) * (len(_VIRIDIS) - 1)
    rgb = np.stack([np.interp(part, np.arange(len(_VIRIDIS)), c) for c in _VIRIDIS.T], axis=-1)
    rgb[~good] = GREY
    return (rgb + 0.5).astype(np.uint8)


def picture_html(values: Array, valid: Flags) -> str:
    """Return an ``<img>`` of a 2-D array (complex: its modulus), thinned out where it is large."""
    step = max(1, -(-max(values.shape) // SIDE))
    values, valid = values[::step, ::step], valid[::step, ::step]
    values = np.abs(values) if values.dtype.kind == "c" else values
    data = base64.b64encode(png(colours(values, valid))).decode("ascii")
    zoom = max(1, round(SIDE / max(values.shape)))
    size = f"width:{zoom * values.shape[1]}px;height:{zoom * values.shape[0]}px"
    return f"<img style='{size};image-rendering:pixelated' src='data:image/png;base64,{data}'>"


def curve_html(values: Array, valid: Flags) -> str:
    """Return an ``<svg>`` of a 1-D array (complex: its modulus), thinned out where it is long."""
    step = max(1, -(-len(values) // LINE[0]))
    values, valid = values[::step], valid[::step]
    values = np.abs(values) if values.dtype.kind == "c" else values.astype(np.float64)
    good = valid & np.isfinite(values)
    if not good.any():
        return ""
    low, high = float(values[good].min()), float(values[good].max())
    x = np.linspace(2, LINE[0] - 2, len(values))
    y = LINE[1] - 3 - (LINE[1] - 6) * (np.where(good, values, low) - low) / ((high - low) or 1.0)
    gaps = np.flatnonzero(np.diff(good.astype(np.int8))) + 1
    lines = "".join(
        f"<polyline fill='none' stroke='#2471a3' stroke-width='1.2' points='{_points(x[i], y[i])}'/>"
        for i in np.split(np.arange(len(values)), gaps)
        if good[i[0]]
    )
    return f"<svg width='{LINE[0]}' height='{LINE[1]}' style='background:#f4f4f4'>{lines}</svg>"


def _points(x: Array, y: Array) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def thumbnail(buf: ResultBuffer) -> str:
    """Return small pictures of a result as HTML: an image, some of a stack, a curve, a number, or nothing."""
    if buf.dtype.kind not in "biufc":
        return ""
    values, valid = buf.data, buf.valid_mask
    if values.size <= 1:
        return html.escape(f"{values.reshape(-1)[0]:.6g}") if valid.any() else "-"
    keep = [i for i, n in enumerate(values.shape) if n != 1]
    if len(keep) == 1:
        return curve_html(values.reshape(-1), valid.reshape(-1))
    if values.ndim == 2:
        return picture_html(values, valid)
    if values.ndim < 2 or len(buf.extra_shape) + 2 != values.ndim:
        return ""
    stack, flags = (a.reshape(*a.shape[:2], -1) for a in (values, valid))
    n = stack.shape[2]
    shown = (picture_html(stack[..., i], flags[..., i]) for i in range(min(n, MAX_PICTURES)))
    more = f" &hellip; ({n} in all)" if n > MAX_PICTURES else ""
    return "&nbsp;".join(shown) + more


def table_html(results: Mapping[str, ResultBuffer]) -> str:
    """Return a table: name, kind, shape, dtype, range of the valid values, and a small picture each."""
    lines = [_row("th", ("result", "", "values", "picture"))]
    for name, buf in results.items():
        lines.append(_row("td", (f"<b>{html.escape(name)}</b>", _about(buf), _range(buf), thumbnail(buf))))
    return f"<table>{''.join(lines)}</table>"


def _row(tag: str, cells: tuple[str, ...]) -> str:
    inner = "".join(f"<{tag} style='text-align:left'>{cell}</{tag}>" for cell in cells)
    return f"<tr>{inner}</tr>"


def _about(buf: ResultBuffer) -> str:
    shape = " &times; ".join(map(str, buf.shape)) or "one"
    return html.escape(buf.kind) + f"<br>{shape}<br>" + html.escape(str(buf.dtype))


def _range(buf: ResultBuffer) -> str:
    if buf.dtype.kind not in "biufc":
        return ""
    values = np.abs(buf.raw_data) if buf.dtype.kind == "c" else buf.raw_data
    good = values[np.broadcast_to(buf.raw_valid_mask, values.shape) & np.isfinite(values)]
    share = f"{100 * good.size / values.size:.3g} % valid" if values.size else "empty"
    if not good.size:
        return share
    text = f"{good.min():.5g} &hellip; {good.max():.5g}" if good.size > 1 else ""
    return f"{text}<br>mean {good.mean(dtype=np.float64):.5g}<br>{share}"
