"""The parameters of UDFs as widgets see them: which can be changed, as text and back."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union

from framefold.errors import ParameterError


@dataclass(frozen=True)
class Parameter:
    """One scalar parameter of a UDF.

    Attributes
    ----------
    name
        Keyword.
    value
        When the run began.
    choices
        Allowed texts; empty: any.
    optional
        Whether None is a value; written as an empty text.
    """

    name: str
    value: bool | int | float | str | None
    choices: tuple[str, ...] = ()
    optional: bool = False

    @property
    def text(self) -> str:
        """The value as text."""
        return text_of(self.value)

    def parse(self, text: str) -> bool | int | float | str | None:
        """Return the value that `text` stands for.

        Raises
        ------
        ParameterError
            If it is not one of the choices, or not a number where one is expected.
        """
        word = text.strip()
        if self.choices:
            if word not in self.choices:
                raise ParameterError(f"{self.name}={word!r} is not one of {', '.join(self.choices)}")
            return word
        if not word and self.optional:
            return None
        if isinstance(self.value, bool):
            if word.lower() not in ("true", "false"):
                raise ParameterError(f"{self.name}={word!r} is neither true nor false")
            return word.lower() == "true"
        if isinstance(self.value, str):
            return text
        try:
            number: int | float = int(word) if not isinstance(self.value, float) else float(word)
        except ValueError:
            try:
                number = float(word)
            except ValueError:
                raise ParameterError(f"{self.name}={word!r} is not a number") from None
        if math.isnan(number):
            raise ParameterError(f"{self.name}: nan is not a value")
        return number


def text_of(value: Any) -> str:
    """Return a scalar as the text of its widget."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.10g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def parameters_of(udf: Any) -> list[Parameter]:
    """Return the scalar parameters of a UDF: bool, int, float, text, and None where a number may stand."""
    hints = _hints(type(udf))
    found = []
    for name, value in udf._kwargs.items():
        kinds, choices, optional = _allowed(hints.get(name))
        if isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) < 200):
            plain = value
        elif value is None and kinds & {int, float}:
            plain = None
        else:
            continue  # arrays, functions, aux data
        # a choice between texts and numbers (-1 | "auto") is left to the keyboard
        found.append(Parameter(name, plain, choices if isinstance(plain, str) else (), optional))
    return found


def _hints(cls: type) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(cls.__init__)  # type: ignore[misc]
    except Exception:  # noqa: BLE001  # names that exist for type checkers only: values must do
        return {k: p.annotation for k, p in inspect.signature(cls).parameters.items()}


def _allowed(hint: Any) -> tuple[set[Any], tuple[str, ...], bool]:
    """Return plain types, texts, and whether None is allowed."""
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) or _is_union(hint) else (hint,)
    texts = [a for p in parts if typing.get_origin(p) is Literal for a in typing.get_args(p)]
    plain = {p for p in parts if p in (bool, int, float, str)}
    choices = tuple(texts) if texts and all(isinstance(t, str) for t in texts) and not plain else ()
    return plain, choices, type(None) in parts or None in parts


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) is Union
