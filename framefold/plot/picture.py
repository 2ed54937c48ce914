"""Static pictures: a result on your own axes, or all results of a run in a file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from framefold.errors import UDFError
from framefold.plot.artists import artist_for
from framefold.plot.figure import Board, bare_figure
from framefold.plot.panels import Panel, panels_of
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.results import ResultBuffer, UDFResult


def draw(ax: Any, result: ResultBuffer | Mapping[str, ResultBuffer], spec: PlotSpec | None = None) -> None:
    """Draw a result on matplotlib axes.

    Parameters
    ----------
    ax
        Axes of any figure.
    result
        One result, or all of a UDF where `spec` names several.
    spec
        Kind of picture, names, title, colours; None: what suits the single result.

    Raises
    ------
    UDFError
        If `spec` is missing and there are several results.
    """
    results = {result.name: result} if isinstance(result, ResultBuffer) else result
    if spec is None:
        if len(results) != 1:
            raise UDFError(f"draw needs a PlotSpec to choose among the results {', '.join(results)}")
        spec = PlotSpec("image", tuple(results))
    panel = Panel(0, spec)
    artist_for(ax, spec, panel.fields([results]))
    ax.set_title(panel.title)


def figure_of(
    results: UDFResult | Sequence[UDFResult], plots: Any = True, udfs: Sequence[Any] = (), title: str = ""
) -> Any:
    """Return a matplotlib figure of the results of one or several UDFs.

    Parameters
    ----------
    results
        From ``ctx.run_udf``.
    plots
        As ``plots=`` of a run.
    udfs
        The UDFs that made them, for what they recommend; without, all 1-D and 2-D results are drawn.
    title
        Above all panels.
    """
    given = (results,) if isinstance(results, UDFResult) else tuple(results)
    board = Board(panels_of(plots, given, udfs), given, make_figure=bare_figure)
    board.update(given, title)
    return board.figure


def save_figure(
    results: UDFResult | Sequence[UDFResult],
    path: str | os.PathLike[str],
    plots: Any = True,
    udfs: Sequence[Any] = (),
) -> None:
    """Write a picture of the results; the suffix chooses the format (``.png``, ``.pdf``, ``.svg``)."""
    figure_of(results, plots, udfs).savefig(path, dpi=120)
