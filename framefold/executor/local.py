"""Threads in this process: the default. Kernels release the GIL, so lanes run in parallel."""

from __future__ import annotations

import functools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

from framefold.errors import ExecutorError, UDFRunCancelled
from framefold.executor.base import Job, Session
from framefold.executor.inline import InlineExecutor
from framefold.executor.session import open_sessions
from framefold.udfcore.fold import Folder
from framefold.udfcore.partitioning import IDLE
from framefold.udfcore.task import Partial

log = logging.getLogger("framefold")
_DONE = object()
GIL_PROBE_SECONDS = 1.0
MIN_ASLEEP = 0.25  # two lanes of pure Python sleep 30 to 50 % of the time
MAX_OTHERS = 0.15  # of a core: more than this, and threads other than lanes may hold the GIL


class LocalExecutor:
    """Folds partitions in `lanes` threads.

    Parameters
    ----------
    lanes
        Threads; None: the physical cores that this process may use.
    """

    name = "threads"
    processes = False

    def __init__(self, lanes: int | None = None) -> None:
        if lanes is not None and lanes < 1:
            raise ExecutorError(f"lanes must be at least 1, got {lanes}")
        self._lanes = lanes or physical_cores()
        self._jobs: list[Job] = []
        self._closed = False

    @property
    def capacity(self) -> int:
        """Number of threads."""
        return self._lanes

    def run(self, job: Job) -> Iterator[Partial]:
        """Yield partials as threads finish them; at most ``lanes + 2`` wait."""
        if self._closed:
            raise ExecutorError("this context is closed: make a new Context()")
        lanes = min(self._lanes, job.plan.max_lanes or self._lanes)
        bound = any(p.cls.engine.gil == "bound" for p in job.plan.udfs)
        if lanes == 1 or bound or job.plan.n_rows <= 1:
            # the only lane may use all cores inside
            yield from InlineExecutor(self._lanes if job.plan.max_lanes == 1 else 1).run(job)
            return
        self._jobs.append(job)
        run = _Lanes(job, lanes)
        try:
            with blas_threads(1):
                yield from run.partials()
        finally:
            run.stop()
            self._jobs.remove(job)

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Apply `fn` to the items in threads."""
        with ThreadPoolExecutor(self._lanes) as pool:
            return list(pool.map(fn, items))

    def open_session(self, factory: Callable[[int], Any], n: int | None = None) -> list[Session]:
        """Make session objects in this process, each with a thread of its own."""
        return open_sessions(factory, n)

    def cancel(self) -> None:
        """Cancel running jobs at their next block."""
        for job in list(self._jobs):
            job.feed.cancelled.set()

    def close(self) -> None:
        """Cancel what runs; threads end by themselves."""
        self.cancel()
        self._closed = True


class _Lanes:
    """The threads of one job and the bounded queue to the merger."""

    def __init__(self, job: Job, lanes: int) -> None:
        self._job = job
        self._queue: queue.Queue[Any] = queue.Queue(lanes + 2)
        self._stop = threading.Event()
        self._complete = False
        self._active = lanes
        self._probe = _GilProbe(job, lanes)
        self._threads = [
            threading.Thread(target=self._work, args=(i,), name=f"framefold-lane-{i}", daemon=True)
            for i in range(lanes)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self, lane: int) -> None:
        job = self._job
        try:
            folder = Folder(job.plan, worker=f"thread {lane}")
            while not self._stop.is_set() and not self._probe.surplus(lane):
                task = job.feed.next()
                if task is None:
                    break
                if task is not IDLE:
                    if folder.begins_window(task):
                        self._put(folder.flush())
                    queued = 0.0 if self._probe.told else queued_seconds()
                    partial = folder.fold(task, job.feed.cancelled)
                    job.feed.done(partial)
                    if not self._probe.told:  # reading a file costs more than folding a small block
                        self._probe.add(lane, partial, queued_seconds() - queued)
                    self._put(partial)
                if folder.flush_due:
                    self._put(folder.flush())
            delta = folder.flush()
            if delta is not None:
                self._put(delta)
        except UDFRunCancelled:
            pass  # the job was cancelled: drive raises once for all lanes
        except BaseException as exc:  # noqa: BLE001  # travels to the thread that merges
            self._put(exc)
        finally:
            self._put(_DONE)

    def _put(self, item: Any) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def partials(self) -> Iterator[Partial]:
        """Yield partials until every lane is done; raise what a lane raised."""
        left = len(self._threads)
        while left:
            item = self._queue.get()
            if item is _DONE:
                left -= 1
            elif isinstance(item, BaseException):
                self._job.feed.cancelled.set()
                raise item
            else:
                yield item
        self._complete = True

    def stop(self) -> None:
        """End all lanes at their next block and wait for them."""
        self._stop.set()
        if not self._complete:
            self._job.feed.cancelled.set()
        for thread in self._threads:
            thread.join()


class _GilProbe:
    """Finds out whether lanes wait for the GIL: their CPU time adds up to no more than one core.

    Idle lanes (slow disks) look different: there the CPU time is far below one core. So do lanes that wait
    for a core that another program has: they are ready to run, while a lane that waits for the GIL sleeps.
    Where other threads of this process work meanwhile, as those that draw, it may be they who hold it:
    it is measured again.
    """

    def __init__(self, job: Job, lanes: int) -> None:
        self._job = job
        self._lanes = lanes
        self._lock = threading.Lock()
        self._cpu = 0.0
        self._queued = 0.0
        self._since: float | None = None
        self._process = 0.0  # CPU seconds of this process, then
        self._warm: set[int] = set()
        # lanes that wait for a detector look like lanes that wait for the GIL
        self.told = job.feed.live or all(p.cls.engine.gil == "free" for p in job.plan.udfs)
        self._one_lane = False

    def add(self, lane: int, partial: Partial, queued: float = 0.0) -> None:
        """Count a partial and the time it was ready to run without a core.

        The first partial of each lane holds compilation and is left out.
        """
        with self._lock:
            if lane not in self._warm:
                self._warm.add(lane)
                if len(self._warm) == self._lanes:
                    self._begin()
                return
            if self._since is None or self.told:
                return
            self._cpu += partial.cpu_seconds
            self._queued += queued
            wall = time.perf_counter() - self._since
            if wall < GIL_PROBE_SECONDS:
                return
            if time.process_time() - self._process - self._cpu > MAX_OTHERS * wall:
                self._begin()
                return
            self.told = True
            if machine_load() > physical_cores() + 0.5:
                return  # other programs take the cores: waiting for one looks like waiting for the GIL
            asleep = 1 - (self._cpu + self._queued) / (wall * self._lanes)
            if 0.7 <= self._cpu / wall <= 1.1 and asleep > MIN_ASLEEP:
                self._one_lane = True
                names = ", ".join(f"{p.name}.process_{p.method.value}" for p in self._job.plan.udfs)
                text = f"{names} holds the GIL: Context(workers={self._lanes}) would be faster"
                self._job.note(text)
                log.warning("%s", text)

    def _begin(self) -> None:
        self._since, self._process = time.perf_counter(), time.process_time()
        self._cpu = self._queued = 0.0

    def surplus(self, lane: int) -> bool:
        """Whether this lane should end because more than one only hinders."""
        return self._one_lane and lane > 0


def queued_seconds() -> float:
    """Return how long this thread has waited for a core so far, 0 where the system does not tell."""
    try:
        with open("/proc/thread-self/schedstat") as f:
            return int(f.read().split()[1]) * 1e-9
    except (OSError, IndexError, ValueError):
        return 0.0


def machine_load() -> float:
    """Return how many programs wanted a core during the last minute, 0 where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


@functools.cache
def physical_cores() -> int:
    """Return the number of physical cores that this process may use."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = set()
    for cpu in allowed:
        try:
            with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") as f:
                cores.add(f.read().strip())
        except OSError:
            return max(1, len(allowed))
    return max(1, len(cores))


@functools.cache
def _controller() -> Any:
    import threadpoolctl  # noqa: PLC0415  # scans all loaded libraries: only when lanes run in parallel

    return threadpoolctl.ThreadpoolController()


def blas_threads(n: int) -> Any:
    """Return a context manager that limits BLAS and OpenMP pools to `n` threads."""
    controller = _controller()
    return controller.limit(limits=n) if controller.lib_controllers else nullcontext()
