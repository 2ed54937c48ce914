"""The algorithms by name, and what runs when nobody says."""

from __future__ import annotations

from typing import Any

from framefold.errors import DataError
from framefold.udfs.ptycho.engines.ap import AP
from framefold.udfs.ptycho.engines.epie import EPIE
from framefold.udfs.ptycho.engines.ml import ML
from framefold.udfs.ptycho.engines.rpie import RPIE
from framefold.udfs.ptycho.engines.waves import DM, RAAR
from framefold.udfs.ptycho.recipe import Engine, Recipe, parse_recipe

ENGINES: dict[str, type[Any]] = {
    "RPIE": RPIE, "AP": AP, "ER": AP, "DM": DM, "RAAR": RAAR, "EPIE": EPIE, "ML": ML
}  # fmt: skip


def as_recipe(recipe: str | Engine | Recipe, modes: int) -> Recipe:
    """Return a `Recipe`; ``"auto"``: 15 RPIE (30 with several modes), then AP until it converges."""
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, str):
        if recipe == "auto":
            return Recipe((RPIE(15 if modes == 1 else 30), AP()))
        return parse_recipe(recipe, ENGINES)
    if not hasattr(recipe, "iterate"):
        raise DataError(
            f"recipe={recipe!r}: give text such as '15 RPIE; 40 AP', an engine, or a product of them"
        )
    return Recipe((recipe,))
