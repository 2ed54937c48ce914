"""What runs on a dask worker: folds of one task each, with plans and folders kept between them."""

from __future__ import annotations

import mmap
import pickle
import sys
import threading
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from framefold.errors import UDFRunCancelled
from framefold.executor.dask_answers import Missing, as_failure, cannot_load
from framefold.executor.dask_output import speaking
from framefold.executor.local import blas_threads
from framefold.udfcore.fold import Folder
from framefold.udfcore.plan import Plan
from framefold.udfcore.task import Partial, Task

MAX_RUNS = 4  # a head that vanished leaves its plans behind


@dataclass(frozen=True, slots=True)
class Shared:
    """Memory of the head process on this machine: an open file of its, and a range in it."""

    pid: int
    fd: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Payload:
    """A pickled plan; `shared` are its large arrays where they are in shared memory."""

    key: str
    header: bytes
    threads: int
    shared: tuple[Shared, ...] | None


@dataclass
class _Run:
    """One plan on this worker."""

    payload: Payload
    lock: threading.Lock = field(default_factory=threading.Lock)
    cancelled: threading.Event = field(default_factory=threading.Event)
    folders: dict[tuple[int, int], tuple[Folder, threading.Lock]] = field(default_factory=dict)
    patches: dict[int, Any] = field(default_factory=dict)
    plan: Plan | None = None
    limits: ExitStack = field(default_factory=ExitStack)


_runs: OrderedDict[str, _Run] = OrderedDict()
_lock = threading.Lock()


def register(payload: Payload) -> None:
    """Know a plan from now on."""
    with _lock:
        if payload.key not in _runs:
            _runs[payload.key] = _Run(payload)
        while len(_runs) > MAX_RUNS:
            _end(_runs.popitem(last=False)[1])


def add_patches(key: str, version: int, patches: bytes) -> None:
    """Know changed parameters of a plan; large ones come this way, once instead of with every task."""
    run = _runs.get(key)
    if run is not None:
        run.patches = {**run.patches, version: patches}


def forget(key: str) -> None:
    """Drop a plan with its folders; folds that still run stop."""
    with _lock:
        run = _runs.pop(key, None)
    if run is not None:
        _end(run)


def _end(run: _Run) -> None:
    run.cancelled.set()
    run.limits.close()


def known() -> list[str]:
    """Return the keys of the plans that are kept here."""
    return list(_runs)


def fold_task(key: str, life: int, worker: str, task: Task, alone: bool, arrays: Any) -> Any:
    """Fold one partition, see `_fold`, and send what it prints to the head."""
    with speaking(worker):
        return _fold(key, life, worker, task, alone, arrays)


def _fold(key: str, life: int, worker: str, task: Task, alone: bool, arrays: Any) -> Any:
    """Fold one partition.

    Parameters
    ----------
    key
        Of the plan.
    life
        How often the head gave this worker up: large buffers of earlier lives are folded again elsewhere.
    worker
        Name of this worker, for messages.
    task
        What to fold.
    alone
        Use a folder of its own: large buffers of this partition are at the head already.
    arrays
        Large arrays of the plan, where they did not come by shared memory.

    Returns
    -------
    A list of the `Partial` and perhaps the delta of the large buffers so far, or `Missing`, `CannotLoad`,
    `Failure`, or None if the run was cancelled.
    """
    run = _runs.get(key)
    if run is None:
        return Missing()
    try:
        plan = _plan(run, arrays)
        if task.params_version and not task.patches:
            if task.params_version not in run.patches:
                return Missing()
            task = _with_patches(run, task)
    except Exception as exc:  # noqa: BLE001  # a module that is missing, old, or fails when it is imported
        return cannot_load(exc)
    try:
        if alone:
            return [Folder(plan, worker, run.payload.threads).fold(task, run.cancelled)]
        folder, lock = _folder(run, plan, life, worker)
        with lock:
            partial = folder.fold(task, run.cancelled)
            return [partial, folder.flush()] if folder.flush_due else [partial]
    except UDFRunCancelled:
        return None
    except BaseException as exc:  # noqa: BLE001  # travels to the head, which raises it
        return as_failure(exc)


def flush_task(key: str, life: int) -> Any:
    """Return the deltas of the large buffers of all folders of a plan in this life, or `Missing`."""
    run = _runs.get(key)
    if run is None:
        return Missing()
    deltas: list[Partial] = []
    for (born, _), (folder, lock) in list(run.folders.items()):
        if born != life:
            continue
        with lock:
            delta = folder.flush()
        if delta is not None:
            deltas.append(delta)
    return deltas


def call_pickled(function: bytes, item: bytes) -> Any:
    """Return ``("ok", function(item))``, `CannotLoad` or `Failure`."""
    try:
        fn, arg = pickle.loads(function), pickle.loads(item)  # noqa: S301  # from the head that started this task
    except Exception as exc:  # noqa: BLE001  # as above
        return cannot_load(exc)
    import distributed  # noqa: PLC0415  # loaded on workers anyway

    try:
        with speaking(str(distributed.get_worker().name)):
            return "ok", fn(arg)
    except BaseException as exc:  # noqa: BLE001  # travels to the head, which raises it
        return as_failure(exc)


def _plan(run: _Run, arrays: Any) -> Plan:
    with run.lock:
        if run.plan is None:
            payload = run.payload
            buffers = [_attach(s) for s in payload.shared] if payload.shared is not None else list(arrays)
            run.plan = pickle.loads(payload.header, buffers=buffers)  # noqa: S301  # from the head of this run
            run.limits.enter_context(blas_threads(payload.threads))
        return run.plan


def _with_patches(run: _Run, task: Task) -> Task:
    with run.lock:
        patches = run.patches[task.params_version]
        if isinstance(patches, bytes):
            patches = pickle.loads(patches)  # noqa: S301  # from the head of this run
            run.patches = {**run.patches, task.params_version: patches}
        return replace(task, patches=patches)


def _attach(shared: Shared) -> Any:
    """Map memory of the head; private, so that arrays are writable as they are on the head."""
    with open(f"/proc/{shared.pid}/fd/{shared.fd}", "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), shared.nbytes, access=mmap.ACCESS_COPY))


def _folder(run: _Run, plan: Plan, life: int, worker: str) -> tuple[Folder, threading.Lock]:
    # UDFs that thread inside get one lane per process
    key = life, 0 if plan.max_lanes == 1 else threading.get_ident()
    with run.lock:
        found = run.folders.get(key)
        if found is None:
            found = run.folders[key] = (Folder(plan, worker, run.payload.threads), threading.Lock())
            _limit_numba(run.payload.threads)
        return found


def _limit_numba(threads: int) -> None:
    """Limit parallel numba kernels called from this thread."""
    if "numba" in sys.modules:
        import numba  # noqa: PLC0415  # waits where another thread is importing it just now

        most = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
        numba.set_num_threads(max(1, min(threads, most)))
