"""What to run, in which order: ``"15 RPIE; 40 AP"``, or ``AP(40) * RPIE(15)``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol, cast

from framefold.errors import UDFError, did_you_mean
from framefold.udfcore.iterative import Pass


class Engine(Protocol):
    """One algorithm, as a frozen value: how often to run it, and its options.

    Attributes
    ----------
    n
        Iterations; None: until nothing changes any more.
    """

    n: int | None

    def iterate(self, job: Any, iteration: int) -> Iterator[Pass]:
        """Do one iteration on the loop state of `job`, a `Ptychography`; they count within the stage."""
        ...


class Composable:
    """Engines multiply like operators: the right one runs first."""

    def __mul__(self, other: Any) -> Recipe:
        return Recipe((cast(Engine, self),)) * other


@dataclass(frozen=True)
class Recipe:
    """Engines in the order in which they run; the modes of the probe may change between them.

    Attributes
    ----------
    stages
        Engines, or changes of settings (`Modes`).
    """

    stages: tuple[Any, ...]

    def __mul__(self, other: Any) -> Recipe:
        before = other.stages if isinstance(other, Recipe) else (other,)
        return Recipe((*before, *self.stages))

    def __str__(self) -> str:
        return "; ".join(_text(s) for s in self.stages)


@dataclass(frozen=True)
class Modes:
    """From here on, so many probe modes."""

    modes: int


def _text(stage: Any) -> str:
    if isinstance(stage, Modes):
        return f"modes={stage.modes}"
    given = [
        f"{f.name}={getattr(stage, f.name)}"
        for f in fields(stage)
        if f.name != "n" and getattr(stage, f.name) != f.default
    ]
    options = f"({', '.join(given)})" if given else ""
    return f"{stage.n} {type(stage).__name__}{options}" if stage.n else f"{type(stage).__name__}{options}"


_STAGE = re.compile(r"^(?:(\d+)\s+)?([A-Za-z]+)\s*(?:\((.*)\))?$")


def parse_recipe(text: str, engines: Mapping[str, type[Any]]) -> Recipe:
    """Return the recipe that `text` describes.

    Stages are separated by ``;`` or ``,`` outside brackets; ``15 RPIE(a=0.05)`` is 15 iterations of an engine
    with an option, ``modes=3`` changes the number of probe modes.

    Raises
    ------
    UDFError
        Naming the part that is not understood, and the nearest engine or option.
    """
    stages: list[Any] = []
    for part in (p.strip() for p in re.split(r"[;,](?![^(]*\))", text)):
        if not part:
            continue
        change = re.fullmatch(r"modes\s*=\s*(\d+)", part)
        if change:
            stages.append(Modes(int(change[1])))
            continue
        found = _STAGE.match(part)
        if found is None:
            raise UDFError(f"recipe: {part!r} is not understood; write for instance '15 RPIE; 40 AP'")
        count, name, options = found.groups()
        known = {key.lower(): cls for key, cls in engines.items()}
        cls = known.get(name.lower())
        if cls is None:
            raise UDFError(
                f"recipe: no engine {name!r}; there are "
                f"{', '.join(engines)}.{did_you_mean(name.upper(), engines)}"
            )
        stages.append(_make(cls, count, options or ""))
    if not any(not isinstance(s, Modes) for s in stages):
        raise UDFError(f"recipe {text!r} has no engine; write for instance '15 RPIE; 40 AP'")
    return Recipe(tuple(stages))


def _make(cls: type[Any], count: str | None, options: str) -> Any:
    values: dict[str, Any] = {} if count is None else {"n": int(count)}
    names = [f.name for f in fields(cls)]
    for item in (o.strip() for o in options.split(",")):
        if not item:
            continue
        key, found, value = (s.strip() for s in item.partition("="))
        if not found or key not in names:
            raise UDFError(
                f"recipe: {cls.__name__} has no option {key!r}; there are {', '.join(names)}."
                f"{did_you_mean(key, names)}"
            )
        values[key] = _value(value)
    return cls(**values)


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    words = {"true": True, "false": False, "none": None}
    return words.get(text.lower(), text)
