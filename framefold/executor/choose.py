"""Which executor the arguments of `Context` mean."""

from __future__ import annotations

import os
import sys
from typing import Any

from framefold.errors import ExecutorError, did_you_mean
from framefold.executor.base import Executor
from framefold.executor.inline import InlineExecutor
from framefold.executor.local import LocalExecutor

_EXECUTORS = ("inline", "threads", "dask")


def make_executor(where: Any, workers: int | None, executor: Any, threads_per_worker: int | None) -> Executor:
    """Return the executor for ``Context(where, workers=, executor=, threads_per_worker=)``.

    Raises
    ------
    ExecutorError
        For a name that is not known, fewer than one worker, or options that contradict one another.
    """
    if isinstance(where, str) and where in _EXECUTORS:
        where, executor = None, where
    if executor is not None and not isinstance(executor, str):
        return executor  # the user's own
    if executor is not None and executor not in _EXECUTORS:
        raise ExecutorError(
            f"executor={executor!r} is not one of {', '.join(map(repr, _EXECUTORS))}."
            f"{did_you_mean(executor, _EXECUTORS)}"
        )
    if executor in ("inline", "threads") and where is not None:
        raise ExecutorError(f"executor={executor!r} runs in this process: leave it out, or {where!r}")
    if executor == "inline":
        if (workers or 1) > 1 or (threads_per_worker or 1) > 1:
            raise ExecutorError("executor='inline' has one lane: leave out workers= and threads_per_worker=")
        return InlineExecutor()
    if executor == "threads" and workers is not None and threads_per_worker is not None:
        raise ExecutorError("executor='threads' is one process: give its threads as workers= alone")
    address = os.environ.get("DASK_SCHEDULER_ADDRESS") if where is None and workers is None else None
    if executor == "threads" or (
        where is None and workers is None and executor is None and not address and not _active_client()
    ):
        return LocalExecutor(threads_per_worker if workers is None else workers)
    if workers is not None and workers < 1:
        raise ExecutorError(f"workers must be at least 1, got {workers}")
    from framefold.executor.dask import DaskExecutor  # noqa: PLC0415  # dask is imported only here

    client = where if where is not None else (_active_client() or address if workers is None else None)
    return DaskExecutor(client, workers=workers, threads_per_worker=threads_per_worker)


def _active_client() -> Any:
    """Return the client that the user made, without importing dask."""
    if "distributed" not in sys.modules:
        return None
    from distributed.client import _get_global_client  # noqa: PLC0415

    return _get_global_client()
