"""What a worker answers when it has no partial result: errors travel as values."""

from __future__ import annotations

import pickle
import traceback
from dataclasses import dataclass
from typing import Any

from framefold.errors import UDFError


@dataclass(frozen=True, slots=True)
class Missing:
    """Answer: this process does not know the plan, for instance because it is new."""


@dataclass(frozen=True, slots=True)
class CannotLoad:
    """Answer: what was sent cannot be unpickled here; `module` cannot be imported, if that is the reason."""

    module: str
    text: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Answer: an exception. It travels as a value, so that its type, notes and traceback arrive unchanged.

    Attributes
    ----------
    pickled
        The exception, or None if it cannot be pickled.
    frames
        Its traceback as plain values.
    text
        Everything as text.
    """

    pickled: bytes | None
    frames: Any
    text: str


def cannot_load(exc: Exception) -> CannotLoad:
    """Say why something could not be unpickled."""
    name = exc.name if isinstance(exc, ImportError) else None
    return CannotLoad(name or "", f"{type(exc).__name__}: {exc}")


def as_failure(exc: BaseException) -> Failure:
    """Pack an exception so that the head can raise it as it was."""
    import cloudpickle  # noqa: PLC0415  # comes with dask
    import tblib  # noqa: PLC0415  # comes with dask

    text = "".join(traceback.format_exception(exc))
    # without the frames of this file
    inner = exc.__traceback__.tb_next if exc.__traceback__ is not None else None
    frames = tblib.Traceback(inner).to_dict() if inner is not None else None
    try:
        pickled = cloudpickle.dumps(exc)
        pickle.loads(pickled)  # noqa: S301  # our own: classes with odd constructors fail here, not on the head
    except Exception:  # noqa: BLE001  # whatever user classes raise
        pickled = None
    return Failure(pickled, frames, text)


def rebuild(failure: Failure) -> BaseException | None:
    """Return the exception of a worker with its traceback, or None if only its text is left."""
    import tblib  # noqa: PLC0415  # comes with dask

    if failure.pickled is None:
        return None
    try:
        exc = pickle.loads(failure.pickled)  # noqa: S301  # from our own worker
    except Exception:  # noqa: BLE001  # a class that only the worker knows
        return None
    if not isinstance(exc, BaseException):
        return None
    if failure.frames is not None:
        exc = exc.with_traceback(tblib.Traceback.from_dict(failure.frames).as_traceback())
    return exc


def raise_failure(failure: Failure, worker: str) -> None:
    """Raise what user code raised on a worker, with its own type."""
    exc = rebuild(failure)
    if exc is None:
        raise UDFError(f"an exception on worker {worker} cannot be rebuilt here; it was:\n{failure.text}")
    raise exc
