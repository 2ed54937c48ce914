"""Parameters of a reconstruction that make no sense, refused before anything is read."""

from __future__ import annotations

from typing import Any

from framefold.errors import UDFError
from framefold.udfs.ptycho.engines.epie import EPIE
from framefold.udfs.ptycho.recipe import Recipe
from framefold.udfs.ptycho.schedule import check_schedule


def check_parameters(params: Any, recipe: Recipe) -> None:
    """Do nothing if the parameters of a `Ptychography` make sense.

    Raises
    ------
    UDFError
        Saying what was given, and what may be.
    """
    if params.orientation not in ("given", "auto"):
        raise UDFError(
            f"orientation={params.orientation!r} is not 'given' or 'auto'; ScanPositions(flip=...) states one"
        )
    if params.precision not in ("single", "double"):
        raise UDFError(f"precision={params.precision!r} is not 'single' or 'double'")
    if params.backend not in ("cpu", "numpy", "cupy"):
        raise UDFError(f"backend={params.backend!r} is not 'cpu', 'numpy' or 'cupy'")
    if not 0 <= params.free_pixels < 0.5:
        raise UDFError(f"free_pixels={params.free_pixels} must be in [0, 0.5), a share of the pixels")
    if params.free_pixels and isinstance(params.background, str):
        raise UDFError(
            "free_pixels: a background that is estimated is not known where the fit sees nothing; "
            "give one, or leave free_pixels at 0"
        )
    if params.free_pixels and any(isinstance(stage, EPIE) for stage in recipe.stages):
        raise UDFError("free_pixels: EPIE takes frame after frame; use RPIE, which does what it does")
    check_schedule(params.schedule, recipe, bool(params.refine_positions))
    if params.half not in (None, 0, 1):
        raise UDFError(f"half={params.half!r} is not 0, 1 or None")
    if params.modes < 1 or params.object_modes < 1:
        raise UDFError(f"modes={params.modes} and object_modes={params.object_modes} must be at least 1")
