"""Calibrated axes on pictures: extents in readable units."""

from __future__ import annotations

from dataclasses import dataclass

from framefold.udfcore.metadata import Axis

_PREFIXES = tuple(
    (10.0 ** (12 - 3 * i), prefix) for i, prefix in enumerate(("T", "G", "M", "k", "", "m", "µ", "n", "p"))
)
_SCALED = ("m", "s", "rad", "V", "eV", "A", "Hz", "J")


@dataclass(frozen=True)
class Ruler:
    """An axis in readable units: pixel `i` lies at ``offset + scale * i``."""

    name: str
    scale: float
    offset: float
    units: str

    @property
    def label(self) -> str:
        """For the axis of a picture."""
        if self.name in ("frame", "iteration", "order") and self.units == "px":
            return self.name  # a count
        return f"{self.name} ({self.units})" if self.name else self.units


def ruler(axis: Axis, n: int) -> Ruler:
    """Return `axis` of `n` samples with an SI prefix that gives numbers between 1 and 1000.

    Reciprocal metres become 1/nm, 1/um and so on. Units that are not SI base units stay as they are.
    """
    scale = axis.scale or 1.0
    reach = max(abs(axis.offset), abs(axis.offset + scale * max(n - 1, 1)))
    units = axis.units or "px"
    factor = 1.0
    if units in _SCALED and reach > 0:
        size, prefix = next(((s, p) for s, p in _PREFIXES if reach >= s), _PREFIXES[-1])
        factor, units = 1 / size, prefix + units
    elif units in ("1/m", "m^-1", "m-1") and reach > 0:
        size, prefix = next(((s, p) for s, p in reversed(_PREFIXES) if reach * s >= 1), _PREFIXES[0])
        factor, units = size, f"1/{prefix}m"
    return Ruler(axis.name, scale * factor, axis.offset * factor, units)


Box = tuple[float, float, float, float]


def extent(axes: tuple[Axis, Axis], shape: tuple[int, int]) -> tuple[Box, Ruler, Ruler]:
    """Return (left, right, bottom, top) of an image whose row 0 is on top, and its rulers (y, x).

    Pixel centres lie on the calibrated values, so the edges are half a pixel out.
    """
    y, x = ruler(axes[0], shape[0]), ruler(axes[1], shape[1])
    left, right = x.offset - x.scale / 2, x.offset + x.scale * (shape[1] - 0.5)
    top, bottom = y.offset - y.scale / 2, y.offset + y.scale * (shape[0] - 0.5)
    return (left, right, bottom, top), y, x


def aspect(shape: tuple[int, int], y: Ruler, x: Ruler) -> str:
    """Return the aspect of a picture: true to scale, unless that would be a thin strip or units differ."""
    ratio = abs(y.scale * shape[0]) / abs(x.scale * shape[1])
    return "equal" if y.units == x.units and 1 / 5 <= ratio <= 5 else "auto"
