"""What all pages of a view share: the newest snapshot of the run, its panels, its state."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from framefold.plot.panels import Field, Panel, field_of
from framefold.udfcore.results import Snapshot, UDFResult
from framefold.web.control import Control
from framefold.web.status import Progress

MIXED = "parameters changed on the way: earlier frames keep the older ones"
RATE_SECONDS = 2.0  # over which the present speed is measured


class Hub:
    """The state of a run for its pages; written by the run's threads, read by the pages.

    Parameters
    ----------
    clock
        Returns seconds.

    Attributes
    ----------
    epoch
        Grows when pages must build themselves anew.
    revision
        Grows with everything that pages show.
    report
        Returns what the run did so far.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.epoch = 0
        self.revision = 0
        self.title = ""
        self.links: dict[str, str] = {}
        self.panels: list[Panel] = []
        self.udfs: tuple[Any, ...] = ()
        self.control: Control | None = None
        self.pattern: Field | None = None
        self.snapshot: Snapshot | None = None
        self.report: Callable[[], Mapping[str, Any]] = dict
        self.latency: float | None = None
        self._total = 0
        self._frame_bytes = 0
        self._state, self._message = "waiting", ""
        self._began = self._ended = clock()
        self._marks: deque[tuple[float, int]] = deque()

    def begin(
        self,
        first: Snapshot,
        udfs: Sequence[Any],
        control: Control | None,
        *,
        title: str = "",
        total: int = 0,
        frame_bytes: int = 0,
        report: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        """Forget the run before, and begin a new one."""
        with self._lock:
            self.udfs, self.control, self.title = tuple(udfs), control, title
            self._total, self._frame_bytes, self.report = total, frame_bytes, report
            self._state, self._message = "waiting", ""
            self.panels, self.pattern, self.snapshot, self.latency = [], None, first, None
            self._began = self._ended = self._clock()
            self._marks.clear()
            self.epoch += 1
            self.revision += 1

    def draw(self, panels: Sequence[Panel]) -> None:
        """Set what is drawn: pages build themselves anew."""
        with self._lock:
            self.panels = list(panels)
            self.epoch += 1

    def post(self, snapshot: Snapshot) -> None:
        """Take the newest snapshot of the run."""
        now = self._clock()
        with self._lock:
            self.snapshot = snapshot
            self.revision += 1
            if self._state == "waiting":
                self._state = "running"
            self._marks.append((now, snapshot.n_frames))
            while len(self._marks) > 2 and now - self._marks[0][0] > RATE_SECONDS:
                self._marks.popleft()
            if snapshot.final:
                self._end("complete", "", now)

    def end(self, state: str, message: str = "") -> None:
        """Note how the run ended, unless it is known already."""
        with self._lock:
            self._end(state, message, self._clock())

    def _end(self, state: str, message: str, now: float) -> None:
        self.revision += 1
        if self._state in ("waiting", "running"):
            self._state, self._message, self._ended = state, message, now
        if self.control is not None:
            self.control.over = True

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self._state not in ("waiting", "running")

    def progress(self) -> Progress:
        """Return how far the run is."""
        with self._lock:
            done = 0 if self.snapshot is None else self.snapshot.n_frames
            now = self._clock()
            if self.over:
                seconds = max(self._ended - self._began, 1e-9)
                speed = done / seconds
            else:
                seconds = now - self._began
                speed = self._speed(now)
            return Progress(
                done, self._total, speed * self._frame_bytes, speed, seconds, self.latency, self._state,
                self._message or self._mixed(),
            )  # fmt: skip

    def _mixed(self) -> str:
        oldest, newest = (0, 0) if self.snapshot is None else self.snapshot.params_version
        return MIXED if oldest != newest else ""

    def _speed(self, now: float) -> float:
        if not self._marks:
            return 0.0
        (t0, n0), (t1, n1) = self._marks[0], self._marks[-1]
        if t1 <= t0 or now - t1 > 2 * RATE_SECONDS:  # one mark only, or nothing came for a while
            return n1 / (now - self._began) if now > self._began and t1 <= t0 else 0.0
        return (n1 - n0) / (t1 - t0)


def pattern_of(results: Sequence[UDFResult]) -> Field | None:
    """Return the first result that looks like a frame (signal shape, two axes), None if there is none."""
    for result in results:
        for buf in result.values():
            if buf.kind == "sig" and len(buf.shape) == 2 and buf.dtype.kind in "biuf":
                return field_of(buf)
    return None
