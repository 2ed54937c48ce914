"""Live plots: pictures that follow a run without holding it up."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from framefold.errors import FramefoldError, UDFError
from framefold.plot.figure import MAX_PANELS, Board, bare_figure, require_matplotlib
from framefold.plot.notebook import Display, in_notebook
from framefold.plot.panels import Panel, panels_of
from framefold.plot.png import PngWriter
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.results import Snapshot

WINDOW_SECONDS = 0.1  # 10 Hz on a screen
NOTEBOOK_SECONDS = 0.2  # 5 Hz: every picture travels to the browser as PNG
FILE_SECONDS = 1.0
IDLE_SECONDS = 0.05
LATE_SECONDS = 0.5  # before an empty picture is shown of a run from which nothing comes
SHARE = 0.05  # of the time, at most, goes into pictures
PICTURES = ("", "png", "pdf", "svg", "jpg", "jpeg", "webp", "tif", "tiff", "eps", "ps")  # endings
NO_WINDOW = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")  # backends


class LiveFigure:
    """Follows a run with a matplotlib figure; pass it as ``plots=`` to keep hold of the figure.

    Parameters
    ----------
    plots
        As ``plots=`` of a run: True, names, ``(name, function)``, `PlotSpec` objects.
    title
        In front of the progress.
    path
        Also write the picture to this file while it grows, at most once per second.
    share
        Of the time, at most, goes into drawing.
    clock, cpu_clock
        Return seconds, and CPU seconds of this thread.

    Attributes
    ----------
    figure
        The matplotlib figure; None before the run begins. Where nobody sees it (no window, file or notebook)
        it is brought up to date when it is asked for, and at the end of the run.

    Examples
    --------
    >>> from framefold.plot.live import LiveFigure
    >>> view = LiveFigure(["intensity"], title="sum")
    >>> # ctx.run_udf(ds, udf, plots=view); view.figure.savefig("sum.png")
    """

    def __init__(
        self,
        plots: Any = True,
        *,
        title: str = "",
        path: str | os.PathLike[str] | None = None,
        share: float = SHARE,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._plots = plots
        self._label = title
        self._path = None if path is None else Path(path)
        self._share = share
        self._clock, self._cpu_clock = clock, cpu_clock
        self._board: Board | None = None
        self._show: Callable[[Any, bool], None] = _nowhere
        self._every = WINDOW_SECONDS
        self._next = 0.0
        self._total = 0
        self._udfs: tuple[Any, ...] = ()
        self._dead = self._stopped = False
        self._began = self._next_idle = 0.0
        self._waiting: Snapshot | None = None  # not drawn yet
        self._seen = self._main = True
        self.draws = 0

    @property
    def figure(self) -> Any:
        """The matplotlib figure, or None before the run begins."""
        if self._waiting is not None:
            self._draw(self._waiting, force=True)
        return None if self._board is None else self._board.figure

    def begin(self, first: Snapshot, udfs: Sequence[Any]) -> None:
        """Take a run that begins; unknown names are refused here, before anything runs.

        A window opens at once. Other figures are made when the run is under way: matplotlib takes 20 ms for a
        picture, and 300 ms to write it.
        """
        require_matplotlib()
        _require_ending(self._path)
        self._board, self._dead, self._next, self._udfs = None, False, 0.0, tuple(udfs)
        self._stopped, self._waiting, self._seen = False, None, True
        self._began, self._main = self._clock(), threading.current_thread() is threading.main_thread()
        try:
            results = first.buffers
        except FramefoldError:
            raise
        except Exception:  # noqa: BLE001  # a get_results that needs data: begin with the first snapshot that has some
            return
        self._panels(results)
        self._waiting = first
        if self._path is None and self._main and not in_notebook() and _on_screen():
            self._draw(first, force=True)

    def _panels(self, results: Any) -> list[Panel]:
        panels = panels_of(self._plots, results, self._udfs)
        if not panels:
            names = ", ".join(k for r in results for k in r)
            raise UDFError(
                f"plots=: none of the results ({names}) is 1-D or 2-D; pass [(name, function)] or plots=None"
            )
        return panels

    def _start(self, first: Snapshot) -> None:
        results = first.buffers
        panels = self._panels(results)
        if len(panels) > MAX_PANELS:
            _say(
                f"the first {MAX_PANELS} of {len(panels)} pictures are drawn; choose others with plots=[...]"
            )
        roi = next((b.roi for r in results for b in r.values()), None)
        self._total = int(first.damage.size if roi is None else roi.sum())
        make, self._show, self._every = _place(self._path, self._main)
        self._board = Board(panels, results, make_figure=make, on_error=_say_once)
        if self._path is None and not in_notebook():
            canvas = self._board.figure.canvas  # Agg and the like have no window: savefig renders
            self._seen = getattr(canvas, "required_interactive_framework", None) is not None

    def update(self, snapshot: Snapshot) -> None:
        """Draw `snapshot` if it is time; the final one is left to `close`."""
        if snapshot.final:
            return
        if self._board is not None and not self._seen:
            self._waiting = snapshot
        else:
            self._draw(snapshot, force=False)

    def close(self, final: Snapshot) -> None:
        """Draw the final state, however long ago the last picture was."""
        self._draw(final, force=True)

    def fail(self, error: BaseException) -> None:
        """Draw what a run that was stopped returns."""
        partial = getattr(error, "partial", None)
        if isinstance(partial, Snapshot):
            self._stopped = True
            self._draw(partial, force=True)

    def idle(self) -> None:
        """Let the window answer the mouse; make the figure of a run that has nothing to show yet."""
        if self._dead:
            return
        if self._board is None and self._waiting is not None and self._clock() - self._began > LATE_SECONDS:
            self._draw(self._waiting, force=True)
        figure = None if self._board is None else self._board.figure
        if self._dead or figure is None or self._clock() < self._next_idle:
            return
        self._next_idle = self._clock() + IDLE_SECONDS
        if getattr(figure.canvas, "required_interactive_framework", None) is not None:
            try:
                figure.canvas.flush_events()
            except Exception as exc:  # noqa: BLE001  # a closed window does not end a run
                self._dead = True
                _report("the plot was switched off", exc)

    def _draw(self, snapshot: Snapshot, *, force: bool) -> None:
        now = self._clock()
        if self._dead or (now < self._next and not force):
            return
        cpu, self._waiting = self._cpu_clock(), None
        try:
            if self._board is None:
                self._start(snapshot)
            assert self._board is not None
            self._board.update(snapshot.buffers, self._title(snapshot))
            self._show(self._board.figure, force)
        except Exception as exc:  # noqa: BLE001  # a closed window or a full disk does not end a run
            self._dead = True
            _report("the plot was switched off", exc)
            return
        self.draws += 1
        # CPU time, not wall time: waiting for the workers' threads costs them nothing
        spent = self._cpu_clock() - cpu
        self._next = now + max(self._every, spent / self._share)

    def _title(self, snapshot: Snapshot) -> str:
        label = f"{self._label}   " if self._label else ""
        iteration = getattr(
            snapshot, "iteration", None
        )  # iterative reductions have all frames from the start
        if iteration is not None:
            return f"{label}iteration {iteration}"
        part = snapshot.n_frames / self._total if self._total else 1.0
        if self._stopped:
            return f"{label}stopped after {snapshot.n_frames} of {self._total} frames"
        partial = _partial(snapshot)
        note = f", {partial} more in part" if partial else ""
        if snapshot.final:
            of = f" of {self._total}" if self._total > snapshot.n_frames else ""
            return f"{label}{snapshot.n_frames}{of} frames{note}"
        return f"{label}{100 * part:.0f} % of {self._total} frames{note}"


def _partial(snapshot: Snapshot) -> int:
    """Return how many frames of a live run came without some of their packets."""
    status = snapshot.buffers[0].report.get("status") if snapshot.buffers else None
    return int(status.get("partial", 0)) if isinstance(status, Mapping) else 0


class _Custom:
    """The user's own plot object: gets every snapshot, the final one too."""

    def __init__(self, plot: Any) -> None:
        self._plot = plot
        self._last: Snapshot | None = None
        self._dead = False

    def update(self, snapshot: Snapshot) -> None:
        if self._dead or snapshot is self._last:
            return
        self._last = snapshot
        try:
            self._plot.update(snapshot)
        except Exception as exc:  # noqa: BLE001  # shown once; the run goes on
            self._dead = True
            _report(f"the plot {type(self._plot).__name__} was switched off", exc)

    def close(self, final: Snapshot) -> None:
        self.update(final)


