"""LiberTEM's UDFs about a ring: `FEMUDF` in the frame, `CrystallinityUDF` in its spectrum."""

from __future__ import annotations

from typing import Any

import numpy as np

from framefold.compat.libertem.detector_masks import circular
from framefold.compat.libertem.udf import UDF
from framefold.udfcore.buffers import BufferDecl


class FEMUDF(UDF):
    """Standard deviation of each frame inside a ring: ``intensity`` of navigation shape.

    Parameters
    ----------
    center
        (x, y) in px.
    rad_in, rad_out
        Radii in px.
    """

    def __init__(self, center: Any, rad_in: float, rad_out: float) -> None:
        super().__init__(center=center, rad_in=rad_in, rad_out=rad_out)

    def get_result_buffers(self) -> dict[str, BufferDecl]:
        """Declare ``intensity``."""
        return {"intensity": self.buffer("nav", dtype="float32")}

    def get_task_data(self) -> dict[str, Any]:
        """Make the ring; like LiberTEM's it takes the centre as (y, x) of the mask."""
        sig_y, sig_x = tuple(self.meta.dataset_shape.sig)
        p = self.params
        outer, inner = (circular(p.center[1], p.center[0], sig_x, sig_y, r) for r in (p.rad_out, p.rad_in))
        return {"ring": outer & ~inner}

    def process_frame(self, frame: Any) -> None:
        """Take the standard deviation."""
        self.results.intensity[:] = np.std(frame[self.task_data.ring])


def run_fem(ctx: Any, dataset: Any, center: Any, rad_in: float, rad_out: float, roi: Any = None) -> Any:
    """Run `FEMUDF`."""
    return ctx.run_udf(dataset=dataset, udf=FEMUDF(center=center, rad_in=rad_in, rad_out=rad_out), roi=roi)


class CrystallinityUDF(UDF):
    """Sum of the amplitudes of each frame's spectrum inside a ring: ``intensity`` of navigation shape.

    Parameters
    ----------
    rad_in, rad_out
        Radii in px of the spectrum.
    real_center, real_rad
        Centre (y, x) and radius in px of a disk of the frame that is set to zero before; None: no disk.
    """

    def __init__(self, rad_in: float, rad_out: float, real_center: Any, real_rad: Any) -> None:
        super().__init__(rad_in=rad_in, rad_out=rad_out, real_center=real_center, real_rad=real_rad)

    def get_result_buffers(self) -> dict[str, BufferDecl]:
        """Declare ``intensity``."""
        return {"intensity": self.buffer("nav", dtype="float32")}

    def get_task_data(self) -> dict[str, Any]:
        """Make the masks of frame and half spectrum."""
        sig_y, sig_x = tuple(self.meta.dataset_shape.sig)
        p = self.params
        outside = None
        if p.real_center is not None and p.real_rad is not None:
            outside = ~circular(p.real_center[1], p.real_center[0], sig_x, sig_y, p.real_rad)
        outer, inner = (circular(sig_x * 0.5, sig_y * 0.5, sig_x, sig_y, r) for r in (p.rad_out, p.rad_in))
        ring = np.fft.fftshift(outer.astype(int) - inner)[:, : sig_x // 2 + 1]
        return {"outside": outside, "ring": ring}

    def process_frame(self, frame: Any) -> None:
        """Sum the spectrum."""
        data = frame if self.task_data.outside is None else frame * self.task_data.outside
        self.results.intensity[:] = np.sum(np.abs(np.fft.rfft2(data)) * self.task_data.ring)


def run_analysis_crystall(
    ctx: Any, dataset: Any, rad_in: float, rad_out: float, real_center: Any = None, real_rad: Any = None,
    roi: Any = None, progress: bool = False,
) -> Any:  # fmt: skip
    """Run `CrystallinityUDF`."""
    udf = CrystallinityUDF(rad_in, rad_out, real_center, real_rad)
    return ctx.run_udf(dataset=dataset, udf=udf, roi=roi, progress=progress)
