"""Physical quantities of a geometry: numbers with units such as ``'8 keV'``, and whether they can be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from numbers import Real
from typing import Any

from framefold.errors import DataError
from framefold.udfcore.units import ANGLES, ENERGIES, LENGTHS, VOLTAGES

Quantity = float | str

_NUMBER = re.compile(r"^\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?inf)\s*([A-Za-zµμÅ]*)\s*$")


@dataclass(frozen=True)
class Kind:
    """A quantity: its units, the SI one, and between which values a plain number is believed."""

    units: dict[str, float]
    si: str
    low: float
    high: float
    option: str


# wide: what no instrument has; the sizes that are mistaken are mistaken by factors of 1000
KINDS = {
    "energy": Kind(ENERGIES, "J", 1e-20, 1e-12, "--energy '8 keV'"),
    "wavelength": Kind(LENGTHS, "m", 1e-13, 1e-5, "--wavelength '0.15 nm'"),
    "voltage": Kind(VOLTAGES, "V", 1e3, 1e7, "--voltage '200 kV'"),
    "distance": Kind(LENGTHS, "m", 1e-4, 200.0, "--distance '2 m'"),
    "focus_distance": Kind(LENGTHS, "m", 1e-7, 1e3, "--focus-distance '3.65 mm'"),
    "detector_pixel": Kind(LENGTHS, "m", 1e-7, 1e-2, "--detector-pixel '75 um'"),
    "angle_per_pixel": Kind(ANGLES, "rad", 1e-7, 0.1, "--angle-per-pixel '0.5 mrad'"),
    "defocus": Kind(LENGTHS, "m", 0.0, 0.1, "--defocus '2 um'"),
}


def quantity(text: str, units: dict[str, float], plain: str | None) -> float:
    """Return `text` in SI units; a number without a unit counts in `plain`, None refuses it.

    >>> quantity("3.65 mm", LENGTHS, "m"), quantity("inf", LENGTHS, "m"), quantity("200 kV", VOLTAGES, "V")
    (0.00365, inf, 200000.0)

    Raises
    ------
    DataError
        If it is no number, or the unit is none of `units`.
    """
    found = _NUMBER.match(text)
    if found is None:
        raise DataError(f"{text!r} is not a number with a unit, such as '3.65 mm' or '8 keV'")
    number, unit = found.groups()
    if unit and unit not in units:
        raise DataError(f"{text!r}: unit {unit!r} is not one of {', '.join(units)}")
    if not unit and plain is None and "inf" not in number:
        raise DataError(f"{text!r} has no unit: add one of {', '.join(units)}")
    return float(number) * units[unit or plain or next(iter(units))]


def in_si(name: str, value: Any) -> float:
    """Return the quantity `name` of `KINDS` in SI units, from a number or from text with a unit.

    Text is taken at its word; a plain number must be one that an instrument may have.

    Raises
    ------
    DataError
        If it is neither, not positive, or off by orders of magnitude; says what was probably meant.
    """
    kind = KINDS[name]
    if isinstance(value, str):
        try:
            out = quantity(value, kind.units, None)
        except DataError as exc:
            raise DataError(f"geometry: {name}={exc}") from None
        _positive(name, out, value)
        return out
    if isinstance(value, bool) or not isinstance(value, Real):
        raise DataError(
            f"geometry: {name}={value!r} is not a number in {kind.si}, nor text with a unit such as "
            + kind.option.split(" ", 1)[1]
        )
    out = float(value)
    _positive(name, out, value)
    meant = doubts(name, out)
    if meant:
        raise DataError(
            f"geometry: {name}={value} cannot be meant: plain numbers are in {kind.si}. Write it with its "
            f"unit, {meant}"
        )
    return out


def believed(name: str, value: float | None, wrong: list[str]) -> float | None:
    """Return `value` of a file, in SI units; None, and a sentence more in `wrong`, if it cannot be."""
    if value is None or not value > 0:
        return None
    meant = doubts(name, value)
    if not meant:
        return value
    kind = KINDS[name]
    option = kind.option.split(" ", 1)[0]
    wrong.append(f"{name}: {value:.4g} {kind.si}; give it with its unit, {option} {meant} ({name}=)")
    return None


def doubts(name: str, value: float) -> str:
    """Return what may be meant where `value`, in SI units, cannot be; empty: it can.

    >>> doubts("detector_pixel", 75.0), doubts("detector_pixel", 75e-6)
    ("'75 um'", '')
    """
    kind = KINDS[name]
    size = abs(value)
    if size in (0.0, float("inf")) or kind.low <= size <= kind.high:
        return ""
    meant: dict[float, str] = {}
    for unit, factor in kind.units.items():
        if kind.low <= size * factor <= kind.high:
            meant.setdefault(factor, f"'{value:g} {unit}'")
    return " or ".join(meant.values()) or f"for instance {kind.option.split(' ', 1)[1]}"


def _positive(name: str, value: float, given: Any) -> None:
    if name == "defocus":
        good = abs(value) < float("inf")
    else:
        good = value > 0 and (value < float("inf") or name == "focus_distance")
    if not good:
        what = "finite" if name == "defocus" else "a positive number"
        raise DataError(f"geometry: {name}={given} must be {what}")
