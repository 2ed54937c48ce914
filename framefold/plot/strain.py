"""Pictures of strain: the four maps, and one frame with its fitted lattice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.plot.calibration import extent
from framefold.plot.colour import INVALID, limits
from framefold.plot.figure import bare_figure
from framefold.udfcore.metadata import Axis

Float = npt.NDArray[np.float64]

_LABELS = {
    "eps_xx": (r"$\varepsilon_{xx}$", "%", 100.0),
    "eps_yy": (r"$\varepsilon_{yy}$", "%", 100.0),
    "eps_xy": (r"$\varepsilon_{xy}$", "%", 100.0),
    "theta": (r"$\theta$", "°", math.degrees(1.0)),
}
_ARROWS = 20.0  # residuals are drawn this much longer


def maps_figure(maps: Mapping[str, Float], axes: tuple[Axis, ...] = (), angle: float = 0.0) -> Any:
    """Return a figure of strain maps: symmetric diverging colours, invalid pixels grey.

    Parameters
    ----------
    maps
        By name: strains, and theta in radians; of one or two axes.
    axes
        Of the scan, for the scale bar.
    angle
        Of x' from +x towards +y, degrees: drawn as a small cross of axes.
    """
    shown = {name: np.atleast_2d(values) for name, values in maps.items()}
    shape = next(iter(shown.values())).shape
    columns = 4 if shape[1] <= 1.3 * shape[0] else 2
    rows = -(-len(shown) // columns)
    height = 3.2 * min(max(shape[0] / shape[1], 0.35), 1.6) + 0.5
    figure = bare_figure(figsize=(3.5 * columns, height * rows + 0.2), layout="constrained")
    height_ratio = min(shape[0] / shape[1], 1.0)  # bars as high as the maps
    calibrated = len(axes) == 2 and all(a.calibrated for a in axes)
    box, _, across = extent(
        (axes[0], axes[1]) if calibrated else (Axis("y"), Axis("x")), (shape[0], shape[1])
    )
    for i, (name, values) in enumerate(shown.items()):
        label, units, factor = _LABELS.get(name, (name, "", 1.0))
        ax = figure.add_subplot(rows, columns, i + 1)
        low, high = limits(factor * values, symmetric=True)
        ax.set_facecolor(INVALID)
        image = ax.imshow(
            np.ma.masked_invalid(factor * values), cmap="RdBu_r", vmin=low, vmax=high, extent=box,
            interpolation="nearest",
        )  # fmt: skip
        ax.set_title(label)
        ax.set_xticks([])
        ax.set_yticks([])
        figure.colorbar(image, ax=ax, label=units, fraction=0.046 * height_ratio, pad=0.03)
        if i == 0:
            _axes_cross(ax, angle)
            _scale_bar(ax, across.scale * shape[1], across.units if calibrated else "scan steps")
    return figure


def _scale_bar(ax: Any, width: float, units: str) -> None:
    """Draw a bar of a round length, about a quarter of the width."""
    from matplotlib.patheffects import withStroke  # part of matplotlib, which is loaded by now

    rough = abs(width) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    length = power * max(f for f in (1, 2, 5) if f * power <= rough * 1.0001)
    fraction = length / abs(width)
    outline = [withStroke(linewidth=3, foreground="white")]
    ax.plot([0.05, 0.05 + fraction], [0.05, 0.05], transform=ax.transAxes, color="black", lw=3,
            path_effects=[withStroke(linewidth=5, foreground="white")], solid_capstyle="butt")  # fmt: skip
    ax.text(0.05, 0.075, f"{length:g} {units}", transform=ax.transAxes, ha="left",
            va="bottom", fontsize=8, path_effects=outline)  # fmt: skip


def _axes_cross(ax: Any, angle: float) -> None:
    """Draw the axes of the tensor into the upper right corner: x', and y' a quarter turn further down."""
    for turn, name in ((0.0, "x"), (90.0, "y")):
        a = math.radians(angle + turn)
        # axes fractions count from below, pictures from above
        ax.annotate(
            "", xy=(0.8 + 0.11 * math.cos(a), 0.88 - 0.11 * math.sin(a)), xytext=(0.8, 0.88),
            xycoords="axes fraction", arrowprops={"arrowstyle": "->", "lw": 1.2},
        )  # fmt: skip
        ax.text(0.8 + 0.15 * math.cos(a), 0.88 - 0.15 * math.sin(a), name, transform=ax.transAxes,
                ha="center", va="center", fontsize=8)  # fmt: skip


def fit_figure(
    image: Float, expected: Float, found: Float, fitted: Float, selector: npt.NDArray[np.bool_],
    radius: float, title: str = "",
) -> Any:  # fmt: skip
    """Return a figure of a diffraction pattern with its disks.

    Parameters
    ----------
    image
        Counts.
    expected, found, fitted
        ``(m, 2)`` (y, x) px: where disks were looked for, found, and where the lattice has them.
    selector
        Bool ``(m,)``: disks that counted.
    radius
        px.
    title
        Above the picture.
    """
    figure = bare_figure(figsize=(7.0, 6.4), layout="constrained")
    ax = figure.add_subplot()
    # the square root shows disks of very different brightness
    root = np.sqrt(np.clip(np.nan_to_num(image), 0, None))
    picture = ax.imshow(root, cmap="gray", vmax=float(np.quantile(root, 0.998)) or 1.0)
    figure.colorbar(picture, ax=ax, label="square root of counts", shrink=0.85)
    turn = np.linspace(0, 2 * np.pi, 49)
    for (y, x), used in zip(found, selector, strict=True):
        if np.isfinite(y) and np.isfinite(x):
            ax.plot(
                x + radius * np.cos(turn), y + radius * np.sin(turn), lw=0.9, color="C1" if used else "0.5"
            )
    ax.plot(expected[:, 1], expected[:, 0], "+", color="C0", ms=6, label="expected")
    ok = np.isfinite(found).all(axis=1)
    ax.plot(found[ok & selector, 1], found[ok & selector, 0], "o", ms=3.5, color="C1", label="found")
    ax.plot(found[ok & ~selector, 1], found[ok & ~selector, 0], "o", ms=3.5, color="0.5", label="left out")
    if np.isfinite(fitted).all():
        ax.plot(fitted[:, 1], fitted[:, 0], "x", color="C2", ms=5, label="lattice")
        use = ok & selector
        off = found[use] - fitted[use]
        ax.quiver(
            fitted[use, 1], fitted[use, 0], _ARROWS * off[:, 1], _ARROWS * off[:, 0], angles="xy",
            scale_units="xy", scale=1, color="C3", width=0.004, label=f"residual ×{_ARROWS:g}",
        )  # fmt: skip
    ax.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5), title=title)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.04), ncols=5, fontsize=8, frameon=False)
    return figure
