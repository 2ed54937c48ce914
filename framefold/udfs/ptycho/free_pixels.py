"""Pixels that the fit does not see, and what the model says about them: the test for over-fitting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.iterative import Pass
from framefold.udfcore.namespace import to_host, xp_of
from framefold.udfs.ptycho.positions import place

Array = npt.NDArray[Any]
SETS = 16  # neighbouring frames hide different pixels: what no frame shows, the fit could not know
EVERY = 5  # iterations between two looks: each costs a transform per frame
PATIENCE = 15  # iterations above the minimum
RISE = 0.01  # of the minimum: less is noise
SOFT = 0.25  # counts, as in the likelihood of ML: a dark model costs a finite amount


def hold_out(good: npt.NDArray[np.bool_], share: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return `SETS` random shares of the good pixels, each at least one: ``(SETS, ny, nx)``."""
    places = np.flatnonzero(good)
    out = np.zeros((SETS, *good.shape), bool)
    for one in out:
        one.reshape(-1)[rng.choice(places, max(1, round(share * len(places))), replace=False)] = True
    return out


def deviances(counts: Array, model: Array) -> Array:
    """Return ``J_m - J + J log(J / J_m)``, ``J = I + 0.25``: 1/2 on average if the model is true, float64.

    It is the Poisson log-likelihood but for the sign and a constant of the data.
    """
    j, j_model = counts.astype(np.float64) + SOFT, model.astype(np.float64) + SOFT
    return j_model - j + j * xp_of(j).log(j / j_model)


def measure(job: Any) -> Iterator[Pass]:
    """Record ``llk_free``, per held-out pixel, of the model as it is, and keep the state of its minimum."""
    yield Pass("free")
    loop = job.loop
    found = to_host(job.sums.free)
    value = float(found[0] / found[1])
    job.record(llk_free=value)
    if value < loop.free_best:
        loop.free_best, loop.free_age = value, 0
        loop.free_object, loop.free_probe = loop.object.copy(), loop.probe.copy()
        loop.free_moves = np.array(loop.moves)
    else:
        loop.free_age = loop.free_age + EVERY if value > (1 + RISE) * loop.free_best else 0


def held(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return `values` with the last finite one in the place of NaN: a curve without gaps.

    >>> held(np.array([np.nan, 2.0, np.nan, 1.0, np.nan])).tolist()
    [nan, 2.0, 2.0, 1.0, 1.0]
    """
    last = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(len(values)), 0))
    return np.asarray(values[last])


def back_to_minimum(job: Any) -> bool:
    """Return whether the model has been fitting noise for long; if so, go back to where that began."""
    loop = job.loop
    if loop.free_age < PATIENCE:
        return False
    loop.object, loop.probe = loop.free_object.copy(), loop.free_probe.copy()
    if job.params.refine_positions:
        loop.moves = np.array(loop.free_moves)
        loop.corner, loop.bank_index = place(job.start_pixels + loop.moves, job.setup.canvas.steps)
        job.positions_changed()
    job.probe_changed()
    return True
