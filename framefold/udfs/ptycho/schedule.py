"""When object, probe and positions are refined, and when they stand still."""

from __future__ import annotations

from collections.abc import Sequence

from framefold.errors import UDFError, did_you_mean
from framefold.udfs.ptycho.recipe import Modes, Recipe

Entry = tuple[int, int | None, str, bool]
FACTORS = ("probe", "object", "positions")
STILL_OBJECT = ("AP", "RPIE")  # engines that know it


def moves(schedule: Sequence[Entry], what: str, iteration: int, otherwise: bool = True) -> bool:
    """Return whether `what` is refined in an iteration, counted from 0.

    >>> moves([(0, 10, "probe", False)], "probe", 9), moves([(0, 10, "probe", False)], "probe", 10)
    (False, True)
    """
    for start, stop, name, value in reversed(schedule):
        if name == what and start <= iteration and (stop is None or iteration < stop):
            return value
    return otherwise


def check_schedule(schedule: Sequence[Entry], recipe: Recipe, refines_positions: bool) -> None:
    """Refuse entries that are no entries, or that nothing would heed.

    Raises
    ------
    UDFError
        Naming the entry.
    """
    for entry in schedule:
        if not isinstance(entry, (tuple, list)) or len(entry) != 4:
            raise UDFError(f"schedule: {entry!r} is not (start, stop, what, moves)")
        start, stop, what, value = entry
        if what not in FACTORS:
            names = ", ".join(FACTORS)
            raise UDFError(f"schedule: no {what!r}; there are {names}.{did_you_mean(str(what), FACTORS)}")
        if start < 0 or (stop is not None and stop <= start) or not isinstance(value, bool):
            raise UDFError(
                f"schedule: {entry!r} needs 0 <= start < stop, iterations counted from 0, and True or False"
            )
        if what == "positions" and not refines_positions:
            raise UDFError("schedule: positions are refined only with refine_positions=")
        names_of_stages = [type(s).__name__ for s in recipe.stages if not isinstance(s, Modes)]
        others = [n for n in names_of_stages if n not in STILL_OBJECT]
        if what == "object" and not value and others:
            raise UDFError(f"schedule: {others[0]} always moves the object; AP and RPIE can leave it")
