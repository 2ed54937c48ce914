"""Pictures of angular correlations and invariants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from framefold.plot.figure import bare_figure

if TYPE_CHECKING:
    from framefold.udfs.fxs.c2_result import Correlation
    from framefold.udfs.fxs.kam import Invariants

Array = npt.NDArray[Any]
Q_LABEL = "q (1/Å)"


def figure_correlation(c: Correlation, title: str = "", **options: Any) -> Any:
    """Return a matplotlib figure: SAXS, C2(q, q, D), C2(q0, q', D), agreement of the halves, odd over even.

    Parameters
    ----------
    c
        The correlations.
    title
        Above all panels.
    options
        Of `Correlation.c_m`.
    """
    figure = bare_figure(figsize=(13, 7.6), layout="constrained")
    axes = figure.subplots(2, 3)
    figure.suptitle(title or f"{c.n_frames()} {'pairs' if c.paired else 'shots'}")
    c2 = c.c2(**options)
    saxs(axes[0, 0], c)
    diagonal = np.stack([c2[i, i] for i in range(len(c.q))])
    correlation_map(axes[0, 1], diagonal, c.q, "C2(q, q, Δ) / SAXS²", c.saxs**2)
    i0 = len(c.q) // 2
    correlation_map(axes[0, 2], c2[i0], c.q, f"C2({c.q[i0]:.3g}, q', Δ) / SAXS SAXS'", c.saxs[i0] * c.saxs)
    axes[0, 2].set_ylabel("q' (1/Å)")
    if c.halves and min(c.n_frames(half=h) for h in (0, 1)) >= 2:
        agreement(axes[1, 0], axes[1, 1], c, **options)
    else:
        for ax in axes[1, :2]:
            ax.set_axis_off()
        axes[1, 0].text(0.5, 0.5, "no halves to compare", ha="center")
    ratio = c.odd_even(**options)
    axes[1, 2].semilogy(c.q[: len(ratio)], np.maximum(np.abs(ratio), 1e-6))
    axes[1, 2].set(xlabel=Q_LABEL, title="odd / even orders: centre and mask alarm")
    return figure


def saxs(ax: Any, c: Correlation) -> None:
    """Draw the mean intensity, with the Guinier fit of the innermost rings."""
    good = c.saxs > 0
    ax.semilogy(c.q[good], c.saxs[good])
    radius, amplitude = guinier(c.q, c.saxs)
    title = "SAXS"
    if np.isfinite(radius):
        inner = c.q[c.q * radius < 2]
        ax.semilogy(inner, amplitude * np.exp(-((inner * radius) ** 2) / 3), "--", lw=1)
        title += f", Guinier radius {radius:.3g} Å"
    ax.set(xlabel=Q_LABEL, ylabel="photons / pixel", title=title)


def guinier(q: Array, intensity: Array) -> tuple[float, float]:
    """Return R and I0 of ``I = I0 exp(-q^2 R^2 / 3)`` where ``q R < 1.3``; NaN if there is none."""
    n = len(q)
    for _ in range(20):
        use = np.zeros(len(q), bool)
        use[:n] = intensity[:n] > 0
        if use.sum() < 3:
            break
        slope, offset = np.polyfit(q[use] ** 2, np.log(intensity[use]), 1)
        if slope >= 0:
            break
        radius = float(np.sqrt(-3 * slope))
        reach = int((q * radius < 1.3).sum())
        if reach >= n:
            return radius, float(np.exp(offset))
        n = max(reach, min(n - 1, 3))
        if n < 3:
            break
    return float("nan"), float("nan")


def correlation_map(ax: Any, c2: Array, q: Array, title: str, scale: Array) -> None:
    """Draw ``(n_q, P)`` correlations over angle and q, each ring relative to `scale`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(scale[:, None] > 0, c2 / scale[:, None], np.nan)
    known = relative[:, 3:-2]  # next to D = 0 lies what the self-term left
    limit = float(np.nanpercentile(np.abs(known), 97)) if np.isfinite(known).any() else 1.0
    image = ax.imshow(
        relative, origin="lower", aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit,
        extent=(0, 360, q[0], q[-1]), interpolation="nearest",
    )  # fmt: skip
    ax.figure.colorbar(image, ax=ax)
    ax.set(xlabel="Δ (degrees)", ylabel=Q_LABEL, title=title, xticks=range(0, 361, 90))


def agreement(map_ax: Any, curve_ax: Any, c: Correlation, **options: Any) -> None:
    """Draw CC1/2 by order and shell, and per shell with the shots still needed."""
    found = c.cc_half(**options)
    top = min(len(found.orders), 32)
    image = map_ax.imshow(
        found.map[:top], origin="lower", aspect="auto", cmap="RdBu_r", vmin=-1, vmax=1,
        extent=(found.q[0], found.q[-1] + 1e-9, found.orders[0] - 0.5, found.orders[top - 1] + 0.5),
        interpolation="nearest",
    )  # fmt: skip
    map_ax.figure.colorbar(image, ax=map_ax)
    map_ax.set(xlabel=Q_LABEL, ylabel="order m", title="CC1/2")
    curve_ax.plot(found.q, found.curve, "o-", label="CC1/2")
    curve_ax.plot(found.q, found.cc_star, ":", label="CC*")
    curve_ax.axhline(0.5, color="0.7", lw=0.8)
    needed = found.shots_needed[0]
    last = needed[np.isfinite(needed)]
    text = f"all shells reach 0.5 with {last.max():.2g} shots" if len(last) == len(needed) else ""
    curve_ax.set(xlabel=Q_LABEL, ylim=(-0.1, 1.05), title=text or "agreement per shell")
    curve_ax.legend(loc="lower left")


def figure_invariants(inv: Invariants, truth: Array | None = None, title: str = "") -> Any:
    """Return a figure of ``B_l(q, q')``, and of its diagonal beside the truth where it is known."""
    shown = inv.degrees[1:7]
    columns = 3
    rows = -(-(len(shown) + 1) // columns)
    figure = bare_figure(figsize=(4 * columns, 3.4 * rows), layout="constrained")
    figure.suptitle(title or "Invariants $B_l(q, q')$")
    axes = figure.subplots(rows, columns).reshape(-1)
    for ax, degree in zip(axes, shown, strict=False):
        b = inv.b_l[degree // 2]
        norm = np.sqrt(np.maximum(np.outer(np.diag(inv.b_l[0]), np.diag(inv.b_l[0])), 1e-300))
        relative = b / norm
        limit = float(np.nanpercentile(np.abs(relative), 98)) or 1.0
        image = ax.imshow(
            relative, origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit,
            extent=(inv.q[0], inv.q[-1], inv.q[0], inv.q[-1]),
        )  # fmt: skip
        figure.colorbar(image, ax=ax)
        agree = inv.cc_half[degree // 2]
        name = f"$B_{{{degree}}} / \\sqrt{{B_0 B_0'}}$"
        title = name if np.isnan(agree) else f"{name}, CC1/2 {agree:.3f}"
        ax.set(title=title, xlabel="q' (1/Å)", ylabel=Q_LABEL)
    ax = axes[len(shown)]
    for k, degree in enumerate(inv.degrees[:4]):
        known = np.diag(inv.b_l[k])
        known = np.where(known > 0, known, np.nan)  # noise of small q may be negative
        ax.semilogy(inv.q, known, color=f"C{k}", label=f"l = {degree}")
        if truth is not None:
            ax.semilogy(inv.q, np.diag(truth[k]), "--", color=f"C{k}", lw=1)
    top = float(np.nanmax(np.diag(inv.b_l[0])))
    ax.set(
        xlabel=Q_LABEL,
        ylabel="$B_l(q, q)$",
        ylim=(top * 1e-8, top * 3),
        title="diagonal" + (", truth dashed" if truth is not None else ""),
    )
    ax.legend()
    for rest in axes[len(shown) + 1 :]:
        rest.set_axis_off()
    return figure
