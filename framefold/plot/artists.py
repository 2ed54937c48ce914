"""Artists: each draws one kind of picture on matplotlib axes once, then only replaces the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from framefold.plot.calibration import aspect, extent, ruler
from framefold.plot.colour import INVALID, hue_image, limits, wheel
from framefold.plot.drawing import arrows, brightest, curves, kind_of, length, numbers, plane, real
from framefold.plot.panels import Field
from framefold.udfcore.metadata import Axis
from framefold.udfcore.plotspec import PlotSpec


class Artist(Protocol):
    """A picture whose data can be replaced."""

    def update(self, fields: Sequence[Field]) -> None:
        """Show other data of the same shape."""
        ...


def artist_for(ax: Any, spec: PlotSpec, fields: Sequence[Field]) -> Artist:
    """Return the artist that suits `spec` and the data.

    An image of 1-D data is a line, one of complex data a hue picture.
    """
    makers: dict[str, Callable[..., Artist]] = {
        "table": TableArtist,
        "line": LineArtist,
        "vectors": VectorArtist,
        "hue-phase": HueArtist,
        "image": ImageArtist,
    }
    try:
        kind = kind_of(spec, fields)
    except ValueError:
        ax.set_axis_off()
        raise
    return makers[kind](ax, spec, fields)


class ImageArtist:
    """A real 2-D result with a colour bar and calibrated axes."""

    def __init__(self, ax: Any, spec: PlotSpec, fields: Sequence[Field]) -> None:
        import matplotlib as mpl  # noqa: PLC0415  # matplotlib only where something is drawn

        self._spec = spec
        name = spec.cmap or ("RdBu_r" if spec.symmetric else "viridis")
        norms: dict[str, Callable[[], Any]] = {
            "linear": mpl.colors.Normalize,
            "log": mpl.colors.LogNorm,
            "sqrt": lambda: mpl.colors.PowerNorm(0.5),
        }
        cmap, norm = mpl.colormaps[name].with_extremes(bad=INVALID), norms[spec.scale]()
        self._image = _picture(ax, fields[0], cmap=cmap, norm=norm)
        self.update(fields)
        bar = ax.figure.colorbar(self._image, cax=ax.inset_axes([1.03, 0.0, 0.045, 1.0]))
        bar.ax.tick_params(labelsize="small")
        if spec.units:
            bar.set_label(spec.units, fontsize="small")
        if spec.scale == "linear":
            bar.formatter.set_powerlimits((-3, 5))
            bar.ax.yaxis.get_offset_text().set_fontsize("small")

    def update(self, fields: Sequence[Field]) -> None:
        """Replace values and colour limits."""
        values, valid = real(fields[0].values), fields[0].valid
        low, high = limits(values, valid, symmetric=self._spec.symmetric, positive=self._spec.scale == "log")
        norm = self._image.norm
        if (low, high) != (norm.vmin, norm.vmax):
            with norm.callbacks.blocked():  # the colour bar is drawn once, and never sees its limits crossed
                norm.vmin, norm.vmax = low, high
            norm.callbacks.process("changed")
        # below the lower limit of a log scale is black in the map, not missing
        shown = np.maximum(values, low) if self._spec.scale == "log" else values
        self._image.set_data(np.ma.MaskedArray(shown, mask=~(valid & np.isfinite(values))))


class HueArtist:
    """A complex result, or two (y, x): direction as hue, length as brightness, with a colour wheel."""

    def __init__(self, ax: Any, spec: PlotSpec, fields: Sequence[Field]) -> None:
        self._units = f" {spec.units}" if spec.units else ""
        self._image = _picture(ax, fields[0])
        legend = ax.inset_axes([1.05, 0.0, 0.22, 0.22])
        legend.imshow(wheel(), extent=(-1, 1, -1, 1), interpolation="bilinear")
        legend.set_axis_off()
        below = {"transform": legend.transAxes, "ha": "center", "va": "top", "fontsize": "x-small"}
        self._text = legend.text(0.5, -0.1, "", **below)
        self.update(fields)

    def update(self, fields: Sequence[Field]) -> None:
        """Replace the picture; the brightest colour is the 99.9 % quantile of the length."""
        z, valid = plane(fields)
        top = brightest(np.abs(z), valid)
        self._image.set_data(hue_image(z, valid, top))
        self._text.set_text(f"{top:.3g}{self._units}")


class VectorArtist:
    """Two results (y, x) as arrows over their length."""

    def __init__(self, ax: Any, spec: PlotSpec, fields: Sequence[Field]) -> None:
        self._ax = ax
        below = PlotSpec("image", (), cmap=spec.cmap or "viridis", units=spec.units)
        self._under = ImageArtist(ax, below, [length(fields)])
        y, x, u, v = arrows(fields)
        self._quiver = ax.quiver(
            x, y, u, v, color="white", angles="xy", pivot="mid", scale_units="xy", scale=1.0, width=0.006
        )
        self.update(fields)

    def update(self, fields: Sequence[Field]) -> None:
        """Replace arrows and length."""
        self._under.update([length(fields)])
        found = arrows(fields)
        self._quiver.set_UVC(found.along_x, found.along_y)


class LineArtist:
    """1-D results as lines over one calibrated axis; the columns of a 2-D result as several lines."""

    def __init__(self, ax: Any, spec: PlotSpec, fields: Sequence[Field]) -> None:
        self._ax = ax
        found = curves(fields)
        n = len(found[0][1])
        along = self._along = ruler(fields[0].axes[0] if fields[0].axes else Axis(), n)
        self._x = along.offset + along.scale * np.arange(n)
        self._log = spec.scale == "log"
        marker = "." if n <= 64 else ""
        empty = np.full(n, np.nan)
        self._lines = [ax.plot(self._x, empty, marker=marker, lw=1.2, label=label)[0] for label, _ in found]
        ax.set_xlabel(along.label)
        ax.set_ylabel(spec.units)
        ax.grid(True, lw=0.3)
        if len(found) > 1:
            ax.legend(fontsize="small")
        self.update(fields)

    def update(self, fields: Sequence[Field]) -> None:
        """Replace the curves and fit the axes."""
        for line, (_, values) in zip(self._lines, curves(fields), strict=True):
            if len(values) != len(self._x):  # histories grow
                self._x = self._along.offset + self._along.scale * np.arange(len(values))
            line.set_data(self._x, values)
        self._ax.relim()
        if self._log and any((values > 0).any() for _, values in curves(fields)):
            self._ax.set_yscale("log")  # not before: a logarithmic axis without positive values is a warning
            self._log = False
        self._ax.autoscale_view()


class TableArtist:
    """A few numbers as text."""

    def __init__(self, ax: Any, spec: PlotSpec, fields: Sequence[Field]) -> None:
        self._units = f" {spec.units}" if spec.units else ""
        ax.set_axis_off()
        style = {"transform": ax.transAxes, "va": "top", "family": "monospace", "linespacing": 1.6}
        self._text = ax.text(0.02, 0.95, "", **style)
        self.update(fields)

    def update(self, fields: Sequence[Field]) -> None:
        """Replace the numbers."""
        width = max(len(f.label) for f in fields)
        self._text.set_text("\n".join(f"{f.label:<{width}}  {numbers(f)}{self._units}" for f in fields))


def _picture(ax: Any, field: Field, **kwargs: Any) -> Any:
    """Return an empty image of the shape of `field` on calibrated axes."""
    shape = (field.values.shape[0], field.values.shape[1])
    box, y, x = extent((field.axes[0], field.axes[1]), shape)
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    ax.set_xlabel(x.label)
    ax.set_ylabel(y.label)
    for side, along in ((ax.xaxis, x), (ax.yaxis, y)):
        side.set_major_locator(MaxNLocator(5, integer=along.units == "px" and along.scale == 1))
    kwargs |= {"extent": box, "origin": "upper", "aspect": aspect(shape, y, x), "interpolation": "auto"}
    return ax.imshow(np.zeros(shape), **kwargs)
