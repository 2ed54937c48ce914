"""Whether a UDF can take other parameters while its run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from framefold.errors import ParameterError, did_you_mean
from framefold.udfcore.auxdata import AuxData
from framefold.udfcore.plan import UDFPlan
from framefold.udfcore.planning import declarations
from framefold.udfcore.udf import UDF

_MISSING = object()


def check_patch(udf: UDF, plan: UDFPlan, patch: Mapping[str, Any]) -> None:
    """Refuse names that the UDF does not take, and values that change its buffers."""
    for key, value in patch.items():
        old = udf._kwargs.get(key, _MISSING)
        if old is _MISSING:
            raise ParameterError(
                f"{plan.name} has no parameter {key!r}; there are: {', '.join(udf._kwargs)}."
                f"{did_you_mean(key, udf._kwargs)}"
            )
        if isinstance(old, AuxData) and not isinstance(value, AuxData):
            raise ParameterError(f"{plan.name}: parameter {key!r} is aux data, so must be its new value")
    twin = type(udf)(**{**udf._kwargs, **patch})
    twin.meta = udf.meta
    if declarations(twin, plan.info.input_dtype) != dict(plan.decls):
        raise ParameterError(
            f"{plan.name}: the patch {dict(patch)!r} changes the declared buffers; start a new run"
        )
