"""Folds on dask.distributed: processes on this machine or any cluster."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any

from framefold.errors import ExecutorError, WorkerLost
from framefold.executor import dask_worker
from framefold.executor.base import Job, Session
from framefold.executor.dask_payload import SharedMemory, dumps, modules_for
from framefold.executor.dask_run import LOOK_SECONDS, WORKER_TIMEOUT, DaskRun, raise_failure
from framefold.executor.dask_worker import CannotLoad, Failure, Shared
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
        return self._connected().map(fn, list(items))

    def open_session(self, factory: Callable[[int], Any], n: int | None = None) -> list[Session]:
        """Make ``factory(rank)`` on `n` different workers (default: on all)."""
        from framefold.executor.dask_session import open_sessions  # noqa: PLC0415

        return open_sessions(self._connected(), factory, n)

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
    try:
        client = Client(where, set_as_default=False, timeout=CONNECT_TIMEOUT)  # type: ignore[no-untyped-call]
        return Connected(client, True, None)
    except (OSError, TimeoutError, ValueError) as exc:
        raise ExecutorError(
            f"no dask scheduler answers at {where!r}: {exc}. Expected an address such as 'tcp://host:8786'."
        ) from exc


class _WorkersGone(OSError):
    """Workers vanished while they were called."""

    def __init__(self, addresses: set[str]) -> None:
        super().__init__(f"workers are gone: {', '.join(sorted(addresses))}")
        self.addresses = addresses


class Connected:
    """A client with the calls that runs (see `dask_run.Cluster`) and sessions need."""

    def __init__(self, client: Any, ours: bool, local: Any) -> None:
        self.client = client
        self.by_value: list[ModuleType] = []
        self._ours = ours
        self._local = local
        self._memory = SharedMemory()
        self._address = client.scheduler.address if client.scheduler is not None else "?"
        self._names: dict[str, str] = {}

    def workers(self) -> dict[str, int]:
        """Return addresses and threads of all workers now."""
        return dict(self._answer(self.ask_workers()))

    def ask_workers(self) -> concurrent.futures.Future[dict[str, int]]:
        """Return a future of addresses and threads of all workers."""

        async def ask() -> Any:
            return await self.client.scheduler.ncores()

        return asyncio.run_coroutine_threadsafe(ask(), self.client.loop.asyncio_loop)

    def _answer(self, future: concurrent.futures.Future[Any]) -> Any:
        """Wait for the scheduler's answer as long as there is a scheduler."""
        deadline = time.monotonic() + WORKER_TIMEOUT
        while True:
            try:
                done, _ = concurrent.futures.wait([future], 0.1)
                if done:
                    return future.result()
                cause: BaseException | None = None
            except (OSError, AttributeError, concurrent.futures.CancelledError) as exc:
                cause = exc  # the client notices a broken connection a moment later
                time.sleep(0.05)
            if cause is not None or self.lost() or time.monotonic() > deadline:
                future.cancel()
                text = self.lost() or f"the dask scheduler at {self._address} does not answer: {cause}"
                raise ExecutorError(text) from cause

    def on_workers(
        self, fn: Callable[..., Any], *args: Any, workers: list[str], patience: float = 10.0
    ) -> None:
        """Call ``fn(*args)`` in the processes of `workers`; pass over those that died or do not answer."""
        deadline = time.monotonic() + patience
        while workers:
            try:
                self._watched(deadline, fn, args, workers)
                return
            except _WorkersGone as exc:
                workers = [w for w in workers if w not in exc.addresses]
            except TimeoutError:
                return

    def call_on(self, worker: str, fn: Callable[..., Any], *args: Any) -> Any:
        """Return ``fn(*args)`` from the process of one worker, however long it takes.

        Raises
        ------
        OSError
            If the worker is gone.
        """
        return self._watched(float("inf"), fn, args, [worker])[worker]

    def _watched(
        self, deadline: float, fn: Callable[..., Any], args: tuple[Any, ...], workers: list[str]
    ) -> Any:
        """Call on workers, and look whether they still exist: dask would knock at a dead one for 30 s."""

        async def call() -> Any:
            on_error = "raise" if deadline == float("inf") else "ignore"
            return await self.client._run(fn, *args, workers=workers, on_error=on_error)

        future = asyncio.run_coroutine_threadsafe(call(), self.client.loop.asyncio_loop)
        while True:
            wait = min(LOOK_SECONDS, max(0.0, deadline - time.monotonic()))
            done, _ = concurrent.futures.wait([future], wait)
            if done:
                return future.result()
            try:
                gone = set(workers) - set(self.workers())
            except BaseException:
                future.cancel()
                raise
            if gone:
                future.cancel()
                raise _WorkersGone(gone)
            if time.monotonic() >= deadline:
                raise TimeoutError("workers do not answer")

    @property
    def local_workers(self) -> int | None:
        """How many workers there will ever be; None where that is up to others."""
        return None if self._local is None else len(self._local.pids())

    def submit(self, fn: Callable[..., Any], *args: Any, worker: str, key: Any) -> Any:
        """Return the dask future of ``fn(*args)`` on `worker`."""
        return self.client.submit(fn, *args, key=key, workers=[worker], retries=0, pure=False)

    def fetch(self, future: Any) -> concurrent.futures.Future[Any]:
        """Return a future of the result in this process."""

        async def result() -> Any:
            # gathers of one client share requests: cancelling one coroutine would cancel others with it, so
            # these are never cancelled; they end when their future is released
            for _ in range(3):
                await future._state.wait()
                try:
                    return await self.client.gather(future, asynchronous=True)
                except asyncio.CancelledError:
                    if future.status != "finished":
                        raise
                    await asyncio.sleep(0.01)
            raise OSError("the result of a task could not be fetched")

        return asyncio.run_coroutine_threadsafe(result(), self.client.loop.asyncio_loop)

    def ship(self, arrays: list[Any]) -> tuple[tuple[Shared, ...] | None, Any]:
        """Return large arrays as shared memory, or else as scattered data."""
        if not arrays:
            return (), None
        if self._local is not None:
            shared = tuple(self._memory.share(a) for a in arrays)
            self._memory.trim(max(4, len(shared)))
            return shared, None
        if not self.workers():
            self.wanted()
            self.client.wait_for_workers(1, timeout=WORKER_TIMEOUT)
        return None, self.client.scatter(arrays, broadcast=True, hash=False)

    def lost(self) -> str:
        """Return why the cluster cannot be used any more, or an empty string."""
        status = self.client.status
        if status == "running":
            return ""
        if status in ("closing", "closed"):
            return f"the dask client of {self._address} was closed, or its scheduler is gone"
        return f"the connection to the dask scheduler at {self._address} is lost"

    def name(self, address: str) -> str:
        """Return the name of a worker for messages."""
        if address not in self._names:
            with suppress(Exception):
                asked = asyncio.run_coroutine_threadsafe(self._ask_names(), self.client.loop.asyncio_loop)
                self._names.update(self._answer(asked))
        return self._names.get(address, address)

    async def _ask_names(self) -> dict[str, str]:
        info = await self.client.scheduler.identity(n_workers=-1)
        return {address: str(w["name"]) for address, w in info["workers"].items()}

    def last_lines(self, address: str) -> str:
        """Return what a worker printed last, if that is known."""
        return self._local.last_lines(self._names.get(address)) if self._local is not None else ""

    def wanted(self) -> None:
        """Submit a task for any worker: adaptive clusters start workers only for tasks."""
        self._wanted = self.client.submit(int, pure=False)

    def map(self, fn: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        """Return ``fn(item)`` for all items, in order."""
        from distributed import KilledWorker  # noqa: PLC0415

        for _ in range(3):
            function = dumps(fn, self.by_value)
            futures = [
                self.client.submit(dask_worker.call_pickled, function, dumps(item, self.by_value), pure=False)
                for item in items
            ]
            try:
                answers = self.client.gather(futures)
            except KilledWorker as exc:
                raise WorkerLost(f"an item of map ended its worker process several times: {exc}") from exc
            except (concurrent.futures.CancelledError, asyncio.CancelledError) as exc:
                raise ExecutorError(self.lost() or "the tasks of map were cancelled by the cluster") from exc
            missing = next((a for a in answers if isinstance(a, CannotLoad)), None)
            if missing is None:
                break
            modules = [m for m in modules_for(missing.module, [fn, *items]) if m not in self.by_value]
            if not modules:
                raise ExecutorError(f"workers cannot load {fn!r}: {missing.text}. Install that module there.")
            self.by_value.extend(modules)
        for answer in answers:
            if isinstance(answer, Failure):
                raise_failure(answer, "of the cluster")
        return [value for _, value in answers]

    def close(self) -> None:
        """End the client and the processes, if they are ours."""
        if self._ours:
            with suppress(Exception):
                self.client.close(timeout=2)
        if self._local is not None:
            self._local.close()
        self._memory.trim(0)
