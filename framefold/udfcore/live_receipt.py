"""Fold pieces in the threads that receive them, into large buffers that travel later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.backend import NUMPY
from framefold.udfcore.fold import Folder, joined_deltas
from framefold.udfcore.plan import Plan
from framefold.udfcore.task import LivePart, LiveTask, Partial
from framefold.udfcore.udf import UDFMethod

Array = npt.NDArray[Any]
MOST_OF_RECEIVING = 1.0  # a fold that costs more than receiving the data is better done by other threads
TRIED = 64  # folds of a thread that are timed before that is judged


def folds_on_receipt(plan: Plan) -> bool:
    """Tell whether pieces may be folded one by one as they come, before their block is closed.

    That is so where no UDF can tell the difference: tiles along pieces, missing ones left out; only signal
    buffers that merge themselves, so that nothing belongs to a block; compiled code that leaves other
    threads alone (``gil="free"``).
    """
    live = plan.live
    if live is None or live.geometry.endless or live.geometry.options.missing != "skip":
        return False
    if any(len(s.pieces) > 1 for s in live.geometry.start.sectors) or set(live.modes) != {"pieces"}:
        return False
    if plan.n_rows == 0 or any(lane.backend != NUMPY for lane in plan.lanes):
        return False
    return all(
        p.method is UDFMethod.TILE
        and p.cls.engine.gil == "free"
        and not p.cls.engine.effects
        and p.cls.engine.lanes is None
        and all(d.use == "result_only" or (d.kind == "sig" and k in p.resident) for k, d in p.decls.items())
        for p in plan.udfs
    )


class _Reader:
    """What one receiving thread has folded."""

    def __init__(self, plan: Plan) -> None:
        self.lock = threading.Lock()
        self.folder = Folder(plan, worker=threading.current_thread().name)
        assert plan.live is not None
        self.counts = np.zeros(plan.live.geometry.start.n_pieces, dtype=np.int64)
        self.task: LiveTask | None = None
        self.calls = 0
        self.since = 0.0  # CPU time of the thread after the last fold
        self.receiving = self.folding = 0.0
        self.caught: dict[str, int] = {}

    def count(self, kind: str, flag: int) -> None:
        """Count a warning of numpy."""
        self.caught[kind] = self.caught.get(kind, 0) + 1

    def take(self) -> tuple[tuple[dict[str, Array], ...], npt.NDArray[np.int64], dict[str, int]]:
        """Return the large buffers, the rows in them by piece and what numpy warned of, and start anew."""
        with self.lock:
            if self.task is not None:
                self.folder.finish()
                self.task = None
            counts, self.counts = self.counts, np.zeros_like(self.counts)
            caught, self.caught = self.caught, {}
            return self.folder.take_resident(), counts, caught


class FoldOnReceipt:
    """Folds the pieces of one acquisition as they come; see `Receipt`.

    Each thread that receives has buffers of its own. What is in them is shipped together with the blocks that
    were closed meanwhile.

    Parameters
    ----------
    plan
        One for which `folds_on_receipt` holds.
    fail
        Called with the error of a UDF.
    """

    def __init__(self, plan: Plan, fail: Callable[[BaseException], None]) -> None:
        self.active = True
        self._plan = plan
        self._fail = fail
        self._lock = threading.Lock()
        self._readers: dict[int, _Reader] = {}
        self._version: tuple[int, tuple[Mapping[str, Any], ...]] = (0, ())
        self._tasks: list[tuple[int, int, int]] = []
        self._frames = 0
        self._whole = 0.0
        self._closed: list[float] = []

    # --- where pieces arrive -----------------------------------------------------------------

    def hold(self) -> AbstractContextManager[Any]:
        """Return the lock of the buffers of this thread."""
        ident = threading.get_ident()
        reader = self._readers.get(ident)
        if reader is None:
            made = _Reader(self._plan)
            with self._lock:
                reader = self._readers.setdefault(ident, made)
        return reader.lock

    def fold(self, block: int, sector: int, first_frame: int, rows: Array) -> None:
        """Fold frames of a sector; the thread holds what `hold` returned."""
        reader = self._readers[threading.get_ident()]
        reader.calls += 1
        timed = reader.calls <= 2 * TRIED and reader.calls % 2 == 0  # what comes before, and the fold
        if timed:
            began = time.thread_time()
            reader.receiving += began - reader.since
        try:
            with np.errstate(divide="call", over="call", invalid="call", call=reader.count):
                for start, stop, part in self._wanted(first_frame, rows):
                    self._fold(reader, block, sector, start, stop, part)
        except Exception as exc:  # noqa: BLE001  # ends the run
            self.active = False
            self._fail(exc)
            return
        if reader.calls > 2 * TRIED:
            return
        reader.since = time.thread_time()
        if timed:
            reader.folding += reader.since - began
            if reader.calls == 2 * TRIED and reader.folding > MOST_OF_RECEIVING * reader.receiving:
                self.active = False

    def _fold(self, reader: _Reader, block: int, sector: int, start: int, stop: int, raw: Array) -> None:
        task = reader.task
        if task is None or task.index != block or not task.start <= start < task.stop:
            if task is not None:
                reader.folder.finish()
            version, patches = self._version
            task = LiveTask(block, start, self._plan.n_rows, version, patches)
            reader.folder.begin(task)
            reader.task = task
        reader.counts[reader.folder.receive(task, sector, raw, start)] += stop - start

    def _wanted(self, first_frame: int, raw: Array) -> list[tuple[int, int, Array]]:
        """Return ``(first row, last row + 1, their frames)`` of all that are rows of the run."""
        rows, n = self._plan.rows, len(raw)
        first = first_frame - rows.offset
        if rows.ids is None:
            a, b = max(0, first), min(rows.n_nav, first + n)
            return [(a, b, raw[a - first : b - first])] if a < b else []
        a, b = np.searchsorted(rows.ids, (first, first + n)).tolist()
        inside = rows.ids[a:b] - first
        cuts = [0, *(np.flatnonzero(np.diff(inside) != 1) + 1).tolist(), b - a]
        return [
            (a + i, a + j, raw[int(inside[i]) : int(inside[i]) + j - i])
            for i, j in zip(cuts[:-1], cuts[1:], strict=True)
            if i < j
        ]

    # --- where blocks are accounted for ------------------------------------------------------

    def update(self, version: int, patches: tuple[Mapping[str, Any], ...]) -> None:
        """Use other parameters for all blocks from now on."""
        self._version = version, patches
        for reader in list(self._readers.values()):
            reader.calls = 0

    @property
    def pending(self) -> bool:
        """Whether blocks were closed since buffers were taken."""
        return bool(self._tasks)

    def told(self, task: LiveTask, whole: int, live: LivePart, worker: str) -> Partial:
        """Note a closed block, and return the partial that tells of its frames."""
        ident = (task.index, task.start, task.stop)
        with self._lock:
            self._tasks.append(ident)
            self._frames += whole
            self._whole += live.whole
            self._closed += live.closed
        frame = self._plan.dataset.shape.sig.size * self._plan.dataset.dtype.itemsize
        return Partial(
            (ident,), tuple({} for _ in self._plan.udfs), frames=whole, bytes_read=whole * frame,
            params_version=task.params_version, worker=worker, live=live,
        )  # fmt: skip

    def take(self, worker: str) -> Partial | None:
        """Return everything folded so far, with the blocks that were closed; None: none was."""
        with self._lock:
            if not self._tasks:
                return None
            tasks, self._tasks = tuple(self._tasks), []
            frames, self._frames = self._frames, 0
            whole, closed = self._whole, self._closed
            self._whole, self._closed = 0.0, []
            found = [reader.take() for reader in self._readers.values()]
        total: Partial | None = None
        for arrays, counts, caught in found:
            live = LivePart(np.zeros(0, np.uint8), counts, whole, closed)
            part = Partial(
                tasks, arrays, frames=frames, params_version=self._version[0], worker=worker, delta=True,
                warnings=caught, live=live,
            )  # fmt: skip
            total = part if total is None else joined_deltas(self._plan, total, part)
            tasks, frames, whole, closed = (), 0, 0.0, []  # told once
        return total
