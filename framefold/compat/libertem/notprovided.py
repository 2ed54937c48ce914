"""The error for names that the shim lacks."""

from __future__ import annotations

from framefold.errors import CompatError


class NotProvided(CompatError, ImportError):
    """A module or name of LiberTEM that the shim does not have.

    An `ImportError` too, so that code which treats the name as optional goes on without it.
    """

    def __init__(self, name: str, hint: str = "") -> None:
        super().__init__(f"{name} is not provided by framefold.compat.libertem.{hint}")
        self.name = name
