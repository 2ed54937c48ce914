"""From fields to plain arrays that any drawing library takes: complex planes, curves, arrows, numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from framefold.plot.calibration import extent
from framefold.plot.colour import limits
from framefold.plot.panels import Field
from framefold.udfcore.plotspec import Drawing, PlotSpec

ARROWS = 24  # per axis, so that single arrows can be seen
MAX_LINES = 8
Numbers = npt.NDArray[Any]


def kind_of(spec: PlotSpec, fields: Sequence[Field]) -> Drawing:
    """Return the kind of picture that suits `spec` and the data.

    An image of 1-D data is a line, one of complex data a hue picture.

    Raises
    ------
    ValueError
        If the data have more than two axes.
    """
    first = fields[0].values
    if spec.kind == "table" or first.ndim == 0:
        return "table"
    if spec.kind == "line" or first.ndim == 1:
        return "line"
    if first.ndim != 2:
        raise ValueError(f"{fields[0].label} of shape {first.shape} is neither a line nor an image")
    if spec.kind == "vectors":
        return "vectors"
    return "hue-phase" if spec.kind == "hue-phase" or first.dtype.kind == "c" else "image"


def real(values: Numbers) -> Numbers:
    """Return `values` as numbers that can be subtracted: flags become 0 and 1."""
    return values.astype(np.uint8) if values.dtype == np.bool_ else values


def plane(fields: Sequence[Field]) -> tuple[npt.NDArray[np.complex128], npt.NDArray[np.bool_]]:
    """Return complex numbers whose imaginary part points up on the screen.

    The rows of a picture run downwards, so the y component of a vector changes sign; a complex result is
    shown as in the complex plane.
    """
    if len(fields) == 1:
        return np.asarray(fields[0].values, dtype=np.complex128), fields[0].valid
    y, x = fields
    z = np.empty(x.values.shape, dtype=np.complex128)
    z.real, z.imag = x.values, -np.asarray(y.values, dtype=np.float64)
    return z, y.valid & x.valid


def brightest(lengths: Numbers, valid: npt.NDArray[np.bool_] | None = None) -> float:
    """Return the length that gets the strongest colour: the 99.9 % quantile, 1 where there is none.

    A field of equal lengths has full strength everywhere.
    """
    low, high = limits(lengths, valid)
    keep = np.isfinite(lengths) if valid is None else valid & np.isfinite(lengths)
    return min(high, float(lengths[keep].max())) or 1.0 if keep.any() else high - low


class Arrows(NamedTuple):
    """Arrows by the positions of their middles (``y`` per row, ``x`` per column) and their components."""

    y: Numbers
    x: Numbers
    along_x: Numbers
    along_y: Numbers


def arrows(fields: Sequence[Field]) -> Arrows:
    """Return means over blocks as arrows in the units of the axes, at most `ARROWS` per axis.

    The longest (99.9 % quantile) spans one block.
    """
    z, valid = plane(fields)
    z = np.where(valid & np.isfinite(z), z, 0)
    steps = [max(1, -(-n // ARROWS)) for n in z.shape]
    rows, cols = (n // s for n, s in zip(z.shape, steps, strict=True))
    whole = z[: rows * steps[0], : cols * steps[1]]
    blocks = whole.reshape(rows, steps[0], cols, steps[1]).mean(axis=(1, 3))
    _, y, x = extent((fields[0].axes[0], fields[0].axes[1]), (z.shape[0], z.shape[1]))
    at_y = y.offset + y.scale * (np.arange(rows) * steps[0] + (steps[0] - 1) / 2)
    at_x = x.offset + x.scale * (np.arange(cols) * steps[1] + (steps[1] - 1) / 2)
    # the y axis is drawn inverted; the imaginary part of `plane` points up
    step = max(abs(y.scale) * steps[0], abs(x.scale) * steps[1])
    unit = step / brightest(np.abs(blocks))
    return Arrows(at_y, at_x, blocks.real * unit * np.sign(x.scale), -blocks.imag * unit * np.sign(y.scale))


def length(fields: Sequence[Field]) -> Field:
    """Return the length of vectors as a field."""
    z, valid = plane(fields)
    return Field(fields[0].label, np.abs(z), valid, fields[0].axes)


def curves(fields: Sequence[Field]) -> list[tuple[str, Numbers]]:
    """Return labelled curves, NaN where invalid: the columns of a 2-D field, the parts of a complex one."""
    found: list[tuple[str, Numbers]] = []
    for field in fields:
        values = np.where(field.valid, field.values, np.nan)
        columns = values.reshape(values.shape[0], -1).T[:MAX_LINES]
        for i, column in enumerate(columns):
            label = field.label if len(columns) == 1 else f"{field.label} {i}"
            if column.dtype.kind == "c":
                found += [(f"Re {label}", column.real), (f"Im {label}", column.imag)]
            else:
                found.append((label, column))
    return found


def numbers(field: Field) -> str:
    """Return the first values of a field as text, ``-`` for those that are not valid."""
    flat = field.values.reshape(-1)[:6]
    ok = field.valid.reshape(-1)
    words = [f"{v:.6g}" if ok[i] else "-" for i, v in enumerate(flat.tolist())]
    return ", ".join(words) + (" ..." if field.values.size > 6 else "")
