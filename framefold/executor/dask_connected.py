"""A connection to a dask cluster: the few calls of dask that runs and sessions are made of."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

from framefold.errors import ExecutorError
from framefold.executor.dask_payload import SharedMemory
from framefold.executor.dask_worker import Shared

LOOK_SECONDS = 0.25  # how often the list of workers is asked for
WORKER_TIMEOUT = 30.0


class _WorkersGone(OSError):
    """Workers vanished while they were called."""

    def __init__(self, addresses: set[str]) -> None:
        super().__init__(f"workers are gone: {', '.join(sorted(addresses))}")
        self.addresses = addresses


class Connected:
    """A client of a scheduler, and the local processes behind it if we started them.

    Attributes
    ----------
    by_value
        Modules that workers cannot load: their code travels.
    """

    def __init__(self, client: Any, ours: bool, local: Any) -> None:
        self.client = client
        self.by_value: list[ModuleType] = []
        self._ours = ours
        self._local = local
        self._memory = SharedMemory()
        self._address = client.scheduler.address if client.scheduler is not None else "?"
        self._names: dict[str, str] = {}
        self._direct = bool(client.direct_to_workers)

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
            if self._direct and len(workers) == 1 and deadline == float("inf"):
                return {workers[0]: await self._straight(workers[0], fn, args)}
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

    async def _straight(self, worker: str, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Call in the process of a worker without the way through the scheduler."""
        from distributed.core import clean_exception  # noqa: PLC0415  # heavy
        from distributed.protocol.pickle import dumps  # noqa: PLC0415

        reply = await self.client.rpc(worker).run(
            function=dumps(fn),  # type: ignore[no-untyped-call]
            args=dumps(args),  # type: ignore[no-untyped-call]
            kwargs=dumps({}),  # type: ignore[no-untyped-call]
            wait=True,
        )
        if reply["status"] != "OK":
            _, exc, trace = clean_exception(**reply)
            assert exc is not None  # in every reply that is not OK
            raise exc.with_traceback(trace)
        return reply["result"]

    @property
    def local_workers(self) -> int | None:
        """How many workers there will ever be; None where that is up to others."""
        return None if self._local is None else len(self._local.pids())

    def submit(self, fn: Callable[..., Any], *args: Any, worker: str, key: Any) -> Any:
        """Return the dask future of ``fn(*args)`` on `worker`."""
        return self.client.submit(fn, *args, key=key, workers=[worker], retries=0, pure=False)

    def fetch(self, future: Any, worker: str) -> concurrent.futures.Future[Any]:
        """Return a future of the result of a task that runs on `worker`.

        Each result is asked for by itself: `distributed.Client.gather` batches the keys of several callers,
        and one dead worker would make them all wait until a connection attempt to it times out.
        """
        return asyncio.run_coroutine_threadsafe(self._fetch(future, worker), self.client.loop.asyncio_loop)

    async def _fetch(self, future: Any, worker: str) -> Any:
        from distributed.utils_comm import gather_from_workers  # noqa: PLC0415  # heavy

        await future._state.wait()
        if future.status != "finished":
            return await self.client.gather(future, asynchronous=True)  # raises what is to be raised
        key = future.key
        if self._direct:
            data = (await gather_from_workers({key: [worker]}, rpc=self.client.rpc))[0]
        else:
            data = (await self.client.scheduler.gather(keys=[key])).get("data", {})
        if key not in data:
            raise OSError(f"worker {worker} finished a task and did not deliver its result")
        return data[key]

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

    def close(self) -> None:
        """End the client and the processes, if they are ours."""
        if self._ours:
            with suppress(Exception):
                self.client.close(timeout=2)
        if self._local is not None:
            self._local.close()
        self._memory.trim(0)
