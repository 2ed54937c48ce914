"""Alternating projections: a full sweep, then both factors from the same old pair."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from framefold.udfcore.iterative import Pass
from framefold.udfs.ptycho.recipe import Composable

EPS_OBJECT = 1e-3
EPS_PROBE = 1e-6
RISE = 1e-4  # of E: less is no reason to give momentum up


@dataclass(frozen=True)
class AP(Composable):
    """Alternating projections (error reduction) with momentum, without stored exit waves.

    ``O <- O + step sum conj(P) chi / (D_O + eps)``, and the same for P from the same old pair, with
    ``chi = Pi(P O) - P O``: preconditioned steepest descent on ``sum (|F| - sqrt I)^2``, monotone for a step
    of 1/2 (1 while only one of them moves), for each of the two preconditioners bounds its half of the
    curvature. On top Nesterov's extrapolation, ``k / (k + 3)`` of the last step, which starts anew when E
    grows (B. O'Donoghue, E. Candes, Found. Comput. Math. 15 (2015) 715): slow modes take a tenth of the time.

    Attributes
    ----------
    n
        Iterations; None: until E changes by less than 0.1 % in 10 iterations, at most 200.
    momentum
        Whether to extrapolate.
    """

    n: int | None = None
    momentum: bool = True

    def iterate(self, job: Any, iteration: int) -> Iterator[Pass]:
        """Do one iteration."""
        yield Pass("residual")
        loop, sums = job.loop, job.sums
        error = job.note_error(sums.misfit)
        if iteration == 0:
            loop.v_object, loop.v_probe = loop.object.copy(), loop.probe.copy()
        if iteration == 0 or error > loop.last_error * (1 + RISE):
            loop.momentum_age = 0
        loop.last_error = error
        both = loop.update_object and loop.update_probe
        step = (0.5 if both else 1.0) * loop.damping
        share = loop.momentum_age / (loop.momentum_age + 3) if self.momentum else 0.0
        loop.momentum_age += 1
        d_obj = job.object_denominator()
        d_probe = job.probe_denominator() if loop.update_probe else None
        # v_object and v_probe hold the points before extrapolation
        if loop.update_object:
            new = loop.object + step * sums.object / (d_obj + EPS_OBJECT * d_obj.max())
            loop.object = new + share * (new - loop.v_object)
            loop.v_object = new
        if d_probe is not None:
            new = loop.probe + step * job.unshifted(sums.probe) / (d_probe + EPS_PROBE * d_probe.max())
            loop.probe = new + share * (new - loop.v_probe)
            loop.v_probe = new
            job.probe_changed()
