"""The one exception tree.

::

    FramefoldError
    ├── DataError(ValueError)            a file, array or shape is not what was asked for
    ├── UDFError                         a UDF is written or used wrongly
    │   ├── MissingMergeError(NotImplementedError)
    │   ├── UnknownBufferError(AttributeError, KeyError)
    │   ├── InvalidMaskError
    │   └── ParameterError(TypeError)
    ├── StreamError                      a live stream broke its protocol or did not arrive
    ├── ConvergenceError                 an iterative reduction diverged
    ├── CompatError                      the LiberTEM shim lacks a name
    ├── ExecutorError                    the machinery that runs folds failed
    │   └── WorkerLost
    └── UDFRunCancelled                  the user stopped the run

An exception raised inside user code keeps its own type; `annotate` adds where it happened.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class FramefoldError(Exception):
    """Base of all errors that framefold raises on purpose."""


class DataError(FramefoldError, ValueError):
    """A file, array or shape is not what was asked for."""


class UDFError(FramefoldError):
    """A UDF is written or used wrongly."""


class MissingMergeError(UDFError, NotImplementedError):
    """A ``sig`` or ``single`` buffer has neither ``reduce=`` nor a ``merge`` method."""


class UnknownBufferError(UDFError, AttributeError, KeyError):
    """A result buffer, parameter or option name that was never declared."""

    __str__ = Exception.__str__  # KeyError would show the repr of the message


class InvalidMaskError(UDFError):
    """The mask given to ``with_mask`` does not fit its data."""


class ParameterError(UDFError, TypeError):
    """UDF parameters that the constructor does not take, or that cannot be sent to workers."""


class StreamError(FramefoldError):
    """A live stream broke its protocol, or did not arrive; `partial` holds the last snapshot, or None."""

    partial: Any = None


class ConvergenceError(FramefoldError):
    """An iterative reduction diverged."""


class CompatError(FramefoldError):
    """A name of another package that the compatibility layer does not provide."""


class ExecutorError(FramefoldError):
    """The machinery that runs folds failed; `partial` holds the last snapshot of the run, or None."""

    partial: Any = None


class WorkerLost(ExecutorError):
    """A partition killed its worker more often than ``retries`` allows."""


class UDFRunCancelled(FramefoldError):
    """The run was cancelled; `partial` holds the last snapshot, or None."""

    partial: Any = None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest of `known`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def annotate(exc: BaseException, note: str, **where: Any) -> None:
    """Say where `exc` happened: `note` is shown below its message, `where` kept as ``exc.framefold``.

    Called once per exception: the innermost caller knows best.
    """
    if hasattr(exc, "framefold"):
        return
    exc.framefold = where  # type: ignore[attr-defined]  # any exception type of the user's
    exc.add_note("  " + note)