class Viewers:
    """All viewers of a run."""

    def __init__(self, viewers: Sequence[Any]) -> None:
        self.viewers = list(viewers)

    def update(self, snapshot: Snapshot) -> None:
        """Hand a snapshot to each viewer."""
        for viewer in self.viewers:
            viewer.update(snapshot)

    def close(self, final: Snapshot) -> None:
        """Hand the final snapshot to each viewer."""
        for viewer in self.viewers:
            viewer.close(final)

    def fail(self, error: BaseException) -> None:
        """Tell each viewer that the run ended before its time."""
        self._each("fail", error)

    def idle(self) -> None:
        """Let windows answer the mouse while nothing new comes; called now and then."""
        self._each("idle")

    def again(self, first: Snapshot, udfs: Sequence[Any], run: Any) -> None:
        """Tell each viewer that controls its run that another run begins."""
        self._each("connect", run)
        for viewer in self.viewers:
            if callable(getattr(viewer, "connect", None)):
                viewer.begin(first, udfs)

    def _each(self, method: str, *args: Any) -> None:
        for viewer in self.viewers:
            if callable(getattr(viewer, method, None)):
                getattr(viewer, method)(*args)


def make_viewers(
    plots: Any, plot_class: Any, first_snapshot: Snapshot, udfs: Sequence[Any], run: Any = None
) -> Viewers:
    """Return what follows a run, for its ``plots=``.

    Parameters
    ----------
    plots
        True, ``[name or (name, function) or PlotSpec, ...]``, a list of such lists (one per UDF), a
        `LiveFigure`, or objects with ``update(snapshot)``.
    plot_class
        Called instead of `LiveFigure`, with `plots`; its objects have ``update(snapshot)`` and may have
        ``begin(first_snapshot, udfs)``.
    first_snapshot
        Before the first frame: shapes and dtypes.
    udfs
        For what they recommend.
    run
        Given to viewers with a method ``connect(run)``: those that may stop or change it.

    Raises
    ------
    UDFError
        For names that no result has; raised before the run begins.
    """
    items = [plots] if hasattr(plots, "update") else list(plots) if isinstance(plots, (list, tuple)) else []
    own = [p for p in items if callable(getattr(p, "update", None)) and not isinstance(p, PlotSpec)]
    viewers: list[Any] = [_begun(p, first_snapshot, udfs, run) for p in own]
    rest = [p for p in items if not any(p is q for q in own)]
    if not own or rest:
        wanted = rest if own else plots
        viewers.append(_begun((plot_class or LiveFigure)(wanted), first_snapshot, udfs, run))
    return Viewers(viewers)


