"""Difference map and RAAR: exit waves of all frames are kept, and object and probe follow them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from framefold.errors import UDFError
from framefold.udfcore.iterative import Pass
from framefold.udfcore.namespace import to_host
from framefold.udfs.ptycho.engines.ap import EPS_OBJECT, EPS_PROBE
from framefold.udfs.ptycho.recipe import Composable

INNER = 10  # rounds of probe and object per iteration, at most
SETTLED = 0.05  # of the probe: changes below end the rounds
RECENTRE_EVERY = 10
MISFIT_EVERY = 5


@dataclass(frozen=True)
class DM(Composable):
    """Difference map: ``psi <- psi + Pi(2 P O - psi) - P O`` (P. Thibault et al., Science 321 (2008) 379).

    Object and probe follow in turn, each with the newest other one: both from the old pair diverge. Finish
    with `AP`: the difference map hovers about the solution. E is that of P O, every fifth iteration.

    Attributes
    ----------
    n
        Iterations.
    """

    n: int | None = 100
    keeps_waves: ClassVar[bool] = True

    def iterate(self, job: Any, iteration: int) -> Iterator[Pass]:
        """Do one iteration."""
        yield from _iterate(job, iteration, 1.0, -1.0)


@dataclass(frozen=True)
class RAAR(Composable):
    """Relaxed averaged alternating reflections: ``psi <- beta (psi + Pi(2 P O - psi)) + (1 - 2 beta) P O``.

    D. R. Luke, Inverse Problems 21 (2005) 37; otherwise as `DM`.

    Attributes
    ----------
    n
        Iterations.
    beta
        1: the difference map.
    """

    n: int | None = 100
    beta: float = 0.75
    keeps_waves: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.5 <= self.beta <= 1:
            raise UDFError(f"RAAR: beta={self.beta} must be from 0.5 to 1")

    def iterate(self, job: Any, iteration: int) -> Iterator[Pass]:
        """Do one iteration."""
        yield from _iterate(job, iteration, self.beta, 1 - 2 * self.beta)


def _iterate(job: Any, iteration: int, beta: float, gamma: float) -> Iterator[Pass]:
    loop = job.loop
    loop.beta, loop.gamma = beta, gamma
    if iteration == 0 or loop.refill:
        loop.refill = False
        yield Pass("fill")
    elif len(job.fresh):
        yield Pass("fill", job.fresh)
    job.fresh = job.fresh[:0]
    if iteration % MISFIT_EVERY == 0:
        frozen, loop.update_probe = loop.update_probe, False
        yield Pass("residual")
        loop.update_probe = frozen
        job.note_error(job.sums.misfit)
    yield Pass("relax")
    _update_object(job)
    if loop.update_probe:
        for _ in range(INNER):
            yield Pass("probe")
            d_probe = job.probe_denominator()
            change = job.unshifted(job.sums.probe) / (d_probe + EPS_PROBE * d_probe.max())
            loop.probe = loop.probe + change
            job.probe_changed()
            norm = job.xp.linalg.norm
            if norm(change) < SETTLED * norm(loop.probe):
                break
            yield Pass("object")
            _update_object(job)
    if (iteration + 1) % RECENTRE_EVERY == 0:
        yield from _recentre(job)


def _update_object(job: Any) -> None:
    d_obj = job.object_denominator()
    job.loop.object = job.loop.object + job.sums.object / (d_obj + EPS_OBJECT * d_obj.max())


def _recentre(job: Any) -> Iterator[Pass]:
    """Move probe, object and exit waves together so that the probe's weight lies in the middle again."""
    loop = job.loop
    power = to_host((job.xp.abs(loop.probe) ** 2).sum(axis=0))
    shift = []
    for axis, n in enumerate(power.shape):
        line = power.sum(axis=1 - axis)
        centre = float((line * np.arange(n)).sum() / line.sum())
        shift.append(n // 2 - round(centre))
    if not any(shift):
        return
    loop.shift = tuple(shift)
    loop.probe = job.xp.roll(loop.probe, loop.shift, axis=(-2, -1))
    loop.object = job.xp.roll(loop.object, loop.shift, axis=(-2, -1))
    job.probe_changed()
    yield Pass("roll")
