"""The object on a worker that keeps its share of the frames and iterates in step with the others."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import ExecutorError
from framefold.executor.iterate_comm import make_comm
from framefold.executor.iterate_host import HostLoop
from framefold.executor.iterate_links import Door, LinkLost, Links, Offer
from framefold.executor.iterate_load import Residency, allocate_frames, read_frames
from framefold.executor.iterate_reduce import Comm
from framefold.executor.iterate_team import LoopState, Standing, copied, standing
from framefold.executor.local import LocalExecutor
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.iterative import IterativeUDF
from framefold.udfcore.plan import RunOptions

Array = npt.NDArray[Any]
KEEP_SECONDS = 1.0  # between two copies of the loop state: what a dying worker costs, or one iteration
JOIN_SECONDS = 30.0
ITERATE, KEEP = 1, 2


@dataclass(frozen=True)
class Share:
    """Which frames a worker keeps.

    Attributes
    ----------
    first, stop
        Rows in the order of the UDF.
    ids
        Their flat dataset indices.
    neighbours
        Workers that share the memory of this machine.
    frames
        The frames themselves, where the worker cannot read them.
    """

    first: int
    stop: int
    ids: npt.NDArray[np.int64]
    neighbours: int = 1
    frames: Array | None = None


class IterateWorker:
    """One process of an iterative reduction.

    All methods are coroutines that leave the event loop free. Rank 0 is steered by the head; the others do
    as it does, told by a number that is joined before each iteration.
    """

    def __init__(self, rank: int) -> None:
        self._door: Door | None = None
        self._links: Links | None = None
        self._comm: Comm | None = None
        self._loop: HostLoop | None = None
        self._frames: Array | None = None
        self._first = 0
        self._kept: LoopState | None = None
        self._kept_at = 0.0
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._busy = threading.Lock()
        self._closing = False

    # --- before it begins --------------------------------------------------------------------

    async def offer(self, only_here: bool) -> Offer:
        """Listen for the others, and return where; `only_here`: on the loopback interface."""
        self._door = Door("127.0.0.1" if only_here else own_host())
        return self._door.offer

    async def open(
        self, udf: type[IterativeUDF], kwargs: dict[str, Any], setup: Any, dataset: Dataset | None,
        run: RunOptions, sample: Array, residency: Residency, lanes: int | None,
    ) -> None:  # fmt: skip
        """Know what is reduced, and how."""
        self._udf = udf(**kwargs)
        self._udf.setup = setup
        self._dataset, self._run, self._residency = dataset, run, residency
        kept = self._udf.keep(sample[:1])
        self._shape, self._dtype = kept.shape[1:], kept.dtype
        self._lanes = lanes or own_threads()

    async def take(self, share: Share) -> None:
        """Keep the frames of a share; what is here already is not read again."""
        await asyncio.to_thread(self._take, share)

    def _take(self, share: Share) -> None:
        if self._loop is not None:
            self._loop.close()
            self._loop = None
        old, at = self._frames, self._first
        if old is not None and (at, at + len(old)) == (share.first, share.stop):
            return
        n = share.stop - share.first
        frames = allocate_frames((n, *self._shape), self._dtype, self._residency, share.neighbours)
        missing = np.ones(n, bool)
        if old is not None:
            a, b = max(share.first, at), min(share.stop, at + len(old))
            if a < b:
                frames[a - share.first : b - share.first] = old[a - at : b - at]
                missing[a - share.first : b - share.first] = False
        rows = np.flatnonzero(missing)
        if share.frames is not None:
            frames[rows] = share.frames[rows]
        elif len(rows):
            assert self._dataset is not None
            read_frames(
                LocalExecutor(self._lanes), self._dataset, self._run, self._udf, share.ids[rows], rows, frames
            )
        self._frames, self._first = frames, share.first

    async def join(self, rank: int, offers: Sequence[Offer]) -> None:
        """Connect to the others."""
        await asyncio.to_thread(self._join, rank, offers)

    def _join(self, rank: int, offers: Sequence[Offer]) -> None:
        assert self._door is not None
        self._links = self._door.connect(rank, offers)
        self._comm = make_comm(self._links, offers)

    async def begin(self, state: LoopState | None, notes: Sequence[str], total: int) -> None:
        """Make the loop, and follow rank 0; `total`: frames on all workers."""
        await asyncio.to_thread(self._begin, state, notes, total)

    def _begin(self, state: LoopState | None, notes: Sequence[str], total: int) -> None:
        assert self._frames is not None
        assert self._comm is not None
        udf = self._udf.copy()
        assert isinstance(udf, IterativeUDF)
        udf.setup = self._udf.setup
        udf.notes[:] = notes
        self._error = None
        self._loop = HostLoop(udf, self._frames, self._first, self._lanes, self._comm, total)
        if state is not None:
            self._loop.restore(state.loop, state.history, state.iteration)
        self._keep()
        if self._comm.rank:
            self._thread = threading.Thread(target=self._follow, name="framefold-iterate", daemon=True)
            self._thread.start()

    # --- while it runs -----------------------------------------------------------------------

    def _said(self, command: int) -> int:
        """Return what rank 0 says."""
        assert self._comm is not None
        word = np.array([command], np.int64)
        self._comm.allreduce([(word, "max")])
        return int(word[0])

    def _follow(self) -> None:
        assert self._loop is not None
        try:
            while True:
                if self._said(0) & KEEP:
                    self._keep()
                self._loop.iterate()
        except BaseException as exc:  # noqa: BLE001  # the head asks for it
            self._give_up(exc)

    def _give_up(self, exc: BaseException) -> None:
        """Remember what went wrong, and let the others know by closing the connections."""
        self._error = exc
        if self._links is not None:
            self._links.close()

    async def advance(self, seconds: float, limit: int) -> Standing:
        """Iterate, on rank 0, and all others with it."""
        return await asyncio.to_thread(self._advance, seconds, limit)

    def _advance(self, seconds: float, limit: int) -> Standing:
        loop, until = self._loop, time.monotonic() + seconds
        if loop is None or self._error is not None:
            raise LinkLost("the iteration on this worker is over") from self._error
        try:
            with self._busy:
                while True:
                    keep = time.monotonic() - self._kept_at >= KEEP_SECONDS
                    self._said(ITERATE | KEEP if keep else ITERATE)
                    if keep:
                        self._keep()
                    why = loop.iterate()
                    if why or loop.iteration >= limit or time.monotonic() >= until or self._closing:
                        return standing(loop, why)
        except BaseException as exc:
            self._give_up(exc)
            raise

    def _keep(self) -> None:
        assert self._loop is not None
        self._kept, self._kept_at = copied(self._loop), time.monotonic()

    async def publish(self) -> dict[str, Array]:
        """Return copies of the results."""
        return await asyncio.to_thread(self._made().publish)

    async def state(self) -> LoopState:
        """Return the loop state as it is."""
        return await asyncio.to_thread(copied, self._made())

    async def finish(self) -> tuple[str, ...]:
        """Put the last touches to the loop state; return what the UDF said."""
        loop = self._made()
        await asyncio.to_thread(loop.udf.finish)
        return tuple(loop.udf.notes)

    def _made(self) -> HostLoop:
        if self._loop is None:
            raise ExecutorError("the iteration on this worker has not begun")
        return self._loop

    # --- when something went wrong -----------------------------------------------------------

    async def check(self) -> None:
        """End what runs here; raise what ended it, if it was not somebody else's end."""
        await asyncio.to_thread(self._rest)
        if self._error is not None and not isinstance(self._error, LinkLost):
            raise self._error

    def _rest(self) -> None:
        """Break the connections and wait until nothing iterates here."""
        if self._links is not None:
            self._links.close()
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS)
            self._thread = None
        with self._busy:
            pass

    async def kept(self) -> int:
        """Return of which iteration there is a copy; -1: none."""
        return -1 if self._kept is None else self._kept.iteration

    async def recall(self) -> LoopState | None:
        """Return the copy."""
        return self._kept

    async def close(self) -> None:
        """End it."""
        self._closing = True
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        self._rest()
        if self._door is not None:
            self._door.close()
        if self._loop is not None:
            self._loop.close()
        if self._comm is not None:
            self._comm.close()
        self._frames = self._loop = self._kept = None


def make_worker(rank: int) -> IterateWorker:
    """Return the object of a session."""
    return IterateWorker(rank)


def _this_worker(read: Callable[[Any], Any], otherwise: Any) -> Any:
    """Return something of the dask worker in this process."""
    from distributed import Worker  # noqa: PLC0415  # on dask workers only

    for worker in Worker._instances:
        return read(worker)
    return otherwise


def own_threads() -> int:
    """Return how many threads the dask worker in this process has."""
    return int(_this_worker(lambda w: w.state.nthreads, 1))


def own_host() -> str:
    """Return the address under which other workers know this one.

    Raises
    ------
    ExecutorError
        On an encrypted cluster: sums would travel in the open.
    """
    scheme, _, rest = _this_worker(lambda w: w.address, "tcp://127.0.0.1:0").partition("://")
    if scheme == "tls":
        raise ExecutorError(
            "iterations over several hosts of an encrypted cluster would send their sums in the open: use "
            "workers of one host, or the threads of this process (Context())"
        )
    return str(rest.rpartition(":")[0].strip("[]"))
