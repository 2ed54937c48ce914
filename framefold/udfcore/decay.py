"""Results that forget: sums and means whose older frames count less and less, as exp(-age / tau)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from framefold.errors import ParameterError
from framefold.udfcore.buffers import BufferDecl


def faded(tau: float, seconds: float) -> float:
    """Return the weight after some seconds, ``exp(-seconds / tau)``."""
    return math.exp(-seconds / tau)


def check_decays(tau: float, udf: str, decls: Mapping[str, BufferDecl]) -> None:
    """Check that all results of a UDF over frames can forget.

    Raises
    ------
    ParameterError
        Naming the buffer and the mend, if one cannot.
    """
    for name, decl in decls.items():
        if decl.use == "result_only" or decl.kind == "nav":
            continue
        if decl.reduce is None:
            why = "is joined by merge: declare reduce='sum' or 'mean'"
        elif decl.reduce not in ("sum", "mean"):
            why = f"has reduce={decl.reduce!r}, which has no weights: declare reduce='sum' or 'mean'"
        elif decl.dtype.kind not in "fc":
            why = (
                f"holds {decl.dtype}, and weighted sums are no integers: declare a float dtype (MeanUDF has "
                "one, SumUDF sums integers exactly)"
            )
        else:
            continue
        raise ParameterError(
            f"{udf}: decay={tau:g} cannot weight the frames in buffer {name!r}: it {why}, "
            "or use restart_every="
        )
