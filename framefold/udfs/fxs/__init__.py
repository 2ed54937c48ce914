"""Fluctuation X-ray scattering: geometry, polar regridding, angular correlations, invariants."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framefold.udfs.fxs.build import build_operator
    from framefold.udfs.fxs.c2 import C2UDF
    from framefold.udfs.fxs.c2_result import Correlation
    from framefold.udfs.fxs.centre import refine_centre
    from framefold.udfs.fxs.geometry import Geometry
    from framefold.udfs.fxs.grid import PolarGrid
    from framefold.udfs.fxs.pixels import PixelModel
    from framefold.udfs.fxs.polar_regrid import PolarRegrid
    from framefold.udfs.fxs.regrid import PolarOperator
    from framefold.udfs.fxs.scores import ScoreUDF
    from framefold.udfs.fxs.shots import ShotScale, Veto, VetoCode

_MODULES = {
    "C2UDF": "c2",
    "Correlation": "c2_result",
    "Geometry": "geometry",
    "PixelModel": "pixels",
    "PolarGrid": "grid",
    "PolarOperator": "regrid",
    "PolarRegrid": "polar_regrid",
    "ScoreUDF": "scores",
    "ShotScale": "shots",
    "Veto": "shots",
    "VetoCode": "shots",
    "build_operator": "build",
    "refine_centre": "centre",
}

__all__ = [
    "C2UDF", "Correlation", "Geometry", "PixelModel", "PolarGrid", "PolarOperator", "PolarRegrid", "ScoreUDF",
    "ShotScale", "Veto", "VetoCode", "build_operator", "refine_centre",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"framefold.udfs.fxs.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'framefold.udfs.fxs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
