"""Progress of a run: one line in a terminal, a bar in a notebook, a few log lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TextIO

from framefold.errors import FramefoldError, UDFRunCancelled
from framefold.plot.notebook import Display, in_notebook
from framefold.udfcore.events import Event, Observer, PartitionDone, RunEnded, RunStarted

LINE_SECONDS = 0.1  # a terminal line is rewritten at most this often
LOG_SECONDS = 10.0  # a log that nobody watches gets a line at most this often


class ProgressBar(Protocol):
    """What ``progress=`` takes besides True; `tqdm.tqdm` objects almost fit."""

    def start(self, total: int) -> None:
        """Begin a run of `total` frames."""
        ...

    def update(self, n: int) -> None:
        """Count `n` more frames."""
        ...

    def close(self) -> None:
        """End the run, complete or not."""
        ...


@dataclass(frozen=True)
class State:
    """How far a run is.

    Attributes
    ----------
    title
        Name of the dataset.
    total, done
        Frames to fold, and folded.
    frame_bytes
        Raw bytes of a frame.
    seconds
        Since the start.
    ended
        None while it runs, else ``"done"``, ``"cancelled"`` or ``"failed"``.
    first_done, first_seconds
        `done` and `seconds` when the first frames were folded: what comes before (workers that start, kernels
        that are compiled) says nothing of the time left.
    """

    title: str
    total: int
    frame_bytes: int
    done: int = 0
    seconds: float = 0.0
    ended: str | None = None
    first_done: int = 0
    first_seconds: float = 0.0

    @property
    def fraction(self) -> float:
        """Between 0 and 1; a run without frames is complete."""
        return self.done / self.total if self.total else 1.0

    @property
    def rate(self) -> float:
        """Raw bytes per second since the start."""
        return self.done * self.frame_bytes / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the mean speed since the first frames; None before there is one."""
        since, seconds = self.done - self.first_done, self.seconds - self.first_seconds
        return seconds * (self.total - self.done) / since if since and seconds > 0 else None


def text_of(state: State) -> str:
    """Return one line: name, frames, throughput, and the time left or taken.

    >>> text_of(State("scan.mib", 4096, 131072, done=1024, seconds=2.0))
    'scan.mib: 1024 of 4096 frames (25 %), 67.1 MB/s, 6 s left'
    """
    head = f"{state.title}: {state.done} of {state.total} frames ({int(100 * state.fraction)} %)"
    if state.ended:
        return f"{head}, {state.ended} in {duration_text(state.seconds)}, {rate_text(state.rate)}"
    if state.seconds_left is None:
        return head
    return f"{head}, {rate_text(state.rate)}, {duration_text(state.seconds_left)} left"


def rate_text(rate: float) -> str:
    """Return bytes per second for people."""
    return f"{rate / 1e9:.2f} GB/s" if rate >= 1e9 else f"{rate / 1e6:.1f} MB/s"


def duration_text(seconds: float) -> str:
    """Return seconds for people."""
    if seconds < 10:
        return f"{seconds:.0f} s" if seconds >= 1 or seconds == 0 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Reporter:
    """Follows the events of a run and shows the state, not more often than `every` seconds.

    Parameters
    ----------
    show
        Called with the state; the last call of a run has ``ended`` set.
    every
        Seconds between calls.
    clock
        Returns seconds.
    """

    def __init__(
        self, show: Callable[[State], None], every: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._show = show
        self._every = every
        self._clock = clock
        self._state = State("", 0, 0)
        self._started = self._shown = clock()

    def __call__(self, event: Event) -> None:
        """Take an event of the run."""
        now = self._clock()
        if isinstance(event, RunStarted):
            self._state = State(event.title, event.frames, event.frame_bytes)
            self._started = self._shown = now
            return
        state = replace(self._state, seconds=now - self._started)
        if isinstance(event, PartitionDone):
            if not state.done:
                state = replace(state, first_done=event.frames, first_seconds=state.seconds)
            self._state = state = replace(state, done=state.done + event.frames)
            if now - self._shown < self._every:
                return
        else:
            state = replace(state, seconds=event.seconds, ended=_ending(event))
        self._shown = now
        self._show(state)


def _ending(event: RunEnded) -> str:
    if event.error is None:
        return "done"
    stopped = isinstance(event.error, (UDFRunCancelled, KeyboardInterrupt, GeneratorExit))
    return "cancelled" if stopped else "failed"


class Adapter:
    """Passes the events on to the user's own bar."""

    def __init__(self, bar: ProgressBar) -> None:
        self._bar = bar

    def __call__(self, event: Event) -> None:
        """Take an event of the run."""
        if isinstance(event, RunStarted):
            self._bar.start(event.frames)
        elif isinstance(event, PartitionDone):
            self._bar.update(event.frames)
        else:
            self._bar.close()


def terminal_line(stream: TextIO) -> Callable[[State], None]:
    """Return a function that rewrites one line of a terminal."""

    def show(state: State) -> None:
        width = shutil.get_terminal_size().columns - 1
        line = text_of(state)[:width]
        stream.write("\r" + line.ljust(width) + ("\n" if state.ended else ""))
        stream.flush()

    return show


def log_line(stream: TextIO) -> Callable[[State], None]:
    """Return a function that writes a line of its own each time."""

    def show(state: State) -> None:
        stream.write(text_of(state) + "\n")
        stream.flush()

    return show


def notebook_bar(display: Display) -> Callable[[State], None]:
    """Return a function that redraws one bar in a notebook."""

    def show(state: State) -> None:
        colour = {"failed": "#c0392b", "cancelled": "#b9770e"}.get(state.ended or "", "#2471a3")
        filled = f"background:{colour};height:8px;width:{100 * state.fraction:.1f}%"
        html = (
            f"<div style='font-family:monospace'><div style='background:#ddd;height:8px;max-width:40em'>"
            f"<div style='{filled}'></div></div>{_escape(text_of(state))}</div>"
        )
        display.show({"text/plain": text_of(state), "text/html": html})

    return show


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def progress_observer(progress: Any) -> Observer:
    """Return the observer for the argument ``progress=`` of a run.

    Parameters
    ----------
    progress
        True for what suits the place (terminal, notebook, log file), or a `ProgressBar`.

    Raises
    ------
    FramefoldError
        If it is neither.
    """
    if progress is True:
        if in_notebook():
            return Reporter(notebook_bar(Display()), LINE_SECONDS)
        if sys.stderr.isatty():
            return Reporter(terminal_line(sys.stderr), LINE_SECONDS)
        return Reporter(log_line(sys.stderr), LOG_SECONDS)
    if all(callable(getattr(progress, name, None)) for name in ("start", "update", "close")):
        return Adapter(progress)
    raise FramefoldError(
        f"progress={progress!r} is neither True nor an object with start(total), update(n) and close()"
    )
