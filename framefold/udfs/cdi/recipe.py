"""Recipes as text: ``ER**100*(Sup*ER**50*HIO**200)**5``."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping
from typing import Any

from framefold.errors import DataError, did_you_mean
from framefold.udfs.cdi.algebra import Operator, Product, product
from framefold.udfs.cdi.algorithms import ASR, DM, ER, HIO, HPR, RAAR, SF, ChargeFlip
from framefold.udfs.cdi.coherence import EstimatePSF
from framefold.udfs.cdi.likelihood import LLK
from framefold.udfs.cdi.maximum_likelihood import ML
from framefold.udfs.cdi.prepare import FreePixels, InterpMask, RandomObject, ScaleObj, Upsample
from framefold.udfs.cdi.save import Save
from framefold.udfs.cdi.support import AutoCorrelationSupport, Detwin, SupportUpdate
from framefold.udfs.cdi.transforms import FT, IFT, ApplyAmplitude, ERProj, FourierApplyAmplitude

_CLASSES: tuple[type[Operator], ...] = (
    ER, SF, HIO, ASR, HPR, RAAR, DM, ChargeFlip, ML, SupportUpdate, AutoCorrelationSupport, Detwin,
    FreePixels, InterpMask, ScaleObj, RandomObject, Upsample, EstimatePSF, LLK, Save,
    FT, IFT, ApplyAmplitude, ERProj,
)  # fmt: skip
#: Names that recipes know; `Sup`, `CF` and `PSF` are short for longer ones.
OPERATORS: Mapping[str, Any] = {
    **{c.__name__: c for c in _CLASSES},
    "Sup": SupportUpdate, "CF": ChargeFlip, "PSF": EstimatePSF, "Identity": Product,
    "FourierApplyAmplitude": FourierApplyAmplitude,
}  # fmt: skip


def parse(text: str, operators: Mapping[str, Any] = OPERATORS) -> Operator:
    """Return the operator that a recipe stands for; ``parse(str(op)) == op``.

    ``*`` multiplies, ``**n`` repeats, the last factor acts first. Parameters by name: ``HIO(beta=0.8)``;
    values are numbers, quoted text, True, False, None and tuples of these. Nothing is evaluated as code.

    Raises
    ------
    DataError
        For unknown names (with the nearest known), wrong parameters, or other grammar, with the place.

    Examples
    --------
    >>> parse("ER**100 * (Sup * ER**50 * HIO**200)**5")
    ER**100*(SupportUpdate*ER**50*HIO**200)**5
    >>> parse("Sup(sigma=(3, 1, 400))*HIO(beta=0.8)").factors[1].beta
    0.8
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as exc:
        raise DataError(f"recipe {text!r}: not readable at column {exc.offset}: {exc.msg}") from exc
    return _operator(tree.body, text, operators)


def _operator(node: ast.expr, text: str, operators: Mapping[str, Any]) -> Operator:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return product(_operator(node.left, text, operators), _operator(node.right, text, operators))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        n = node.right.value if isinstance(node.right, ast.Constant) else None
        if isinstance(n, bool) or not isinstance(n, int):
            raise DataError(
                f"recipe {text!r}: {_source(node.right, text)!r} is not a whole number of repetitions"
            )
        return _operator(node.left, text, operators) ** n
    if isinstance(node, ast.Name):
        return _made(node.id, {}, operators, text)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.args or any(k.arg is None for k in node.keywords):
            raise DataError(
                f"recipe {text!r}: parameters of {node.func.id} go by name: {node.func.id}(name=value)"
            )
        given = {str(k.arg): _value(k.value, text) for k in node.keywords}
        return _made(node.func.id, given, operators, text)
    raise DataError(f"recipe {text!r}: {_source(node, text)!r} is not an operator, a product or a power")


def _made(name: str, given: dict[str, Any], operators: Mapping[str, Any], text: str) -> Operator:
    if name not in operators:
        raise DataError(
            f"recipe {text!r}: no operator {name!r}.{did_you_mean(name, operators)} "
            f"There are: {', '.join(operators)}"
        )
    found = operators[name]
    if isinstance(found, Operator):
        if given:
            raise DataError(f"recipe {text!r}: {name} has no parameters")
        return found
    names = [f.name for f in dataclasses.fields(found) if f.init and f.name != "factors"]
    for key in given:
        if key not in names:
            listed = ", ".join(names) or "none"
            raise DataError(
                f"recipe {text!r}: {name} has no parameter {key!r}.{did_you_mean(key, names)} "
                f"Parameters: {listed}"
            )
    try:
        made: Operator = found(**given)
    except TypeError as exc:
        raise DataError(f"recipe {text!r}: {exc}") from exc
    return made


def _value(node: ast.expr, text: str) -> Any:
    try:
        value = ast.literal_eval(node)
    except ValueError as exc:
        raise DataError(
            f"recipe {text!r}: {_source(node, text)!r} is not a number, quoted text, True, False, None "
            "or a tuple"
        ) from exc
    return tuple(value) if isinstance(value, list) else value


def _source(node: ast.expr, text: str) -> str:
    return ast.get_source_segment(text.strip(), node) or "?"
