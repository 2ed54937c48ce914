"""What a UDF wants drawn: plain values that `plot` and `web` turn into pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from framefold.udfcore.metadata import Axis

Drawing = Literal["image", "line", "vectors", "hue-phase", "table"]


@dataclass(frozen=True, slots=True)
class PlotSpec:
    """One picture.

    Attributes
    ----------
    kind
        ``"image"``: a 2-D result; ``"line"``: a 1-D one; ``"vectors"``: two 2-D results (y, x);
        ``"hue-phase"``: a complex 2-D result or two (y, x), angle as hue and length as brightness;
        ``"table"``: a few numbers.
    results
        Names of the results drawn.
    title
        Above the picture; empty: the names.
    cmap
        Matplotlib name; empty: ``"viridis"``, or a symmetric diverging map where `symmetric`.
    scale
        ``"linear"``, ``"log"`` or ``"sqrt"``.
    symmetric
        Limits symmetric about zero.
    units
        Of the values.
    axes
        Of the dimensions of a result that has none, such as one of kind ``single``.
    """

    kind: Drawing
    results: tuple[str, ...]
    title: str = ""
    cmap: str = ""
    scale: Literal["linear", "log", "sqrt"] = "linear"
    symmetric: bool = False
    units: str = ""
    axes: tuple[Axis, ...] = ()
