"""LiberTEM's executors by name, each holding one of framefold's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from framefold.compat.libertem.arrays import detect, physical_cpus
from framefold.errors import FramefoldError, UDFRunCancelled
from framefold.executor.base import Executor
from framefold.executor.inline import InlineExecutor
from framefold.executor.local import LocalExecutor


class ExecutorSpecException(FramefoldError):
    """An executor, or its resources, cannot be had as asked."""


class JobCancelledError(UDFRunCancelled):
    """Raised inside a job to stop the run."""


@dataclass(frozen=True)
class Environment:
    """What a UDF's surroundings are like."""

    threads_per_worker: int | None = None
    threaded_executor: bool = False
    worker_context: Any = None
    gpu_id: int | None = None

    @property
    def device_class(self) -> str:
        """``"cpu"`` or ``"cuda"``."""
        return "cpu" if self.gpu_id is None else "cuda"

    @contextlib.contextmanager
    def enter(self, enable_gpu: bool = True) -> Iterator[Environment]:
        """Limit the threads of numerical libraries inside a ``with`` block."""
        if self.threads_per_worker is None:
            yield self
            return
        from threadpoolctl import threadpool_limits  # noqa: PLC0415  # looks for libraries when imported

        with threadpool_limits(self.threads_per_worker):
            yield self


@dataclass(frozen=True)
class Worker:
    """A place where folds run."""

    name: str
    host: str
    resources: dict[str, float]
    nthreads: int


class WorkerSet(tuple[Worker, ...]):
    """Workers."""

    __slots__ = ()


class TaskCommHandler:
    """Told about each task before it is handed out: what ``get_task_comm_handler`` of a dataset returns."""

    def handle_task(self, task: Any, queue: Any) -> None:
        """Look at a task."""

    def start(self) -> None:
        """Prepare for a run."""

    def done(self) -> None:
        """Clean up after a run."""


class TaskProtocol:
    """A type for annotations."""


class WorkerQueue:
    """A type for annotations."""


class JobExecutor:
    """What the executors have in common.

    Parameters
    ----------
    engine
        framefold's executor.
    main_process_gpu
        True or a number: the head node needs cupy.
    """

    def __init__(self, engine: Executor, main_process_gpu: bool | int | None = None) -> None:
        self.engine = engine
        if main_process_gpu is True or (main_process_gpu is not None and type(main_process_gpu) is int):
            cudas = detect()["cudas"]
            if not cudas or (main_process_gpu is not True and main_process_gpu not in cudas):
                raise ExecutorSpecException(
                    f"main_process_gpu={main_process_gpu!r}, but the CUDA devices with cupy are {cudas}"
                )

    def run_function(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function on some worker."""
        return self.engine.map(lambda _: fn(*args, **kwargs), [None])[0]

    def map(self, fn: Callable[[Any], Any], iterable: Iterable[Any]) -> list[Any]:
        """Return ``[fn(item) for item in iterable]``, computed on the workers."""
        return self.engine.map(fn, iterable)

    def run_each_host(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Call a function once per host."""
        return {"localhost": fn(*args, **kwargs)}

    def run_each_worker(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Call a function once per worker process."""
        return {self.engine.name: fn(*args, **kwargs)}

    def get_available_workers(self) -> WorkerSet:
        """Return the workers."""
        n = self.engine.capacity
        return WorkerSet((Worker(self.engine.name, "localhost", {"compute": 1, "CPU": 1}, n),))

    def ensure_sync(self) -> JobExecutor:
        """Return the executor itself: it is synchronous."""
        return self

    def close(self) -> None:
        """Release workers."""
        self.engine.close()

    def __enter__(self) -> JobExecutor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class InlineJobExecutor(JobExecutor):
    """Strictly one partition after the other, in the calling thread.

    Parameters
    ----------
    debug
        Check that functions given to `run_function` and their results can be pickled.
    inline_threads
        Threads that a UDF may use, one per core by default.
    main_process_gpu
        See `JobExecutor`.
    """

    def __init__(
        self,
        debug: bool = False,
        inline_threads: int | None = None,
        main_process_gpu: bool | int | None = None,
    ) -> None:
        super().__init__(InlineExecutor(inline_threads or physical_cpus()), main_process_gpu)
        self._debug = debug

    def run_function(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function."""
        if self._debug:
            import cloudpickle  # noqa: PLC0415  # only for the check

            cloudpickle.dumps((fn, args, kwargs))
        result = fn(*args, **kwargs)
        if self._debug:
            cloudpickle.dumps(result)
        return result


class ConcurrentJobExecutor(JobExecutor):
    """Threads of this process."""

    def __init__(self, lanes: int | None = None, main_process_gpu: bool | int | None = None) -> None:
        super().__init__(LocalExecutor(lanes), main_process_gpu)

    @classmethod
    def make_local(
        cls, n_threads: int | None = None, main_process_gpu: bool | int | None = None
    ) -> ConcurrentJobExecutor:
        """Return an executor with `n_threads` threads, one per core by default."""
        return cls(n_threads, main_process_gpu)


class DaskJobExecutor(JobExecutor):
    """A dask cluster."""

    def __init__(
        self, client: Any = None, is_local: bool = False, main_process_gpu: bool | int | None = None,
        workers: int | None = None,
    ) -> None:  # fmt: skip
        from framefold.executor.dask import DaskExecutor  # noqa: PLC0415  # dask is slow to import

        super().__init__(DaskExecutor(client, workers=workers), main_process_gpu)

    @classmethod
    def make_local(
        cls, workers: int | None = None, main_process_gpu: bool | int | None = None
    ) -> DaskJobExecutor:
        """Start a cluster of worker processes on this machine, one per core by default."""
        return cls(workers=workers or physical_cpus(), main_process_gpu=main_process_gpu)

    @classmethod
    def connect(cls, scheduler_uri: str, main_process_gpu: bool | int | None = None) -> DaskJobExecutor:
        """Use the cluster of a scheduler address."""
        return cls(scheduler_uri, main_process_gpu=main_process_gpu)


_SPECS = ("inline", "synchronous", "threads", "dask", "dask-integration")


def make_executor(
    spec: str, cpus: Any = None, gpus: Any = None, main_process_gpu: bool | int | None = None
) -> JobExecutor:
    """Return the executor of a name.

    Raises
    ------
    ExecutorSpecException
        For unknown names, and resources that the executor cannot have.
    """
    if spec not in _SPECS:
        raise ExecutorSpecException(f"executor {spec!r} is not one of {', '.join(map(repr, _SPECS))}")
    if gpus is not None:
        raise ExecutorSpecException(f"the executor {spec!r} takes no gpus=: CUDA lanes are chosen per UDF")
    if cpus is not None and spec in ("inline", "synchronous", "dask-integration"):
        raise ExecutorSpecException(f"the executor {spec!r} takes no cpus=")
    n = len(cpus) if hasattr(cpus, "__len__") else cpus
    if spec in ("inline", "synchronous"):
        return InlineJobExecutor(main_process_gpu=main_process_gpu)
    if spec == "threads":
        return ConcurrentJobExecutor.make_local(n, main_process_gpu)
    if spec == "dask":
        return DaskJobExecutor.make_local(n, main_process_gpu)
    return _active(main_process_gpu)


def _active(main_process_gpu: bool | int | None) -> JobExecutor:
    """Return an executor on the dask client that is active, else inline."""
    from framefold.executor.choose import _active_client as active_client  # noqa: PLC0415

    client = active_client()
    if client is None:
        return InlineJobExecutor(main_process_gpu=main_process_gpu)
    return DaskJobExecutor(client, main_process_gpu=main_process_gpu)
