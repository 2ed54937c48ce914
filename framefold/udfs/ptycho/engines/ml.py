"""Maximum likelihood by preconditioned conjugate gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy.typing as npt

from framefold.errors import UDFError
from framefold.udfcore.iterative import Pass
from framefold.udfcore.namespace import to_host
from framefold.udfs.ptycho.engines.ap import EPS_OBJECT, EPS_PROBE
from framefold.udfs.ptycho.recipe import Composable

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ML(Composable):
    """Maximum likelihood: ``L = sum w (J_m - J log J_m)``, ``J = I + 0.25``, by conjugate gradients.

    Polak-Ribiere. The quarter of a count bounds the slope in the dark; it moves no minimum of the
    expectation.

    Directions are preconditioned by the denominators D_O and D_P; the step is one of Newton along the
    direction, from ``I(a) = |F + a D|^2`` (P. Thibault, M. Guizar-Sicairos, New J. Phys. 14 (2012) 063004).
    Start from `RPIE` or `DM`: from a flat object it is slow.

    Attributes
    ----------
    n
        Iterations; None: until E changes by less than 0.1 % in 10 iterations, at most 200.
    noise
        ``"poisson"``, or ``"amplitude"``: ``L = sum w (sqrt I_m - sqrt I)^2``.
    """

    n: int | None = 50
    noise: Literal["poisson", "amplitude"] = "poisson"

    def __post_init__(self) -> None:
        if self.noise not in ("poisson", "amplitude"):
            raise UDFError(f"ML: noise={self.noise!r} is not 'poisson' or 'amplitude'")

    def iterate(self, job: Any, iteration: int) -> Iterator[Pass]:
        """Do one iteration."""
        loop = job.loop
        loop.poisson = self.noise == "poisson"
        yield Pass("slopes")
        error = job.note_error(job.sums.misfit)
        g_object, g_probe = job.sums.object.copy(), job.unshifted(job.sums.probe)
        d_obj, d_probe = job.object_denominator(), job.probe_denominator()
        z_object = g_object / (d_obj + EPS_OBJECT * d_obj.max())
        z_probe = g_probe / (d_probe + EPS_PROBE * d_probe.max())
        if not loop.update_probe:
            g_probe, z_probe = 0 * g_probe, 0 * z_probe
        fresh = iteration == 0 or loop.cg_probe != loop.update_probe or error > loop.last_error
        before = (z_object, z_probe) if fresh else (loop.z_object, loop.z_probe)
        norm, overlap = _dots(job, (g_object, g_probe), (z_object, z_probe), before)
        beta = 0.0 if fresh or loop.cg_norm <= 0 else max(0.0, (norm - overlap) / loop.cg_norm)
        loop.d_object = z_object + (beta * loop.d_object if beta else 0)
        loop.d_probe = z_probe + (beta * loop.d_probe if beta else 0)
        if beta and _dots(job, (g_object, g_probe), (loop.d_object, loop.d_probe))[0] <= 0:
            loop.d_object, loop.d_probe = z_object, z_probe
        loop.z_object, loop.z_probe, loop.cg_norm = z_object, z_probe, norm
        loop.cg_probe, loop.last_error = loop.update_probe, error
        loop.step_bank = job.shifted(loop.d_probe)
        yield Pass("line")
        slope, curvature, expected = to_host(job.sums.line).tolist()
        expected *= 1.0 if loop.poisson else 0.5
        # far from the solution the curvature may vanish or turn negative: there that which is expected holds
        step = -loop.damping * slope / max(curvature, 0.5 * expected, 1e-30)
        loop.object = loop.object + step * loop.d_object.astype(loop.object.dtype)
        loop.probe = loop.probe + step * loop.d_probe.astype(loop.probe.dtype)
        job.probe_changed()


def _dots(job: Any, a: tuple[Array, Array], *others: tuple[Array, Array]) -> list[float]:
    """Return the real inner products of a pair of arrays with other pairs, in one go from a device."""
    vdot = job.xp.vdot
    found = [vdot(a[0], b[0]).real + vdot(a[1], b[1]).real for b in others]
    return to_host(job.xp.stack(found)).tolist()
