"""What a lane does in each phase of a pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfs.ptycho.kernels.protocol import FrameSet, KernelSet, Window

Rows = npt.NDArray[np.int64]
Phase = Callable[[Any, KernelSet, FrameSet, Rows, Window], None]


def residual(lane: Any, kernels: KernelSet, data: FrameSet, rows: Rows, target: Window) -> None:
    """Numerators of object and probe from the modulus residual."""
    loop, results = lane.loop, lane.results
    kernels.add_residuals(
        data,
        rows,
        loop.bank,
        loop.object,
        target,
        results.probe if loop.update_probe else None,
        results.misfit,
    )


PHASES: dict[str, Phase] = {"residual": residual}
