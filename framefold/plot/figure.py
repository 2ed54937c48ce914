"""Figures of results: one panel per picture, drawn once and updated in place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from framefold.errors import FramefoldError
from framefold.plot.artists import Artist, artist_for
from framefold.plot.panels import Panel
from framefold.udfcore.results import ResultBuffer

MAX_PANELS = 12
_PANEL_INCHES = (4.0, 3.5)
Results = Sequence[Mapping[str, ResultBuffer]]


def require_matplotlib() -> None:
    """Raise an error that says what to install, if matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401, PLC0415  # heavy: only where something is drawn
    except ImportError as exc:
        raise FramefoldError("plots need matplotlib: pip install 'framefold[plot]'") from exc


def bare_figure(**kwargs: Any) -> Any:
    """Return a figure that no window system knows: for files, notebooks and threads."""
    require_matplotlib()
    from matplotlib.figure import Figure  # noqa: PLC0415

    return Figure(**kwargs)


class Board:
    """The panels of one figure.

    Parameters
    ----------
    panels
        What to draw; the first 12.
    results
        Of all UDFs; fixes shapes and dtypes.
    make_figure
        Makes the figure from ``figsize=`` and ``layout=``.
    on_error
        Told about a panel that cannot be drawn; it is switched off and the others go on.
    """

    def __init__(
        self,
        panels: Sequence[Panel],
        results: Results,
        *,
        make_figure: Callable[..., Any] = bare_figure,
        on_error: Callable[[Panel, Exception], None] | None = None,
    ) -> None:
        self._on_error = on_error
        shown = list(panels)[:MAX_PANELS]
        columns = max(1, math.ceil(math.sqrt(len(shown))))
        rows = max(1, math.ceil(len(shown) / columns))
        width, height = _PANEL_INCHES
        self.figure = make_figure(figsize=(width * columns, height * rows + 0.4), layout="constrained")
        self._title = self.figure.suptitle(" ", fontsize="medium")
        self._artists: list[tuple[Panel, Artist]] = []
        for i, panel in enumerate(shown):
            ax = self.figure.add_subplot(rows, columns, i + 1)
            ax.set_title(panel.title, fontsize="medium")
            try:
                self._artists.append((panel, artist_for(ax, panel.spec, panel.fields(results))))
            except Exception as exc:  # noqa: BLE001  # a picture never ends a run
                self._failed(panel, exc)

    def update(self, results: Results, title: str) -> None:
        """Show other results of the same run."""
        self._title.set_text(title)
        for entry in list(self._artists):
            panel, artist = entry
            try:
                artist.update(panel.fields(results))
            except Exception as exc:  # noqa: BLE001
                self._artists.remove(entry)
                self._failed(panel, exc)

    def _failed(self, panel: Panel, exc: Exception) -> None:
        if self._on_error is None:
            raise exc
        self._on_error(panel, exc)
