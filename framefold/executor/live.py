"""Runs on live streams: open the stream, plan, compile, say that all is ready, then fold what comes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from framefold.errors import StreamError
from framefold.executor.base import Executor
from framefold.executor.drive import LiveDrive, Run
from framefold.executor.live_local import LocalStation
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.events import Observer
from framefold.udfcore.live import AcquisitionStart, Layout, LiveReady
from framefold.udfcore.live_dataset import LiveDataset
from framefold.udfcore.plan import Plan, RunOptions
from framefold.udfcore.results import Saver, Snapshot
from framefold.udfcore.udf import UDF

LISTEN_SECONDS = 1.0


class Drive(LiveDrive, Protocol):
    """A `LiveDrive` from the side of whoever starts it.

    Attributes
    ----------
    closed
        Whether there is nothing left to stop.
    """

    closed: bool

    def wait_start(self) -> AcquisitionStart:
        """Wait for the announcement of the acquisition."""
        ...

    def begin(self, plan: Plan) -> None:
        """Take blocks from now on."""
        ...

    def listening(self, timeout: float) -> None:
        """Wait until the acquisition is taken, where that is possible before anything is sent."""
        ...

    def fail(self, exc: BaseException) -> None:
        """End the run with an error from elsewhere."""
        ...

    @property
    def frames(self) -> int:
        """Frames that have come."""
        ...


class Station(Protocol):
    """Where a detector is received: its sockets stay open over one or more acquisitions."""

    def prepare(self, layout: Layout) -> AcquisitionStart | None:
        """Bind or connect; see `Stream.prepare`."""
        ...

    def warm(self, plan: Plan) -> None:
        """Compile what the folds will call."""
        ...

    def drive(self) -> Drive:
        """Return what runs the next acquisition."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...


def open_station(executor: Executor, dataset: LiveDataset) -> Station:
    """Return where the executor receives the detector: in this process, or on workers."""
    if executor.processes:
        from framefold.executor.live_dask import DaskStation  # noqa: PLC0415  # loads dask

        return DaskStation(dataset.source, executor)
    return LocalStation(dataset.source, executor)


def open_live(
    executor: Executor,
    station: Station,
    dataset: LiveDataset,
    udfs: Sequence[UDF],
    options: Callable[[Dataset], RunOptions],
    *,
    prepared: bool = False,
    observers: Sequence[Observer] = (),
    validate: bool = True,
    provenance: Callable[[Dataset, RunOptions], Mapping[str, Any]] = lambda ds, opts: {},
    saver: Saver | None = None,
    on_ready: Callable[[LiveReady], Any] | None = None,
    opened: Callable[[Drive], Any] = lambda drive: None,
) -> Run:
    """Prepare everything for an acquisition and return its run; from then on nothing that is sent is missed.

    Parameters
    ----------
    executor, station
        Where the folds run, and where the detector is received.
    dataset
        The detector.
    udfs
        What is folded.
    options
        Returns the options of the run, when shape and dtype are known.
    prepared
        The station has served an acquisition of the same UDFs before.
    on_ready
        Called in a thread of its own when everything listens; an exception of it ends the run.
    opened
        Gets what can stop the acquisition, before anything can wait.

    Raises
    ------
    StreamError
        If the stream cannot be opened, or does not announce itself in time.
    """
    url = dataset.source.url
    drive = station.drive()
    opened(drive)
    run: Run | None = None

    def make(bound: Dataset) -> Run:
        opts = options(bound)
        return Run(
            executor, bound, udfs, opts, observers=observers, validate=validate,
            provenance=lambda: provenance(bound, opts), saver=saver, live=drive,
        )  # fmt: skip

    try:
        bound = dataset.known()
        told = False
        if bound is not None:
            run = make(bound)
            assert run.plan.live is not None
            start = run.plan.live.geometry.start
            if not prepared:
                # ports that were free to choose are known now
                start = station.prepare(run.plan.live.layout) or start
        else:
            announced = None if prepared else station.prepare(_likely_layout(udfs))
            if announced is None:
                _tell_ready(on_ready, LiveReady(url, None), drive)
                told = True
                announced = drive.wait_start()
            start = announced
            run = make(dataset.bind(start))
        if not prepared:
            station.warm(run.plan)
        drive.begin(run.plan)
        if not told:
            if on_ready is not None:
                drive.listening(LISTEN_SECONDS)
            _tell_ready(on_ready, LiveReady(url, start, tuple(s.endpoint for s in start.sectors)), drive)
    except BaseException:
        if run is not None:
            run.release()
        drive.close()
        raise
    return run


def _tell_ready(on_ready: Callable[[LiveReady], Any] | None, info: LiveReady, drive: Drive) -> None:
    if on_ready is None:
        return

    def tell() -> None:
        try:
            on_ready(info)
        except BaseException as exc:  # noqa: BLE001  # ends the run, and is raised there
            exc.add_note("  in on_ready")
            drive.fail(exc)

    threading.Thread(target=tell, name="framefold-on-ready", daemon=True).start()


def _likely_layout(udfs: Sequence[UDF]) -> Layout:
    framed = all(not hasattr(u, "process_tile") or u.engine.whole_frames for u in udfs)
    return "frames" if framed else "pieces"


class Acquisitions:
    """One run after the other at a station that stays open.

    Parameters
    ----------
    make_station
        Called when the first result is asked for; the station is closed at the end.
    begin
        Makes the next run: ``begin(station, prepared, opened)``.
    follow
        Folds a run and returns its final snapshot.
    n
        How many; None: until `stop`, or until none begins within ``start_timeout``.
    """

    def __init__(
        self,
        make_station: Callable[[], Station],
        begin: Callable[..., Run],
        follow: Callable[[Run], Snapshot],
        n: int | None,
    ) -> None:
        self._make_station = make_station
        self._begin = begin
        self._follow = follow
        self._n = n
        self._drive: Drive | None = None
        self._stopped = False
        self.closed = False

    def results(self) -> Iterator[Snapshot]:
        """Yield the final snapshot of each acquisition; packets that come in between belong to the next."""
        done = 0
        station = self._make_station()
        try:
            while not self._stopped and (self._n is None or done < self._n):
                try:
                    final = self._follow(self._begin(station, done > 0, self._hold))
                except StreamError:
                    nothing = self._drive is None or not self._drive.frames
                    if (self._n is None and done and nothing) or self._stopped:
                        return  # no other acquisition began
                    raise
                yield final
                done += 1
        finally:
            self.closed = True
            station.close()

    def _hold(self, drive: Drive) -> None:
        self._drive = drive
        if self._stopped:
            drive.stop()

    def stop(self) -> None:
        """End the acquisition that runs, and begin no other."""
        self._stopped = True
        drive = self._drive
        if drive is not None and not drive.closed:
            drive.stop()
