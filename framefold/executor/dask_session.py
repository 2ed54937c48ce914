"""Sessions on dask workers: the object lives in the worker process, control goes beside the task queue."""

from __future__ import annotations

import asyncio
import pickle
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from framefold.errors import ExecutorError
from framefold.executor.base import Session
from framefold.executor.dask_answers import CannotLoad, Failure, as_failure, cannot_load, raise_failure
from framefold.executor.dask_payload import dumps, modules_for
from framefold.executor.session import LocalSession

if TYPE_CHECKING:
    from framefold.executor.dask_connected import Connected

WAIT_SECONDS = 30.0


class WorkerGone(ExecutorError):
    """The worker of a session does not answer any more."""


class DaskSession:
    """The handle of one session object on a worker."""

    def __init__(self, cluster: Connected, worker: str, name: str, ident: str) -> None:
        self._cluster = cluster
        self._worker = worker
        self._name = name
        self._ident = ident
        self._closed = False

    @property
    def host(self) -> str:
        """Address of the worker's machine."""
        return self._worker.rpartition("://")[2].rpartition(":")[0]

    def call(self, method: str, *args: Any) -> Any:
        """Run a method of the object where it lives and return what it returns.

        Raises
        ------
        ExecutorError
            If the worker is gone; sessions have state and are not started again elsewhere.
        """
        if self._closed:
            raise ExecutorError(f"session.call({method!r}): the session is closed")
        for _ in range(3):
            answer = self._ask(_call, self._ident, method, dumps(args, self._cluster.by_value))
            if not isinstance(answer, CannotLoad):
                return answer
            have = self._cluster.by_value
            modules = [m for m in modules_for(answer.module, _parts(args)) if m not in have]
            if not modules:
                break
            have.extend(modules)
        raise ExecutorError(f"worker {self._name} cannot load the arguments: {answer.text}")

    def close(self) -> None:
        """Close the object and forget it; nothing happens if its worker is gone."""
        if self._closed:
            return
        self._closed = True
        if not self._cluster.lost() and self._worker in self._cluster.workers():
            with suppress(WorkerGone):
                self._ask(_close, self._ident)

    def _ask(self, fn: Callable[..., Any], *args: Any) -> Any:
        try:
            answer = self._cluster.call_on(self._worker, fn, *args)
        except (OSError, KeyError) as exc:
            raise WorkerGone(
                self._cluster.lost() or f"worker {self._name} is gone, and the session on it: open a new one"
            ) from exc
        if isinstance(answer, Failure):
            raise_failure(answer, self._name)
        return answer

    def __repr__(self) -> str:
        return f"<DaskSession on worker {self._name}>"


def _parts(args: tuple[Any, ...]) -> list[Any]:
    """Return the arguments, and of plans the classes of their UDFs: what may need its module."""
    return [*args, *(p.cls for a in args for p in getattr(a, "udfs", ()))]


def open_sessions(cluster: Connected, factory: Callable[[int], Any], n: int | None) -> list[Session]:
    """Make ``factory(rank)`` on `n` different workers.

    Raises
    ------
    ExecutorError
        If there are not enough workers after 30 s.
    """
    workers = wait_for(cluster, n)
    sessions: list[Session] = []
    try:
        for rank, worker in enumerate(workers):
            sessions.append(open_session_on(cluster, factory, worker, rank))  # those must be closed
    except BaseException:
        for session in sessions:
            session.close()
        raise
    return sessions


