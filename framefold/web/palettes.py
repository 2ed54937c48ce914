"""Palettes: 255 colours for values, and grey in front for pixels without one."""

from __future__ import annotations

from framefold.plot.colour import INVALID
from framefold.web.look import LEVELS

GREY = "#" + "".join(f"{round(255 * c):02x}" for c in INVALID)
# matplotlib's names, which a PlotSpec uses, and Bokeh's
_BOKEH = {
    "viridis": "Viridis256",
    "inferno": "Inferno256",
    "magma": "Magma256",
    "plasma": "Plasma256",
    "cividis": "Cividis256",
    "turbo": "Turbo256",
    "gray": "Greys256",
    "RdBu_r": "RdBu11",
    "PuOr_r": "PuOr11",
}


def names(first: str) -> list[str]:
    """Return the palettes to choose from, with the one that a plot asks for."""
    return list(_BOKEH) if first in _BOKEH else [first, *_BOKEH]


def colours(name: str) -> tuple[str, ...]:
    """Return 255 colours as ``#rrggbb``, dark to bright.

    A name that Bokeh does not have is looked up in matplotlib; without it, or if it is unknown there too, the
    colours are those of viridis.
    """
    import bokeh.palettes  # noqa: PLC0415  # optional library

    if name in _BOKEH:
        full = tuple(getattr(bokeh.palettes, _BOKEH[name]))
        if len(full) < LEVELS:
            return tuple(bokeh.palettes.interp_palette(full, LEVELS))
        return tuple(full[round(i * (len(full) - 1) / (LEVELS - 1))] for i in range(LEVELS))
    try:
        import matplotlib as mpl  # noqa: PLC0415  # optional library

        table = mpl.colormaps[name].resampled(LEVELS)
    except (ImportError, KeyError):
        return colours("viridis")
    return tuple(mpl.colors.to_hex(table(i)) for i in range(LEVELS))


def with_grey(palette: tuple[str, ...]) -> tuple[str, ...]:
    """Return 256 colours for bytes: 0 is grey."""
    return (GREY, *palette)
