"""UDF objects that are part of a run: the same object in two runs at once would share its views."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

from framefold.errors import UDFError
from framefold.udfcore.udf import UDF

_HOLD_LOCK = threading.Lock()
_HELD: set[int] = set()  # by identity, so that a copy made in mid-run is free


def hold(udfs: Sequence[UDF]) -> contextlib.ExitStack:
    """Mark UDF objects as running until the returned stack is closed."""
    stack = contextlib.ExitStack()
    for udf in udfs:
        if not isinstance(udf, UDF):
            stack.close()
            hint = f"{udf.__name__}()" if isinstance(udf, type) else "an object of a UDF subclass"
            raise UDFError(f"expected a UDF, got {udf!r}: pass {hint}, or use ctx.map for a function")
        with _HOLD_LOCK:
            if id(udf) in _HELD:
                stack.close()
                raise UDFError(f"this {type(udf).__name__} object is already part of a run: use udf.copy()")
            _HELD.add(id(udf))
        stack.callback(_HELD.discard, id(udf))
    return stack