def open_session_at(
    cluster: Connected, factory: Callable[[int], Any], where: str | None, timeout: float | None, rank: int = 0
) -> DaskSession:
    """Make ``factory(rank)`` on the worker of a name or on a host; None: on the first worker.

    Raises
    ------
    ExecutorError
        Listing the workers, if there is none such within `timeout` seconds.
    """
    if where is None:
        return open_session_on(cluster, factory, wait_for(cluster, 1)[0], rank)
    deadline = time.monotonic() + (WAIT_SECONDS if timeout is None else timeout)
    while True:
        names = {cluster.name(address): address for address in cluster.workers()}
        hosts = {address.rpartition("://")[2].rpartition(":")[0]: address for address in names.values()}
        found = names.get(where) or hosts.get(where)
        if found is not None:
            return open_session_on(cluster, factory, found, rank)
        if time.monotonic() > deadline:
            listed = ", ".join(f"{name} ({address})" for name, address in sorted(names.items())) or "none"
            raise ExecutorError(f"no worker is named {where!r} or runs on that host; workers: {listed}")
        time.sleep(0.1)


def open_session_on(
    cluster: Connected, factory: Callable[[int], Any], worker: str, rank: int = 0
) -> DaskSession:
    """Make ``factory(rank)`` on the worker of an address."""
    name = cluster.name(worker)
    ident = uuid.uuid4().hex
    for _ in range(3):
        answer = cluster.call_on(worker, _open, ident, dumps(factory, cluster.by_value), rank)
        modules = modules_for(answer.module, [factory]) if isinstance(answer, CannotLoad) else []
        if not any(m not in cluster.by_value for m in modules):
            break
        cluster.by_value.extend(m for m in modules if m not in cluster.by_value)
    if isinstance(answer, CannotLoad):
        raise ExecutorError(
            f"worker {name} cannot load {factory!r}: {answer.text}. Install that module there."
        )
    if isinstance(answer, Failure):
        raise_failure(answer, name)
    return DaskSession(cluster, worker, name, ident)


def wait_for(cluster: Connected, n: int | None) -> list[str]:
    """Return the addresses of `n` workers, or of all, in the order of their names."""
    wanted = n or 1
    if cluster.local_workers is not None and wanted > cluster.local_workers:
        raise ExecutorError(f"{n} sessions need as many workers; this context has {cluster.local_workers}")
    deadline = time.monotonic() + WAIT_SECONDS
    while len(found := cluster.workers()) < wanted:
        if time.monotonic() > deadline:
            raise ExecutorError(
                f"{wanted} sessions need as many workers; after {WAIT_SECONDS:.0f} s there are {len(found)}"
            )
        cluster.wanted()
        time.sleep(0.1)
    ordered = sorted(found, key=lambda address: (len(cluster.name(address)), cluster.name(address)))
    return ordered[:n] if n else ordered


# --- on the worker -------------------------------------------------------------------------------

_sessions: dict[str, LocalSession] = {}


async def _open(ident: str, factory: bytes, rank: int) -> Any:
    try:
        make = pickle.loads(factory)  # noqa: S301  # from the head that asks for the session
    except Exception as exc:  # noqa: BLE001  # a module that is missing, old, or fails when it is imported
        return cannot_load(exc)
    try:
        # the object has a loop of its own: what it computes cannot block dask's
        _sessions[ident] = await asyncio.to_thread(LocalSession, make, rank)
    except BaseException as exc:  # noqa: BLE001  # travels
        return as_failure(exc)
    return None


async def _call(ident: str, method: str, args: bytes) -> Any:
    session = _sessions.get(ident)
    if session is None:
        return as_failure(
            ExecutorError("the worker was restarted, the session on it is gone: open a new one")
        )
    try:
        unpacked = pickle.loads(args)  # noqa: S301  # from the head
    except Exception as exc:  # noqa: BLE001  # as above
        return cannot_load(exc)
    try:
        return await asyncio.wrap_future(session.submit(method, *unpacked))
    except BaseException as exc:  # noqa: BLE001  # travels
        return as_failure(exc)


async def _close(ident: str) -> Any:
    session = _sessions.pop(ident, None)
    if session is None:
        return None
    try:
        await asyncio.to_thread(session.close)
    except BaseException as exc:  # noqa: BLE001  # travels
        return as_failure(exc)
    return None
