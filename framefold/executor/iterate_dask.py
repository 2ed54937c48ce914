"""Iterations on dask workers: the head opens sessions, steers the first of them, and mends the team."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import ExecutorError
from framefold.executor.base import Session
from framefold.executor.dask_session import WorkerGone
from framefold.executor.iterate_links import LinkLost, Offer
from framefold.executor.iterate_load import Residency, load_frames
from framefold.executor.iterate_team import LoopState, Standing
from framefold.executor.iterate_worker import Share, make_worker
from framefold.executor.local import LocalExecutor
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.iterative import DataInfo, IterativeUDF
from framefold.udfcore.plan import RunOptions

log = logging.getLogger("framefold")
Array = npt.NDArray[Any]
PULSE_SECONDS = 0.5  # between two words with the head
MOST_LOSSES = 5
RETURN_SECONDS = 15.0  # in which a process of this machine is started again


class DaskTeam:
    """Sessions on dask workers that keep the frames; the scheduler takes no part in iterations.

    Parameters
    ----------
    executor
        A `DaskExecutor`.
    udf
        The head's object, with `setup`.
    dataset, run
        What is reduced.
    info
        Which frames there are, and a sample.
    ordered
        Flat dataset indices in the order of the UDF.
    residency, lanes
        As in `IterateOptions`; lanes are per worker.
    """

    def __init__(
        self, executor: Any, udf: IterativeUDF, dataset: Dataset, run: RunOptions, info: DataInfo,
        ordered: npt.NDArray[np.int64], residency: Residency, lanes: int | None,
    ) -> None:  # fmt: skip
        self._executor = executor
        self._udf = udf
        self._ids = ordered
        far = dataset.source.identity.startswith("memory:")  # workers cannot read what is in this process
        self._open_args = (
            type(udf), udf._kwargs, udf.setup, None if far else dataset, run, info.sample[:1], residency,
            lanes,
        )  # fmt: skip
        self._resident: Array | None = None
        if far:
            self._resident = load_frames(LocalExecutor(), dataset, run, udf, ordered, info.sample, residency)
        self._sessions: list[Session] = []
        self._at: list[str] = []
        self._losses: list[str] = []
        self._gone: list[int] = []
        self._dead: set[str] = set()
        self._broken: BaseException | None = None
        self._done = 0
        wanted = list(executor.workers_in_order())[: len(ordered)]
        try:
            for address in wanted:
                self._open(address)
        except BaseException:
            self.close()
            raise

    def _open(self, address: str) -> None:
        session = self._executor.open_session_on(make_worker, address)
        self._sessions.append(session)
        self._at.append(address)
        session.call("open", *self._open_args)

    def _all(self, method: str, *args: Any) -> list[Any]:
        """Call all sessions at the same time; arguments are given for each of them, in a list."""
        with ThreadPoolExecutor(len(self._sessions)) as pool:
            calls = [pool.submit(s.call, method, *(a[i] for a in args)) for i, s in enumerate(self._sessions)]
            return [c.result() for c in calls]

    def begin(self, state: LoopState | None) -> None:
        """Deal the frames, connect the workers, and make their loops."""
        n = len(self._sessions)
        offers: list[Offer] = self._all("offer", [self._executor.local] * n)
        cuts = [len(self._ids) * i // n for i in range(n + 1)]
        places = [o.place for o in offers]
        shares = [
            Share(
                a, b, self._ids[a:b], places.count(place),
                None if self._resident is None else np.asarray(self._resident[a:b]),
            )
            for a, b, place in zip(cuts, cuts[1:], places, strict=False)
        ]  # fmt: skip
        self._all("take", shares)
        self._all("join", list(range(n)), [offers] * n)
        self._all("begin", [state] * n, [tuple(self._udf.notes)] * n, [len(self._ids)] * n)

    def advance(self, seconds: float, limit: int) -> Standing:
        """Iterate for so long; a worker that dies meanwhile is replaced, or its frames go to the others."""
        while True:
            try:
                if self._broken is not None:
                    self._mend(self._broken)
                found: Standing = self._sessions[0].call("advance", min(seconds, PULSE_SECONDS), limit)
            except (WorkerGone, LinkLost) as exc:
                self._broken = exc
            else:
                self._done = found.iteration
                self._udf.notes[:] = found.notes
                return found

    @property
    def present(self) -> npt.NDArray[np.int64] | None:
        """None: all frames take part."""
        return None

    def publish(self) -> dict[str, Array]:
        """Return the results of the first worker; all have the same."""
        found: dict[str, Array] = self._sessions[0].call("publish")
        return found

    def state(self) -> LoopState:
        """Return what a checkpoint needs."""
        found: LoopState = self._sessions[0].call("state")
        return found

    def finish(self) -> None:
        """Put the last touches to the loop state."""
        self._udf.notes[:] = self._sessions[0].call("finish")

    def report(self) -> Mapping[str, Any]:
        """Return where it ran, and what was lost."""
        return {"workers": len(self._sessions), "lost_workers": list(self._losses)}

    def close(self) -> None:
        """Close the sessions; nothing happens where a worker is gone."""
        with ThreadPoolExecutor(max(1, len(self._sessions))) as pool:
            list(pool.map(_close, self._sessions))
        self._sessions, self._at, self._resident = [], [], None

    # --- workers that die --------------------------------------------------------------------

    def _mend(self, cause: BaseException) -> None:
        """Go on with the last copy of the loop state on the workers that are left.

        Raises
        ------
        ExecutorError
            If none is left, or workers die again and again. Errors of the UDF are raised as they are.
        """
        alive = self._look(cause)
        newest = int(np.argmax([s.call("kept") for s in alive]))
        state: LoopState | None = alive[newest].call("recall")
        self._refill()
        self.begin(state)
        n = 0 if state is None else state.iteration
        log.warning("%s; going on from iteration %d on %d workers", self._losses[-1], n, len(self._sessions))
        self._broken = None

    def _look(self, cause: BaseException) -> list[Session]:
        """Ask all workers how they are; forget those that do not answer, and return the others."""
        with ThreadPoolExecutor(len(self._sessions)) as pool:
            answers = list(pool.map(_ask, self._sessions))
        for error in answers:
            if isinstance(error, BaseException) and not isinstance(error, WorkerGone):
                raise error
        gone = [i for i, a in enumerate(answers) if isinstance(a, WorkerGone)]
        names = ", ".join(repr(self._sessions[i]).rpartition(" ")[2].rstrip(">") for i in gone)
        what = f"worker {names} died" if gone else f"the workers lost one another ({cause})"
        self._losses.append(f"{what} after iteration {self._done}")
        self._dead.update(self._at[i] for i in gone)  # the scheduler may not know yet
        for i in reversed(gone):
            del self._sessions[i], self._at[i]
        self._gone = gone
        if not self._sessions or len(self._losses) > MOST_LOSSES:
            raise ExecutorError(
                f"{self._losses[-1]}, {'none is left' if not self._sessions else 'once too often'}: the "
                "state is lost. With checkpoint=FILE, resume=FILE goes on from the last one"
            ) from cause
        return list(self._sessions)

    def _refill(self) -> None:
        """Put other workers in the places of those that are gone, if there are any."""
        deadline = time.monotonic() + (RETURN_SECONDS if self._executor.local else 0.0)
        for place in self._gone:
            while True:
                used = self._dead.union(self._at)
                spare = [a for a in self._executor.workers_in_order() if a not in used]
                if spare or time.monotonic() > deadline:
                    break
                time.sleep(0.1)
            if not spare:
                return
            with contextlib.suppress(WorkerGone):
                self._open(spare[0])
                # in the old place: the others keep the frames that they have
                self._sessions.insert(place, self._sessions.pop())
                self._at.insert(place, self._at.pop())


def _ask(session: Session) -> BaseException | None:
    """Return what is wrong with a worker: gone, or what its UDF raised; None: nothing."""
    try:
        session.call("check")
    except ExecutorError as exc:
        return exc if isinstance(exc, WorkerGone) else WorkerGone(str(exc))
    except Exception as exc:  # noqa: BLE001  # raised by the caller
        return exc
    return None


def _close(session: Session) -> None:
    with contextlib.suppress(ExecutorError):
        session.close()
