"""The extended ptychographic iterative engine: frame after frame, each lane on its own stripe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from framefold.errors import UDFError
from framefold.udfcore.iterative import Pass
from framefold.udfs.ptycho.recipe import Composable


@dataclass(frozen=True)
class EPIE(Composable):
    """ePIE (A. Maiden, J. Rodenburg, Ultramicroscopy 109 (2009) 1256), in random order.

    Per frame, both from the same old pair: ``O <- O + alpha conj(P) chi / max sum |P|^2`` and
    ``P <- P + alpha conj(O) chi / max |O|^2``, the maxima once per iteration. Every lane sweeps the frames
    that it holds on copies of its own, which are joined after each iteration: results depend on the number of
    lanes. Positions are rounded to whole pixels.

    Attributes
    ----------
    n
        Iterations.
    alpha
        Step length.
    a
        1: ePIE; less: rPIE, with ``(1 - a) |P|^2 + a max |P|^2`` in the place of the maximum.
    """

    n: int | None = 50
    alpha: float = 1.0
    a: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.a <= 1 or not 0 < self.alpha <= 2:
            raise UDFError(f"EPIE: a={self.a} must be in (0, 1] and alpha={self.alpha} in (0, 2]")

    def iterate(self, job: Any, iteration: int) -> Iterator[Pass]:
        """Do one iteration."""
        loop = job.loop
        if job.setup.canvas.steps > 1:
            raise UDFError("EPIE works on whole pixels: give subpixel=None ; --subpixel none, or use RPIE")
        loop.alpha, loop.mix, loop.sweeps = self.alpha * loop.damping, self.a, job.iteration
        yield Pass("sweep")
        sums = job.sums
        job.note_error(sums.misfit)
        weight = sums.weight
        xp = job.xp
        loop.object = loop.object + xp.where(weight > 0, sums.object / xp.maximum(weight, 1e-30), 0)
        loop.probe = loop.probe + sums.probe[0] / job.n_frames
        job.probe_changed()
