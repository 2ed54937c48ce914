"""Detectors that can be dragged: disks, rings and rectangles behind the parameters of UDFs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Outline:
    """A disk, ring or rectangle in pixels of the frame.

    Attributes
    ----------
    form
        ``"round"`` or ``"box"``.
    cy, cx
        Centre.
    a, b
        Round: outer and inner radius. Box: height and width.
    """

    form: str
    cy: float
    cx: float
    a: float
    b: float = 0.0


@dataclass(frozen=True)
class Grip:
    """Which parameters of a UDF an outline stands for.

    Attributes
    ----------
    form
        As of `Outline`.
    center
        One name of a pair (cy, cx), or two names.
    a, b
        Names; `b` may be missing for a disk without a hole.
    """

    form: str
    center: tuple[str, ...]
    a: str
    b: str | None = None

    def names(self) -> tuple[str, ...]:
        """Return all parameters that belong to the outline."""
        return (*self.center, self.a, *((self.b,) if self.b else ()))


_GRIPS = (
    Grip("box", ("cy", "cx"), "height", "width"),
    Grip("round", ("cy", "cx"), "r", "ri"),
    Grip("round", ("cy", "cx"), "r"),
    Grip("round", ("center",), "rad_out", "rad_in"),
    Grip("round", ("center",), "r_max"),
)


def grip_of(udf: Any) -> Grip | None:
    """Return what of a UDF can be dragged, by the names of its parameters; None if nothing can."""
    known = udf._kwargs
    fitting = (g for g in _GRIPS if all(n in known for n in g.names()))
    for grip in fitting:
        shape = known.get("shape", grip.form)
        if shape == "annuli" or (grip.form == "box") != (shape in ("box", "rectangle")):
            continue
        return grip
    return None


def outline_of(grip: Grip, values: Mapping[str, Any], sig: tuple[int, int]) -> Outline:
    """Return the outline for the present parameters; what is None or infinite is cut to the frame."""
    rows, cols = sig
    if len(grip.center) == 1:
        pair = values[grip.center[0]]
        cy, cx = (None, None) if pair is None else pair
    else:
        cy, cx = (values[n] for n in grip.center)
    cy = rows // 2 if cy is None else float(cy)
    cx = cols // 2 if cx is None else float(cx)
    reach = (rows, cols) if grip.form == "box" else (min(rows, cols) / 2, 0.0)

    def size(name: str | None, instead: float) -> float:
        value = None if name is None else values[name]
        return instead if value is None or not math.isfinite(value) else float(value)

    return Outline(grip.form, float(cy), float(cx), size(grip.a, reach[0]), size(grip.b, reach[1]))


def patch_of(grip: Grip, outline: Outline) -> dict[str, Any]:
    """Return the parameters for an outline, to a hundredth of a pixel."""
    numbers = replace(
        outline,
        cy=round(outline.cy, 2), cx=round(outline.cx, 2), a=round(outline.a, 2), b=round(outline.b, 2),
    )  # fmt: skip
    if len(grip.center) == 1:
        patch: dict[str, Any] = {grip.center[0]: (numbers.cy, numbers.cx)}
    else:
        patch = dict(zip(grip.center, (numbers.cy, numbers.cx), strict=True))
    patch[grip.a] = numbers.a
    if grip.b:
        patch[grip.b] = numbers.b
    return patch


def sound(outline: Outline) -> bool:
    """Tell whether numbers from a browser make an outline that a UDF can take."""
    values = (outline.cy, outline.cx, outline.a, outline.b)
    if not all(math.isfinite(v) and abs(v) < 1e6 for v in values):
        return False
    if outline.form == "box":
        return outline.a > 0 and outline.b > 0
    return 0 <= outline.b < outline.a
