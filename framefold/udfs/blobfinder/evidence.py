"""A picture of the frames in which no lattice was found, for the error to name."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError

Float = npt.NDArray[np.float64]


def with_picture(error: DataError, mean: Float, acf: Float | None = None) -> DataError:
    """Return `error` with the path of a picture of the mean frame and the mean autocorrelation.

    Parameters
    ----------
    error
        What went wrong.
    mean
        Mean frame.
    acf
        Mean autocorrelation of the frames, where it is known.

    Notes
    -----
    The picture goes to the folder for temporary files. Where it cannot be drawn or written the error stays as
    it is: it must not be hidden by another.
    """
    try:
        from matplotlib.figure import Figure  # optional
    except ImportError:
        return error
    figure: Any = Figure(figsize=(9.0 if acf is not None else 4.8, 4.4), layout="constrained")
    panels = [("mean frame, square root", np.sqrt(np.clip(np.nan_to_num(mean), 0, None)))]
    if acf is not None:
        panels.append(("mean autocorrelation: distances between disks", np.nan_to_num(acf)))
    for i, (title, values) in enumerate(panels):
        ax = figure.add_subplot(1, len(panels), i + 1)
        low, high = np.quantile(values, [0.01, 0.995])
        ax.imshow(values, cmap="gray", vmin=low, vmax=max(high, low + 1e-12))
        ax.set(title=title, xticks=[], yticks=[])
    try:
        handle, path = tempfile.mkstemp(prefix="framefold-no-lattice-", suffix=".png")
        with os.fdopen(handle, "wb") as file:
            figure.savefig(file, format="png", dpi=110)
    except OSError:
        return error
    return DataError(f"{str(error).rstrip('.')}. A picture of what was seen: {path}")
