"""Ptychography: one iterative UDF, engines that compose to recipes, geometry and positions."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framefold.udfs.ptycho.engines.ap import AP
    from framefold.udfs.ptycho.engines.epie import EPIE
    from framefold.udfs.ptycho.engines.ml import ML
    from framefold.udfs.ptycho.engines.rpie import RPIE
    from framefold.udfs.ptycho.engines.waves import DM, RAAR
    from framefold.udfs.ptycho.half_sets import HalfSets, frc
    from framefold.udfs.ptycho.model import Geometry
    from framefold.udfs.ptycho.positions import ScanPositions
    from framefold.udfs.ptycho.ptychography import Ptychography
    from framefold.udfs.ptycho.recipe import Modes, Recipe

_MODULES = {
    "AP": "engines.ap",
    "DM": "engines.waves",
    "EPIE": "engines.epie",
    "ML": "engines.ml",
    "RAAR": "engines.waves",
    "Geometry": "model",
    "HalfSets": "half_sets",
    "Modes": "recipe",
    "Ptychography": "ptychography",
    "RPIE": "engines.rpie",
    "Recipe": "recipe",
    "ScanPositions": "positions",
    "frc": "half_sets",
}

__all__ = [
    "AP", "DM", "EPIE", "Geometry", "HalfSets", "ML", "Modes", "Ptychography", "RAAR", "RPIE", "Recipe",
    "ScanPositions", "frc",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"framefold.udfs.ptycho.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'framefold.udfs.ptycho' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
