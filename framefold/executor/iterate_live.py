"""Iterations over a stream: frames take part from the first iteration after they came."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, StreamError
from framefold.executor.drive import Run
from framefold.executor.iterate_host import HostLoop
from framefold.executor.iterate_load import SAMPLE, LoadUDF, Residency, allocate_frames
from framefold.executor.iterate_team import LocalTeam, Standing, standing
from framefold.udfcore.iterative import DataInfo, IterativeUDF
from framefold.udfcore.udf import UDF

Array = npt.NDArray[Any]
FEW = 16  # frames: enough to begin with, where the detector is slow
SLOW_SECONDS = 2.0


class Arrivals:
    """The frames of one acquisition, received in a thread of its own.

    Until their places are known they are kept as they came.

    Parameters
    ----------
    open_run
        Returns the live run of a UDF; called by `open`.
    """

    def __init__(self, open_run: Callable[[UDF], Run]) -> None:
        self._open_run = open_run
        self._changed = threading.Condition()
        self._early: list[tuple[npt.NDArray[np.int64], Array]] = []
        self._put: Callable[[npt.NDArray[np.int64], Array], None] | None = None
        self._fresh: list[npt.NDArray[np.int64]] = []
        self._thread: threading.Thread | None = None
        self._run: Run | None = None
        self._first: float | None = None
        self.error: BaseException | None = None
        self.over = False
        self.count = 0

    @property
    def run(self) -> Run:
        """The run that receives."""
        assert self._run is not None
        return self._run

    def open(self) -> None:
        """Open the stream, and receive from now on."""
        self._run = self._open_run(LoadUDF(self))
        assert self._run.plan.live is not None
        if self._run.plan.live.geometry.endless:
            self._run.release()
            raise DataError(
                f"{self._run.plan.dataset.name} does not say how many frames will come, which an iteration "
                "needs to know: give nav_shape="
            )
        self._thread = threading.Thread(target=self._receive, name="framefold-arrivals", daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        try:
            for _ in self.run.partials():
                pass
        except BaseException as exc:  # noqa: BLE001  # raised where the frames are asked for
            self.error = exc
        finally:
            with self._changed:
                self.over = True
                self._changed.notify_all()

    def put(self, ids: npt.NDArray[np.int64], tile: Array) -> None:
        """Take frames; called by the threads that receive."""
        ids = np.array(ids)
        with self._changed:
            if self._put is None:
                self._early.append((ids, np.array(tile)))
            else:
                self._put(ids, tile)
            self._fresh.append(ids)
            self.count += len(ids)
            self._first = self._first or time.monotonic()
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait until there are enough frames to begin with.

        Raises
        ------
        StreamError
            If none comes; or what ended the acquisition.
        """
        wanted = min(SAMPLE, self.run.plan.n_rows)
        few = min(FEW, wanted)
        with self._changed:
            while not self.over and self.count < wanted:
                slow = self._first is not None and time.monotonic() - self._first > SLOW_SECONDS
                if slow and self.count >= few:
                    break
                self._changed.wait(0.1)
        self.check()
        if not self.count:
            raise StreamError(
                f"{self.run.plan.dataset.name}: no whole frame came, there is nothing to reduce"
            )

    def check(self) -> None:
        """Raise what ended the acquisition, if that was an error."""
        if self.error is not None:
            raise self.error

    def sample(self) -> tuple[npt.NDArray[np.int64], Array]:
        """Return indices and values of some frames that have come, spread over them."""
        with self._changed:
            ids = np.concatenate([i for i, _ in self._early])
            frames = np.concatenate([tile for _, tile in self._early])
        order = np.argsort(ids)
        picked = order[np.unique(np.linspace(0, len(order) - 1, min(SAMPLE, len(order))).astype(np.int64))]
        return ids[picked], frames[picked]

    def settle(self, put: Callable[[npt.NDArray[np.int64], Array], None]) -> None:
        """Hand all frames to `put`, those that came before first."""
        with self._changed:
            for ids, tile in self._early:
                put(ids, tile)
            self._early, self._put = [], put

    def take(self) -> npt.NDArray[np.int64]:
        """Return the indices of frames that came since the last call."""
        with self._changed:
            fresh, self._fresh = self._fresh, []
        return np.concatenate(fresh) if fresh else np.zeros(0, np.int64)

    def stop(self) -> None:
        """End the acquisition; what has come stays."""
        if self._run is not None:
            self._run.stop()

    def close(self) -> None:
        """End the acquisition and wait for the thread."""
        if self._run is not None:
            self._run.cancel()
            self._run.closing.close()
        if self._thread is not None:
            self._thread.join()
        self._early, self._put = [], None


class LiveTeam(LocalTeam):
    """Threads of this process, and frames that still come.

    Parameters
    ----------
    udf
        With `setup`.
    arrivals
        The frames.
    info
        Which frames may come.
    sample
        One of them.
    residency, lanes
        As in `IterateOptions`.
    """

    def __init__(
        self, udf: IterativeUDF, arrivals: Arrivals, info: DataInfo, residency: Residency, lanes: int
    ) -> None:
        self._arrivals = arrivals
        order = udf.get_order()
        self._ordered = info.frame_ids if order is None else info.frame_ids[order]
        self._place = np.full(info.dataset.shape.nav.size, -1, np.int64)
        self._place[self._ordered] = np.arange(len(self._ordered))
        kept = udf.keep(info.sample[:1])
        frames = allocate_frames((len(self._ordered), *kept.shape[1:]), kept.dtype, residency)

        def put(ids: npt.NDArray[np.int64], tile: Array) -> None:
            rows = self._place[ids]
            frames[rows] = udf.keep(tile)

        arrivals.settle(put)
        first = self._place[arrivals.take()]
        super().__init__(lambda: HostLoop(udf, frames, 0, lanes, present=np.unique(first)))
        self._whole_at: int | None = None

    def advance(self, seconds: float, limit: int) -> Standing:
        """Let what came take part, and do one iteration; iterations count when no more frames come."""
        loop, arrivals = self.loop, self._arrivals
        over = arrivals.over  # before the last frames are taken
        arrivals.check()
        fresh = np.unique(self._place[arrivals.take()])
        if len(fresh) or (over and loop.udf.growing):
            loop.grow(fresh, growing=not over)
        if over and self._whole_at is None:
            self._whole_at = loop.iteration
        now = standing(loop, loop.iterate())
        counted = 0 if self._whole_at is None else now.iteration - self._whole_at
        return replace(now, why=now.why if over else False, counted=counted)

    @property
    def present(self) -> npt.NDArray[np.int64] | None:
        """Flat dataset indices of the frames that take part."""
        return self._ordered[self.loop.udf.present]

    def stop(self) -> None:
        """End the acquisition."""
        self._arrivals.stop()

    def report(self) -> Mapping[str, Any]:
        """Return how the frames came."""
        return {"live": dict(self._arrivals.run.report())}

    def close(self) -> None:
        """End the acquisition, if it still runs, and the threads."""
        self._arrivals.close()
        super().close()
