"""Numbers with units on the command line: ``'8 keV'``, ``'3.65 mm'``, ``75um``."""

from __future__ import annotations

import re

from framefold.errors import FramefoldError

EV = 1.602176634e-19
LENGTHS = {
    "m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "μm": 1e-6, "nm": 1e-9, "pm": 1e-12, "A": 1e-10,
    "Å": 1e-10,
}  # fmt: skip
ENERGIES = {"J": 1.0, "eV": EV, "keV": 1e3 * EV, "MeV": 1e6 * EV}
VOLTAGES = {"V": 1.0, "kV": 1e3, "MV": 1e6}
ANGLES = {"rad": 1.0, "mrad": 1e-3, "urad": 1e-6, "µrad": 1e-6}
_NUMBER = re.compile(r"^\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?inf)\s*([A-Za-zµμÅ]*)\s*$")


def quantity(text: str, units: dict[str, float], plain: str) -> float:
    """Return `text` in SI units; a number without a unit counts in `plain`.

    >>> quantity("3.65 mm", LENGTHS, "m"), quantity("inf", LENGTHS, "m"), quantity("200 kV", VOLTAGES, "V")
    (0.00365, inf, 200000.0)

    Raises
    ------
    FramefoldError
        If it is no number, or the unit is none of `units`.
    """
    found = _NUMBER.match(text)
    if found is None:
        raise FramefoldError(f"{text!r} is not a number with a unit, such as '3.65 mm' or '8 keV'")
    number, unit = found.groups()
    if unit and unit not in units:
        raise FramefoldError(f"{text!r}: unit {unit!r} is not one of {', '.join(units)}")
    return float(number) * units[unit or plain]
