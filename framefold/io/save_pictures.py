"""One result for other programs: ``.tif`` for images, ``.csv`` for tables, ``.png`` to look at."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.save_arrays import only
from framefold.io.save_model import SavedBuffer, SavedResult, to_json
from framefold.udfcore.metadata import Axis

_CENTIMETRES = {"m": 1e2, "cm": 1.0, "mm": 0.1, "um": 1e-4, "µm": 1e-4, "nm": 1e-7, "A": 1e-8, "pm": 1e-10}
_LIMITS = (0.5, 99.5)  # percentiles: a few hot pixels must not take the whole colour scale


def _image(result: SavedResult, suffix: str) -> SavedBuffer:
    buffer = only(result, suffix)
    if buffer.data.ndim != 2:
        raise DataError(
            f"{suffix} holds an image of two axes, {buffer.name!r} has the shape {buffer.shape}: "
            "save it as .nxs, .zarr, .npz or .npy"
        )
    return buffer


def write_tif(path: Path, result: SavedResult) -> None:
    """Write one image with its pixel size as resolution, and the run as JSON in the description."""
    try:
        import tifffile
    except ImportError:
        raise DataError(".tif needs tifffile: pip install 'framefold[formats]'") from None
    buffer = _image(result, ".tif")
    options: dict[str, Any] = {}
    sizes = [abs(a.scale) * _CENTIMETRES.get(a.units, 0.0) for a in buffer.axes]
    if len(sizes) == 2 and all(sizes):
        # the tag is (x, y) in pixels per centimetre, as 32-bit fractions
        per_cm = (1 / sizes[1], 1 / sizes[0])
        if max(per_cm) < 2**32:
            options = {"resolution": per_cm, "resolutionunit": "CENTIMETER"}
    data = buffer.data.astype(np.uint8) if buffer.data.dtype == bool else buffer.data
    about = {"name": buffer.name, **buffer.describe(), "provenance": dict(result.provenance)}
    # the tag is 7-bit ASCII
    description = to_json(about).encode("ascii", "backslashreplace").decode()
    tifffile.imwrite(path, data, photometric="minisblack", description=description, metadata=None, **options)


def write_csv(path: Path, result: SavedResult) -> None:
    """Write results of one axis as columns beside their coordinate; invalid values stay empty.

    Several results fit one table when they are of the same kind and length; an extra axis gives a
    column per entry.
    """
    buffers = list(result.values())
    lengths = {b.shape[0] if b.data.ndim else 1 for b in buffers}
    for b in buffers:
        if b.data.ndim > 2 or (b.data.ndim == 2 and len(b.extra_shape) != 1):
            raise DataError(
                f".csv holds results of one axis, {b.name!r} has the shape {b.shape}: "
                "save it as .tif, .nxs, .zarr or .npz"
            )
    if len(lengths) > 1 or len({b.kind for b in buffers}) > 1:
        raise DataError(
            ".csv holds results of the same kind and length, there are "
            + ", ".join(f"{b.name} {b.kind} {b.shape}" for b in buffers)
        )
    n = lengths.pop()
    axis = buffers[0].axes[0] if buffers[0].axes and buffers[0].data.ndim else Axis("index")
    columns: list[tuple[str, npt.NDArray[Any]]] = [(_heading(axis), axis.values(n))]
    for b in buffers:
        columns.extend(_columns(b, n))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([name for name, _ in columns])
        writer.writerows(zip(*(values for _, values in columns), strict=True))


def _heading(axis: Axis) -> str:
    return f"{axis.name or 'index'} ({axis.units})" if axis.calibrated else axis.name or "index"


def _columns(buffer: SavedBuffer, n: int) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    data, valid = buffer.data.reshape(n, -1), buffer.valid_mask.reshape(n, -1)
    for i in range(data.shape[1]):
        name = buffer.name if data.shape[1] == 1 else f"{buffer.name}[{i}]"
        parts = {name: data[:, i]}
        if data.dtype.kind == "c":
            parts = {f"{name}.real": data[:, i].real, f"{name}.imag": data[:, i].imag}
        for label, values in parts.items():
            # repr of numpy values is the shortest text that reads back the same
            texts = [str(v) if ok else "" for v, ok in zip(values.tolist(), valid[:, i], strict=True)]
            yield label, np.array(texts, dtype=object)


def write_png(path: Path, result: SavedResult) -> None:
    """Draw one image with calibrated axes and a colour bar; complex values as modulus and phase."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise DataError(".png needs matplotlib: pip install 'framefold[plot]'") from None
    buffer = _image(result, ".png")
    data = np.where(buffer.valid_mask, buffer.data, np.nan)
    panels = (
        [("", data)] if data.dtype.kind != "c" else [("modulus", np.abs(data)), ("phase", np.angle(data))]
    )
    figure = Figure(figsize=(5.5 * len(panels), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    for i, (part, values) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1)
        low, high = (-np.pi, np.pi) if part == "phase" else display_limits(values)
        picture = axes.imshow(
            values,
            vmin=low,
            vmax=high,
            extent=_extent(buffer),
            cmap="twilight" if part == "phase" else "viridis",
            aspect="equal",
            interpolation="nearest",
        )
        y, x = buffer.axes if len(buffer.axes) == 2 else (Axis("y"), Axis("x"))
        axes.set_xlabel(_label(x, "x"))
        axes.set_ylabel(_label(y, "y"))
        axes.set_title(f"{buffer.name} {part}".strip())
        figure.colorbar(picture, ax=axes, label="rad" if part == "phase" else "")
    figure.savefig(path, format="png", dpi=150)


def display_limits(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the 0.5 and 99.5 percentiles of the finite values; (0, 1) where there are none.

    >>> display_limits(np.array([np.nan, 3.0, 3.0]))
    (3.0, 4.0)
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite, _LIMITS))
    return (low, high) if high > low else (low, low + 1)


def _extent(buffer: SavedBuffer) -> tuple[float, float, float, float]:
    rows, columns = buffer.shape
    y, x = buffer.axes if len(buffer.axes) == 2 else (Axis(), Axis())
    # pixel centres lie on the coordinates
    return (
        x.offset - x.scale / 2,
        x.offset + x.scale * (columns - 0.5),
        y.offset + y.scale * (rows - 0.5),
        y.offset - y.scale / 2,
    )


def _label(axis: Axis, default: str) -> str:
    name = re.sub(r"[$\\]", "", axis.name) or default  # matplotlib would read these as formulas
    return f"{name} ({axis.units})" if axis.units else name
