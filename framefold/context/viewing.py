"""What shows a run while it goes on: plots, the browser view, progress."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from framefold.context.keywords import Plots, Progress
from framefold.executor.drive import Run
from framefold.executor.follow import latest, to_end
from framefold.udfcore.events import Observer
from framefold.udfcore.results import Snapshot


def observers_of(progress: Progress) -> list[Observer]:
    """Return who is told about every merged partition."""
    if not progress:
        return []
    from framefold.plot.progress import progress_observer  # noqa: PLC0415  # only where wanted

    return [progress_observer(progress)]


def iteration_viewers(plots: Plots, plot_class: Any) -> Callable[[Any, Any, Any], Any] | None:
    """Return what makes the viewers of an iteration from its first snapshot; None: nobody looks."""
    if not plots:
        return None
    from framefold.plot.live import make_viewers  # noqa: PLC0415  # matplotlib only where wanted

    return lambda first, udfs, run: make_viewers(drawn(plots), plot_class, first, udfs, run)


def viewers_of(plots: Plots, plot_class: Any, run: Run, udfs: Sequence[Any]) -> Any:
    """Return what shows the snapshots of a run; None: nobody looks."""
    if not plots:
        return None
    from framefold.plot.live import make_viewers  # noqa: PLC0415  # matplotlib only where wanted

    try:
        return make_viewers(drawn(plots), plot_class, run.snapshot(final=False), udfs, run)
    except BaseException:
        run.release()  # wrong names are found before anything runs: the UDF objects stay usable
        raise


def drawn(plots: Plots, *, keep: bool = False) -> Plots:
    """Return `plots`, with a view object in the place of ``"browser"``."""
    if not isinstance(plots, str) or plots != "browser":
        return plots
    from framefold.web.view import BrowserView  # noqa: PLC0415  # bokeh only where wanted

    return BrowserView(keep=keep)


def viewed(steps: Iterator[Snapshot], viewers: Any) -> Iterator[Snapshot]:
    """Yield `steps`, each when it has been shown."""
    last = None
    try:
        for last in steps:
            viewers.update(last)
            yield last
    except BaseException as exc:
        viewers.fail(exc)
        raise
    if last is not None:
        viewers.close(last)


def folded(run: Run, viewers: Any, interval: float) -> Snapshot:
    """Fold a run to its end, with or without viewers, and return the final snapshot."""
    return _followed(latest(run, interval, viewers.idle), viewers) if viewers else to_end(run)


def ended(results: Iterator[Any], end: Callable[[], None]) -> Iterator[Any]:
    """Yield `results`, and call `end` however that ends."""
    try:
        yield from results
    finally:
        end()


def _followed(steps: Iterator[Snapshot], viewers: Any) -> Snapshot:
    (last,) = deque(viewed(steps, viewers), maxlen=1)  # the others are let go
    return last