def _begun(plot: Any, first: Snapshot, udfs: Sequence[Any], run: Any) -> Any:
    if callable(getattr(plot, "connect", None)):
        plot.connect(run)
    if callable(getattr(plot, "begin", None)):
        plot.begin(first, udfs)
    return plot if callable(getattr(plot, "close", None)) else _Custom(plot)


def _place(
    path: Path | None, main_thread: bool
) -> tuple[Callable[..., Any], Callable[[Any, bool], None], float]:
    """Return how to make the figure, how to show it, and how often."""
    if path is not None:
        return bare_figure, _file_writer(path), FILE_SECONDS
    if in_notebook():
        return bare_figure, _notebook_writer(Display()), NOTEBOOK_SECONDS
    if not main_thread:
        return bare_figure, _nowhere, WINDOW_SECONDS  # windows belong to the main thread
    import matplotlib.pyplot as plt  # noqa: PLC0415  # chooses the backend: only for windows

    return plt.figure, _window_writer(), WINDOW_SECONDS


def _require_ending(path: Path | None) -> None:
    """Refuse a picture file that matplotlib cannot write, before anything runs."""
    if path is not None and path.suffix.lower().lstrip(".") not in PICTURES:
        raise FramefoldError(
            f"{path}: no picture has the ending {path.suffix!r}. Known are .{', .'.join(PICTURES[1:])}"
        )


def _on_screen() -> bool:
    """Tell whether pictures go to a window; loads no matplotlib where there is no window system."""
    backend, screens = os.environ.get("MPLBACKEND", ""), ("DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not backend and not any(map(os.environ.get, screens)):
        return False
    return backend.lower() not in NO_WINDOW and has_windows()


def _nowhere(figure: Any, final: bool) -> None:
    """Show nothing: the artists hold the data, and ``figure.savefig`` renders them."""


def has_windows() -> bool:
    """Tell whether matplotlib can open a window here."""
    require_matplotlib()
    import matplotlib.pyplot as plt  # noqa: PLC0415

    backend = plt.get_backend()  # finds the first that works, Agg where there is no window system
    return backend.lower() not in NO_WINDOW


def _window_writer() -> Callable[[Any, bool], None]:
    import matplotlib.pyplot as plt  # noqa: PLC0415

    opened = False

    def show(figure: Any, final: bool) -> None:
        nonlocal opened
        if getattr(figure.canvas, "required_interactive_framework", None) is None:
            return
        if not opened:
            figure.show()
            opened = True
        if plt.fignum_exists(figure.number):  # the user may have closed the window
            figure.canvas.draw_idle()
            figure.canvas.flush_events()

    return show


def _file_writer(path: Path) -> Callable[[Any, bool], None]:
    ending = path.suffix.lower().lstrip(".") or "png"
    render = PngWriter(120)

    def write(figure: Any, final: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        if ending == "png":
            part.write_bytes(render(figure, final))
        else:
            figure.savefig(part, dpi=120, format=ending)
        part.replace(path)  # a reader never sees half a picture

    return write


def _notebook_writer(display: Display) -> Callable[[Any, bool], None]:
    render = PngWriter(90)

    def write(figure: Any, final: bool) -> None:
        png = render(figure, final)
        display.show({"image/png": _base64(png), "text/plain": "live plot of a framefold run"})

    return write


def _base64(data: bytes) -> str:
    import base64  # noqa: PLC0415

    return base64.b64encode(data).decode("ascii")


def _say_once(panel: Panel, exc: Exception) -> None:
    _report(f"the picture {panel.title!r} was switched off", exc)


def _report(what: str, exc: Exception) -> None:
    """Show an error in a plot once, on stderr; the run goes on."""
    _say(f"{what}: {''.join(traceback.format_exception(exc))}")


def _say(text: str) -> None:
    print(f"framefold: {text}", file=sys.stderr)  # noqa: T201  # for the person who looks at the plot
