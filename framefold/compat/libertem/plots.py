"""LiberTEM's live plots: a channel of a UDF's results, drawn again after merges."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from framefold.compat.libertem.runs import UDFRunner


def get_plottable_2D_channels(buffers: Any) -> list[str]:
    """Return the names of buffers with two axes, axes of length 1 not counted."""
    return [name for name, b in buffers.items() if np.squeeze(b.data).ndim == 2]


class Live2DPlot:
    """Takes a channel from results and has it drawn by `update`, which sub-classes define.

    Parameters
    ----------
    dataset, udf, roi
        What will run.
    channel
        None: the first buffer with two axes. A name, a pair (name, function), or a function of results and
        damage that returns data and damage.
    title
        None: name of the UDF and channel.
    min_delta
        Seconds between two updates, at least.
    udfresult
        Results to begin with; None: those of a run without data.
    """

    def __init__(
        self, dataset: Any, udf: Any, roi: Any = None, channel: Any = None, title: str | None = None,
        min_delta: float = 0.0, udfresult: Any = None,
    ) -> None:  # fmt: skip
        first = UDFRunner.dry_run([udf], dataset, roi) if udfresult is None else udfresult
        buffers = first.buffers[0]
        plottable = get_plottable_2D_channels(buffers)
        name = type(udf).__name__
        if channel is None:
            if not plottable:
                raise ValueError(
                    f"{name} has no buffer with two axes; there are: {', '.join(buffers) or 'none'}"
                )
            channel = plottable[0]
        if callable(channel):
            label = channel.__name__
        elif isinstance(channel, (tuple, list)):
            if channel[0] not in buffers:
                raise ValueError(
                    f"{name} has no buffer {channel[0]!r}; there are: {', '.join(buffers) or 'none'}"
                )
            label = f"{channel[1].__name__}({channel[0]})"
        else:
            if channel not in plottable:
                raise ValueError(
                    f"{name} has no buffer {channel!r} with two axes; "
                    f"there are: {', '.join(plottable) or 'none'}"
                )
            label = channel
        self.channel = channel
        self.title = f"{name}: {label}" if title is None else title
        self.udf = udf
        self.min_delta = min_delta
        self.last_update = 0.0
        self.data, _ = self.extract(buffers, first.damage)

    def get_udf(self) -> Any:
        """Return the UDF whose results are drawn."""
        return self.udf

    def extract(self, udf_results: Any, damage: Any) -> tuple[Any, Any]:
        """Return what is drawn, and where it is valid."""
        if callable(self.channel):
            return self.channel(udf_results, damage)
        if isinstance(self.channel, str):
            buffer = udf_results[self.channel]
            return buffer.masked_data.squeeze(), buffer.valid_mask.squeeze()
        name, fn = self.channel
        buffer = udf_results[name]
        return fn(buffer.data), damage if buffer.kind == "nav" else True

    def new_data(self, udf_results: Any, damage: Any, force: bool = False) -> None:
        """Take new results and draw them, unless the last time was less than `min_delta` ago."""
        now = time.time()
        if not force and now - self.last_update < self.min_delta:
            return
        self.data, where = self.extract(udf_results, damage)
        finite = np.isfinite(self.data)
        if hasattr(where, "shape"):
            where = np.asarray(where)
            if finite.ndim > where.ndim:  # colours
                finite = finite.all(axis=tuple(range(where.ndim, finite.ndim)))
        self.update(where & finite, force=force)
        self.last_update = time.time()

    def update(self, damage: Any, force: bool = False) -> None:
        """Draw ``self.data``, which is meaningful where `damage` is True."""
        raise NotImplementedError(f"{type(self).__name__} must define update")

    def display(self) -> None:
        """Show the plot for the first time."""
        raise NotImplementedError(f"{type(self).__name__} must define display")


class Dummy2DPlot(Live2DPlot):
    """Draws nothing."""

    def update(self, damage: Any, force: bool = False) -> None:
        """Do nothing."""

    def display(self) -> None:
        """Do nothing."""


class MPLLive2DPlot(Live2DPlot):
    """Draws with matplotlib."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        try:
            import matplotlib.pyplot as plt  # noqa: PLC0415  # optional
        except ImportError as exc:
            raise ImportError("live plots need matplotlib: pip install 'framefold[plot]'") from exc
        self.fig, self.axes = plt.subplots()
        self.axes.set_title(self.title)
        self._image = self.axes.imshow(np.abs(np.asarray(self.data)))

    def update(self, damage: Any, force: bool = False) -> None:
        """Show the new data, the colours spanning what is valid."""
        data = np.asarray(np.ma.filled(self.data, np.nan) if self.data.dtype.kind == "f" else self.data)
        shown = np.abs(data) if data.dtype.kind == "c" else data
        self._image.set_data(shown)
        valid = shown[np.broadcast_to(damage, shown.shape)]
        if valid.size:
            self._image.set_clim(valid.min(), valid.max())
        self.fig.canvas.draw_idle()

    def display(self) -> None:
        """Show the figure."""
        self.fig.show() if self.fig.canvas.manager is not None else None
