"""The parameters of a UDF as user code sees them: ``self.params.name``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from framefold.errors import ParameterError, UnknownBufferError, did_you_mean


class Namespace:
    """Read-only attributes that the engine rebinds through ``vars(namespace)``."""

    __slots__ = ("__dict__", "_what")

    def __init__(self, what: str, values: Mapping[str, Any] | None = None) -> None:
        object.__setattr__(self, "_what", what)
        self.__dict__.update(values or {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        known = ", ".join(self.__dict__) or "none"
        raise UnknownBufferError(
            f"no {self._what} {name!r}; there are: {known}.{did_you_mean(name, self.__dict__)}"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        raise ParameterError(f"the {self._what} {name!r} is read-only inside a UDF")

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in self.__dict__

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value called `name`, or `default`."""
        return self.__dict__.get(name, default)

    def keys(self) -> Iterable[str]:
        """Return the names."""
        return self.__dict__.keys()

    def items(self) -> Iterable[tuple[str, Any]]:
        """Return pairs of name and value."""
        return self.__dict__.items()

    def __reduce__(self) -> tuple[Any, ...]:
        return (Namespace, (self._what, dict(self.__dict__)))

    def __repr__(self) -> str:
        return f"<{self._what}s: {', '.join(self.__dict__)}>"
