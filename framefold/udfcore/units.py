"""Units by name, as factors to SI: one table for files, positions and options."""

from __future__ import annotations

EV = 1.602176634e-19  # J, exact

LENGTHS = {
    "m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "μm": 1e-6, "nm": 1e-9, "pm": 1e-12, "A": 1e-10,
    "Å": 1e-10,
}  # fmt: skip
# spellings that files have besides
MORE_LENGTHS = {**LENGTHS, "micron": 1e-6, "angstrom": 1e-10}
ENERGIES = {"J": 1.0, "eV": EV, "keV": 1e3 * EV, "MeV": 1e6 * EV}
VOLTAGES = {"V": 1.0, "kV": 1e3, "MV": 1e6}
ANGLES = {"rad": 1.0, "mrad": 1e-3, "urad": 1e-6, "µrad": 1e-6}
TIMES = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
