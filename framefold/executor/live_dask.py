"""Where dask workers receive a detector: sessions are opened, connected, and replaced when one is lost."""

from __future__ import annotations

import contextlib
import functools
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from framefold.errors import ExecutorError, StreamError
from framefold.executor.base import Session
from framefold.executor.live_drive import DaskDrive
from framefold.executor.live_session import LiveWorker
from framefold.executor.shuffle_wire import Address
from framefold.udfcore.live import AcquisitionStart, FirstFrame, Layout, LiveSource
from framefold.udfcore.live_share import Share, shares
from framefold.udfcore.plan import Plan
from framefold.udfcore.planning import in_order

log = logging.getLogger("framefold")
LOOK_SECONDS = 2.0


def _make(source: LiveSource, sectors: tuple[int, ...] | None, name: str, rank: int) -> LiveWorker:
    return LiveWorker(source, sectors, name)


class DaskStation:
    """A detector that is received on one worker, or its sectors on several (``placement=``)."""

    def __init__(self, source: LiveSource, executor: Any) -> None:
        self._source = source
        self._executor = executor
        self._groups = _groups(source)
        self._layout: Layout = "pieces"
        self._starts: list[AcquisitionStart | None] = []
        self._addresses: dict[int, Address] = {}
        self._offer: tuple[Any, ...] = ()  # what every worker is told that puts frames together
        self._lost: set[int] = set()
        self._elects = False
        self._drive: DaskDrive | None = None
        self._sessions: list[Session] = []
        timeout = source.options.start_timeout
        try:
            for rank, (where, _) in enumerate(self._groups):
                self._sessions.append(self._open(source, rank, where, timeout))
        except BaseException:
            self.close()
            raise

    def _open(self, source: LiveSource, rank: int, where: str | None, timeout: float | None) -> Session:
        name, sectors = self._groups[rank]
        make = functools.partial(_make, source, sectors, name or "receiver")
        session: Session = self._executor.open_session_at(make, where, timeout, rank)
        return session

    @property
    def groups(self) -> int:
        """Processes that receive."""
        return len(self._groups)

    def _all(self, method: str, *args: Any) -> list[Any]:
        """Call all sessions at the same time."""
        with ThreadPoolExecutor(len(self._sessions)) as pool:
            return list(pool.map(lambda s: s.call(method, *args), self._sessions))

    def prepare(self, layout: Layout) -> AcquisitionStart | None:
        """Bind or connect, on the workers."""
        self._layout = layout if self.groups == 1 else "pieces"
        starts = self._starts = self._all("prepare", self._layout)
        if self.groups == 1 or starts[0] is None:
            return starts[0]
        self._elects = all(self._all("hold"))
        sectors = sorted((s for start in starts for s in start.sectors), key=lambda s: s.index)
        return replace(starts[0], sectors=tuple(sectors))

    def shares(self, plan: Plan) -> list[tuple[Share | None, Share | None]]:
        """Return what each worker folds: on its own sectors, and on whole frames of every n-th block."""
        if self.groups == 1:
            return [shares(plan, None)]
        assert plan.live is not None
        return [shares(plan, own) for own in self._own(plan.live.geometry.start)]

    def _own(self, start: AcquisitionStart) -> list[tuple[int, ...]]:
        at = {s.index: i for i, s in enumerate(start.sectors)}
        return [tuple(at[i] for i in sectors or ()) for _, sectors in self._groups]

    def warm(self, plan: Plan) -> None:
        """Compile what the folds will call, and connect the workers if frames must be put together."""
        assert plan.live is not None
        apart = {p.name: reason for p, reason in zip(plan.udfs, plan.live.apart, strict=True) if reason}
        if self.groups > 1 and apart and not self._addresses:
            name, reason = next(iter(apart.items()))
            more = f" (and {len(apart) - 1} more)" if len(apart) > 1 else ""
            log.info("sectors of %d workers are put together to whole frames: %s: %s%s",
                     self.groups, name, reason, more)  # fmt: skip
            start = plan.live.geometry.start
            own = self._own(start)
            tee = not all(plan.live.apart)
            # who wants partitions in order gets them from one worker
            owners = (0,) if in_order([u.cls for u in plan.udfs], plan.options) else None
            self._offer = own, start, tee, owners
            found = {r: s.call("offer", r, *self._offer) for r, s in enumerate(self._sessions)}
            self._all("join", found)
            self._addresses = found
        with ThreadPoolExecutor(self.groups) as pool:
            given = zip(self._sessions, self.shares(plan), strict=True)
            list(pool.map(lambda p: p[0].call("warm", *p[1]), given))

    def drive(self) -> DaskDrive:
        """Return what runs the next acquisition."""
        self._all("arm")
        self._drive = DaskDrive(self._sessions, self._source, self.shares, lambda: self._elects, self.reopen)
        return self._drive

    def reopen(self, rank: int, first: FirstFrame | None, plan: Plan) -> bool:
        """Receive the sectors of a lost worker again, in the acquisition that runs; False: that cannot be.

        Parameters
        ----------
        rank
            Of the lost session.
        first
            The first frame of the acquisition; None: not known.
        plan
            Of the run.

        Raises
        ------
        ExecutorError, StreamError
            If it did not work now.
        """
        old = self._sessions[rank]
        source, start = self._source, self._starts[rank]
        if first is None or start is None or not hasattr(source, "bound_as"):
            return False
        self._lost.add(rank)
        where = self._groups[rank][0]
        source = source.bound_as(start)
        try:
            new = self._open(source, rank, where, LOOK_SECONDS)
        except ExecutorError:  # another worker of the same machine has the same network cards
            new = self._open(source, rank, getattr(old, "host", where), LOOK_SECONDS)
        try:
            new.call("prepare", self._layout)
            if not new.call("resume", first):
                new.close()
                return False
            here, whole = self.shares(plan)[rank]
            if self._addresses:
                self._join_again(rank, new)
            new.call("warm", here, whole)
            new.call("arm")
            new.call("begin", here, whole)
        except BaseException:
            with contextlib.suppress(ExecutorError):
                new.close()
            raise
        self._sessions[rank] = new
        return True

    def _join_again(self, rank: int, new: Session) -> None:
        """Connect a session that takes the place of a lost one with those that are left."""
        others = {r: self._sessions[r] for r in self._addresses if r not in self._lost - {rank} and r != rank}
        mine = new.call("offer", rank, *self._offer, tuple(self._lost))
        self._addresses[rank] = mine
        if not others:
            return
        run = max(s.call("acquisition") for s in others.values())
        new.call("rejoin", run)
        with ThreadPoolExecutor(len(others) + 1) as pool:
            joined = pool.submit(new.call, "join", {r: self._addresses[r] for r in others})
            for told in [pool.submit(s.call, "reconnect", rank, mine) for s in others.values()]:
                told.result()
            joined.result()

    def close(self) -> None:
        """End what runs, and close the streams; nothing happens where a worker is gone."""
        if self._drive is not None:
            self._drive.close()
        for session in self._sessions:
            with contextlib.suppress(ExecutorError):
                session.close()


def _groups(source: LiveSource) -> list[tuple[str | None, tuple[int, ...] | None]]:
    """Return which worker receives which sectors; the names None: any worker, all sectors."""
    placement = source.options.placement
    names = list(dict.fromkeys(placement.values()))
    if len(names) < 2:
        return [(names[0] if names else None, None)]
    start = source.known()
    if start is None:
        raise StreamError("placement= on several workers needs a detector whose sectors are known beforehand")
    missing = [s.index for s in start.sectors if s.index not in placement]
    unknown = sorted(set(placement) - {s.index for s in start.sectors})
    if missing or unknown:
        raise StreamError(
            f"placement= must name every sector once: {missing or 'none'} left out, "
            f"{unknown or 'none'} unknown"
        )
    return [(name, tuple(i for i, where in sorted(placement.items()) if where == name)) for name in names]
