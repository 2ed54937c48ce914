"""Folds on dask.distributed: processes on this machine or any cluster."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from framefold.errors import ExecutorError, WorkerLost
from framefold.executor import dask_worker
from framefold.executor.base import Job, Session
from framefold.executor.dask_answers import CannotLoad, Failure, raise_failure
from framefold.executor.dask_connected import Connected
from framefold.executor.dask_payload import dumps, modules_for
from framefold.executor.dask_run import DaskRun
from framefold.executor.local import physical_cores
from framefold.udfcore.task import Partial

CONNECT_TIMEOUT = 10.0


class DaskExecutor:
    """Runs jobs on a dask cluster; connects, or starts processes, when it is first used.

    Parameters
    ----------
    where
        A scheduler address, a ``distributed.Client``, a dask cluster object, or None for processes on this
        machine. What is given stays open when the executor is closed.
    workers
        Processes to start where `where` is None; default: one per physical core.
    threads_per_worker
        Threads of each of them.
    """

    name = "dask"
    processes = True

    def __init__(
        self, where: Any = None, *, workers: int | None = None, threads_per_worker: int | None = None
    ) -> None:
        if where is not None and (workers is not None or threads_per_worker is not None):
            raise ExecutorError(
                f"workers= and threads_per_worker= start a local cluster: leave them out with {where!r}, "
                "whose workers exist already"
            )
        for what, n in (("workers", workers), ("threads_per_worker", threads_per_worker)):
            if n is not None and n < 1:
                raise ExecutorError(f"{what} must be at least 1, got {n}")
        if getattr(where, "asynchronous", False):
            raise ExecutorError(
                "the dask client or cluster is asynchronous: make it without asynchronous=True. "
                "Awaitable runs (sync=False) do not need one."
            )
        self._where = where
        self._n_workers = workers or (physical_cores() if where is None else 0)
        self._threads = threads_per_worker or 1
        self._lock = threading.RLock()
        self._cluster: Connected | None = None
        self._jobs: list[Job] = []
        self._closed = False

    @property
    def capacity(self) -> int:
        """Threads of all workers."""
        if self._where is None:
            return self._n_workers * self._threads
        return max(1, sum(self._connected().workers().values()))

    @property
    def client(self) -> Any:
        """The ``distributed.Client`` in use."""
        return self._connected().client

    def run(self, job: Job) -> Iterator[Partial]:
        """Yield partials as workers deliver them."""
        run = DaskRun(job, self._connected())
        self._jobs.append(job)
        try:
            yield from run.partials()
        finally:
            run.stop()
            self._jobs.remove(job)

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Return ``fn(item)`` for all items, in order."""
        return _map(self._connected(), fn, list(items))

    def open_session(self, factory: Callable[[int], Any], n: int | None = None) -> list[Session]:
        """Make ``factory(rank)`` on `n` different workers (default: on all)."""
        from framefold.executor.dask_session import open_sessions  # noqa: PLC0415

        return open_sessions(self._connected(), factory, n)

    def open_session_at(
        self, factory: Callable[[int], Any], where: str | None, timeout: float | None, rank: int = 0
    ) -> Session:
        """Make ``factory(rank)`` on the worker of a name or on a host; None: on the first."""
        from framefold.executor.dask_session import open_session_at  # noqa: PLC0415

        return open_session_at(self._connected(), factory, where, timeout, rank)

    def open_session_on(self, factory: Callable[[int], Any], address: str) -> Session:
        """Make ``factory(0)`` on the worker of an address."""
        from framefold.executor.dask_session import open_session_on  # noqa: PLC0415

        return open_session_on(self._connected(), factory, address)

    def workers_in_order(self) -> list[str]:
        """Return the addresses of all workers, in the order of their names; waits for the first."""
        from framefold.executor.dask_session import wait_for  # noqa: PLC0415

        return wait_for(self._connected(), None)

    @property
    def local(self) -> bool:
        """Whether the workers are processes of this machine that were started here."""
        return self._where is None

    def cancel(self) -> None:
        """Cancel running jobs."""
        for job in list(self._jobs):
            job.feed.cancelled.set()

    def close(self) -> None:
        """Cancel what runs, and end what this executor started."""
        self.cancel()
        with self._lock:
            self._closed = True
            if self._cluster is not None:
                self._cluster.close()
                self._cluster = None

    def _connected(self) -> Connected:
        with self._lock:
            if self._closed:
                raise ExecutorError("this context is closed: make a new Context()")
            if self._cluster is None:
                self._cluster = _connect(self._where, self._n_workers, self._threads)
            lost = self._cluster.lost()
            if lost and isinstance(self._where, str):
                self._cluster.close()
                self._cluster = _connect(self._where, self._n_workers, self._threads)
            elif lost:
                raise ExecutorError(lost)
            return self._cluster


