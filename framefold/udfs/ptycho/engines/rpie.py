"""Regularised PIE in mini-batches: the fast way from a rough start to a good one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.udfcore.iterative import Pass
from framefold.udfs.ptycho.kernels.rows import momentum_step
from framefold.udfs.ptycho.recipe import Composable

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class RPIE(Composable):
    """Regularised PIE over stratified batches, with heavy-ball momentum.

    Per batch, from one old pair: ``v <- mu v + step dO / ((1 - a) D_O + a max D_O)``, ``O <- O + v``, the
    same for P, with ``dO = sum conj(P) chi`` over the batch (A. Maiden et al., Optica 4 (2017) 736; the
    batches and the averaged denominators are ours). Finish with `AP`: batches stall above what the data
    allow.

    Attributes
    ----------
    n
        Iterations.
    a
        How much of the largest denominator stands in each.
    mu
        Momentum.
    step
        Step length.
    batches
        None: as many as the overlap of the frames allows.
    denominators
        ``"averaged"``: those of all frames divided by the number of batches; ``"exact"``: of each batch;
        ``"auto"``: averaged where each batch still covers the object.
    """

    n: int | None = 15
    a: float = 0.1
    mu: float = 0.5
    step: float = 1.0
    batches: int | None = None
    denominators: Literal["auto", "averaged", "exact"] = "auto"

    def __post_init__(self) -> None:
        if self.denominators not in ("auto", "averaged", "exact"):
            raise UDFError(f"RPIE: denominators={self.denominators!r} is not 'auto', 'averaged' or 'exact'")
        if not 0 < self.a <= 1 or not 0 <= self.mu < 1:
            raise UDFError(f"RPIE: a={self.a} must be in (0, 1] and mu={self.mu} in [0, 1)")

    def iterate(self, job: Any, iteration: int) -> Iterator[Pass]:
        """Do one iteration."""
        loop = job.loop
        # moved in place below: what others hold of them must not change
        loop.object, loop.probe = loop.object.copy(), loop.probe.copy()
        if iteration == 0:
            loop.v_object, loop.v_probe = 0 * loop.object, 0 * loop.probe
        averaged, batches = self._batches(job)
        misfit: Any = 0
        d_all = job.object_denominator() / batches if averaged else None
        p_all = job.probe_denominator() / batches if averaged else None
        step = self.step * loop.damping
        for rows in job.batches(batches):
            yield Pass("residual", rows)
            sums = job.sums
            misfit = misfit + sums.misfit
            if averaged:
                d_obj, d_probe = d_all, p_all
            else:
                histogram = job.histogram_of(rows)
                d_obj = histogram.of_object(loop.bank)
                d_probe = histogram.of_probe(loop.object, job.setup.window.shape)
            assert d_obj is not None
            assert d_probe is not None
            if loop.update_object:
                self._move(job, loop.object, loop.v_object, sums.object, d_obj, step)
            if loop.update_probe:
                self._move(job, loop.probe, loop.v_probe, job.unshifted(sums.probe), d_probe, step)
                job.probe_changed()
        job.note_error(misfit)

    def _move(
        self, job: Any, wave: Array, velocity: Array, numerator: Array, denominator: Array, step: float
    ) -> None:
        """Move a factor in place by its velocity."""
        if job.on_arrays:
            velocity *= self.mu
            velocity += numerator * (step / ((1 - self.a) * denominator + self.a * denominator.max()))
            wave += velocity
            return
        real = denominator.dtype
        top = self.a * float(denominator.max())
        rows = [np.ascontiguousarray(w, wave.dtype).view(real) for w in (wave, velocity, numerator)]
        momentum_step(rows[0], rows[1], rows[2], denominator, 1 - self.a, top, self.mu, step)

    def _batches(self, job: Any) -> tuple[bool, int]:
        """Return whether denominators are averaged, and the number of batches.

        Averaged ones need each batch to cover the object 3 times; with fewer they diverge.
        """
        room = int(job.loop.overlap / 3)
        averaged = room >= 6 if self.denominators == "auto" else self.denominators == "averaged"
        if self.batches is not None:
            return averaged, max(1, min(self.batches, job.n_frames))
        wanted = min(8, max(1, room)) if averaged else 16 if len(job.loop.probe) == 1 else 8
        return averaged, max(1, min(wanted, job.n_frames))
