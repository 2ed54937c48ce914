"""The facade through which users run reductions."""

from framefold.context.facade import Context

__all__ = ["Context"]