def _connect(where: Any, workers: int, threads: int) -> Connected:
    from distributed import Client  # noqa: PLC0415  # heavy

    # what goes wrong is raised; the log lines of the library would only repeat it
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    if where is None:
        from framefold.executor.dask_local import LocalProcesses  # noqa: PLC0415

        local = LocalProcesses(workers, threads)
        try:
            client: Any = Client(  # type: ignore[no-untyped-call]
                local.address, set_as_default=False, direct_to_workers=True, timeout=CONNECT_TIMEOUT
            )
            connected = Connected(client, True, local)
            local.wait(client)
        except BaseException:
            local.close()
            raise
        return connected
    if isinstance(where, Client):
        return Connected(where, False, None)
    if isinstance(where, str) and where.startswith("tls://"):
        _check_certificates(where)
    if isinstance(where, str) and "://" not in where and not re.search(r":\d+$", where):
        # dask finds out as well, and leaves a client behind that needs 20 s to give up
        raise ExecutorError(f"{where!r} is no address of a dask scheduler: 'tcp://host:8786' would be one.")
    try:
        client = Client(where, set_as_default=False, timeout=CONNECT_TIMEOUT)  # type: ignore[no-untyped-call]
        return Connected(client, True, None)
    except (OSError, TimeoutError, ValueError) as exc:
        raise ExecutorError(
            f"no dask scheduler answers at {where!r}: {exc}. Expected an address such as 'tcp://host:8786'."
        ) from exc


def _check_certificates(address: str) -> None:
    """Refuse an encrypted address for which dask's configuration holds no certificates."""
    from distributed.security import Security  # noqa: PLC0415

    arguments = Security().get_connection_args("client")  # type: ignore[no-untyped-call]
    if arguments.get("ssl_context") is None:
        raise ExecutorError(
            f"{address} is encrypted and dask's configuration (distributed.comm.tls) names no certificates: "
            "pass Context(Client(address, security=Security(tls_ca_file=..., tls_client_cert=..., "
            "tls_client_key=...)))"
        )


def _map(cluster: Connected, fn: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    """Return ``fn(item)`` for all items, in order."""
    from distributed import KilledWorker  # noqa: PLC0415

    for _ in range(3):
        function = dumps(fn, cluster.by_value)
        futures = [
            cluster.client.submit(
                dask_worker.call_pickled, function, dumps(item, cluster.by_value), pure=False
            )
            for item in items
        ]
        try:
            answers = cluster.client.gather(futures)
        except KilledWorker as exc:
            raise WorkerLost(f"an item of map ended its worker process several times: {exc}") from exc
        except (concurrent.futures.CancelledError, asyncio.CancelledError) as exc:
            raise ExecutorError(cluster.lost() or "the tasks of map were cancelled by the cluster") from exc
        missing = next((a for a in answers if isinstance(a, CannotLoad)), None)
        if missing is None:
            break
        modules = [m for m in modules_for(missing.module, [fn, *items]) if m not in cluster.by_value]
        if not modules:
            raise ExecutorError(f"workers cannot load {fn!r}: {missing.text}. Install that module there.")
        cluster.by_value.extend(modules)
    for answer in answers:
        if isinstance(answer, Failure):
            raise_failure(answer, "of the cluster")
    return [value for _, value in answers]
