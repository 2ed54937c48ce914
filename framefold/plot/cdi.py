"""Pictures of diffraction imaging: the object, its support, what many starts agree on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.plot.colour import hue_image
from framefold.plot.figure import bare_figure, require_matplotlib
from framefold.udfs.cdi.algebra import Operator
from framefold.udfs.cdi.quality import Curve
from framefold.udfs.cdi.starts import Multistart, Start
from framefold.udfs.cdi.state import CDI


def middle_slice(values: npt.NDArray[Any], support: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the index of what is drawn: the support and some margin, of a volume its middle slice."""
    where = [
        np.flatnonzero(support.any(axis=tuple(set(range(support.ndim)) - {a}))) for a in range(support.ndim)
    ]
    box: list[Any] = []
    for rows, n in zip(where, values.shape, strict=True):
        margin = max(2, len(rows) // 8)
        box.append(slice(max(0, rows[0] - margin), min(n, rows[-1] + 1 + margin)))
    if values.ndim == 3:
        box[0] = int(where[0][len(where[0]) // 2])
    return tuple(box)


def draw_object(ax: Any, cdi: CDI, title: str = "object") -> None:
    """Draw the object, its phase as hue and its modulus as brightness, with the edge of the support."""
    _, support = cdi.parts
    part = middle_slice(support, support)
    shown = cdi.solution[part]
    # the mean phase is arbitrary; turned to 0 it is the first hue
    total = shown.sum()
    shown = shown * (np.conj(total) / abs(total) if total else 1)
    extent, unit = _extent(shown.shape, cdi.pixel_size)
    top = float(np.quantile(np.abs(shown), 0.995)) or 1.0
    ax.imshow(hue_image(shown, np.ones(shown.shape, dtype=bool), top), extent=extent, interpolation="nearest")
    inside = support[part].astype(float)
    if inside.min() < inside.max():
        y = np.linspace(extent[3], extent[2], shown.shape[0] + 1)
        x = np.linspace(extent[0], extent[1], shown.shape[1] + 1)
        middle_y, middle_x = (y[1:] + y[:-1]) / 2, (x[1:] + x[:-1]) / 2
        ax.contour(middle_x, middle_y, inside, levels=[0.5], colors="white", linewidths=0.6)
    ax.set_title(title)
    ax.set_xlabel(f"x ({unit})")
    ax.set_ylabel(f"y ({unit})")


def _extent(
    shape: tuple[int, ...], pixel_size: float | None
) -> tuple[tuple[float, float, float, float], str]:
    if pixel_size is None:
        scale, unit = 1.0, "px"
    else:
        scale, unit = (pixel_size * 1e9, "nm") if pixel_size * max(shape) < 2e-6 else (pixel_size * 1e6, "µm")
    return (0.0, shape[1] * scale, shape[0] * scale, 0.0), unit


def draw_pattern(ax: Any, cdi: CDI) -> None:
    """Draw the measured intensities, logarithmic; what was not measured is grey."""
    code, intensity = np.fft.fftshift(cdi.data.code), np.fft.fftshift(cdi.data.intensity)
    if code.ndim == 3:
        code, intensity = code[len(code) // 2], intensity[len(intensity) // 2]
    shown = np.ma.masked_array(np.log10(intensity + 1), mask=code == 0)
    ax.set_facecolor("0.6")
    image = ax.imshow(shown, cmap="inferno", interpolation="nearest")
    ax.figure.colorbar(image, ax=ax, label="log10(counts + 1)", shrink=0.8)
    ax.set_title("measured")


def draw_curve(ax: Any, curve: Curve, name: str) -> None:
    """Draw a figure by spatial frequency, with its threshold and where it crosses."""
    line = ax.plot(curve.frequency, curve.value, label=name)[0]
    ax.plot(curve.frequency, curve.limit, ":", color=line.get_color(), lw=1)
    if np.isfinite(curve.cutoff):
        ax.axvline(curve.cutoff, color=line.get_color(), lw=0.6)
    ax.set_ylim(0, 1.1)
    ax.set_xlabel("spatial frequency (cycles / px)")
    ax.grid(True, lw=0.3)


def draw_starts(ax: Any, starts: tuple[Start, ...]) -> None:
    """Draw free likelihood against support size: starts that found the same object lie together."""
    done = [s for s in starts if s.fit is not None]
    ax.plot([100 * s.support for s in done], [s.rank for s in done], ".", color="0.5")
    kept = [s for s in done if s.end is not None]
    ax.plot([100 * s.support for s in kept], [s.rank for s in kept], "o", color="C3", label="compared")
    ax.set_xlabel("support (%)")
    ax.set_ylabel("free LLK per pixel")
    if done and min(s.rank for s in done) > 0:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:.3g}")
        if max(s.rank for s in done) < 10 * min(s.rank for s in done):
            ax.yaxis.set_minor_formatter("{x:.3g}")
    failed = len(starts) - len(done)
    ax.set_title(f"{len(done)} starts" + (f", {failed} failed" if failed else ""))
    ax.grid(True, lw=0.3, which="both")


def draw_history(ax: Any, cdi: CDI) -> None:
    """Draw the figures of fit that were recorded on the way."""
    cycles = [cycle for cycle, _ in cdi.history]
    for name in ("error", "llk", "llk_free"):
        values = [figures.get(name, np.nan) for _, figures in cdi.history]
        if np.isfinite(values).any():
            ax.semilogy(cycles, values, label=name)
    ax.set_xlabel("iteration")
    ax.set_title("fit")
    if ax.lines:
        ax.legend(fontsize="small")
    ax.grid(True, lw=0.3, which="both")


def start_figure(cdi: CDI, make_figure: Any = bare_figure) -> Any:
    """Return a figure of one state: pattern, object, history."""
    figure = make_figure(figsize=(12, 3.8), layout="constrained")
    axes = figure.subplots(1, 3)
    draw_pattern(axes[0], cdi)
    draw_object(axes[1], cdi, f"object, iteration {cdi.cycle}")
    draw_history(axes[2], cdi)
    return figure


def multistart_figure(found: Multistart, make_figure: Any = bare_figure) -> Any:
    """Return a figure of what many starts agree on.

    Pattern, first eigenmode, starts; modulus, phase repeatability and weights of the modes.
    """
    require_matplotlib()
    figure = make_figure(figsize=(12, 7.4), layout="constrained")
    axes = figure.subplots(2, 3)
    draw_pattern(axes[0, 0], found.best)
    share = f"{100 * found.weights[0]:.1f} % of {len(found.solutions)}"
    draw_object(axes[0, 1], found.best, f"first eigenmode, {share}")
    draw_starts(axes[0, 2], found.starts)
    _, support = found.best.parts
    part = middle_slice(support, support)
    extent, unit = _extent(support[part].shape, found.best.pixel_size)
    modulus = np.abs(found.best.solution[part])
    image = axes[1, 0].imshow(modulus, cmap="gray", extent=extent, interpolation="nearest")
    figure.colorbar(image, ax=axes[1, 0], shrink=0.8)
    axes[1, 0].set_title("modulus")
    axes[1, 0].set_xlabel(f"x ({unit})")
    draw_curve(axes[1, 1], found.prtf, "PRTF")
    if found.fsc is not None:
        draw_curve(axes[1, 1], found.fsc, "FSC of halves")
    axes[1, 1].legend(fontsize="small")
    axes[1, 2].bar(1 + np.arange(len(found.weights)), found.weights)
    axes[1, 2].set_yscale("log")
    axes[1, 2].set_title("weights of the eigenmodes")
    axes[1, 2].set_xlabel("mode")
    return figure


def save_atomically(figure: Any, path: str | Path) -> None:
    """Write a figure so that a reader never sees half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    figure.savefig(part, dpi=120, format=path.suffix.lstrip(".") or "png")
    part.replace(path)


@dataclass(frozen=True, repr=False)
class Show(Operator):
    """Draw the state into a picture file, over and over: an operator of recipes.

    Parameters
    ----------
    path
        ``{cycle}`` in the name is the number of iterations so far.
    """

    path: str = "cdi.png"

    def apply(self, cdi: CDI) -> CDI:
        """Return the state as it is."""
        save_atomically(start_figure(cdi.on("numpy")), self.path.format(cycle=cdi.cycle))
        return cdi
