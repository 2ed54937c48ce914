"""What happens between two iterations: a step on in the recipe, a step back when it diverges, the end."""

from __future__ import annotations

from typing import Any

import numpy as np

from framefold.errors import ConvergenceError
from framefold.udfcore.iterative import History
from framefold.udfcore.namespace import to_host, xp_of
from framefold.udfs.ptycho import free_pixels
from framefold.udfs.ptycho.initial import more_modes, scaled
from framefold.udfs.ptycho.recipe import Modes

FLAT = 1e-3  # E changes by less than this share in 10 iterations: converged
MOST = 200
WORSE_THAN_NOTHING = 2.0  # E of a model that is dark everywhere is 1
RISES = 2.0  # times the best E, three iterations long: it diverges
HOVERS = 20.0  # the same for algorithms that move about a solution: on their way they meet it by chance
EXACT = 1e-9  # of E: below, rises are rounding


def converged(job: Any, history: History) -> bool | str:
    """Go on in the recipe; return why it is over."""
    loop = job.loop
    _guard(job, float(history["error"][-1]))
    loop.stage_iteration += 1
    if job.growing:
        return False  # the first algorithm of the recipe goes on as long as frames come
    stage = job.recipe.stages[loop.stage]
    error = history["error"]
    error = error[np.isfinite(error)]
    over = False
    reason = "the recipe is finished"
    if stage.n is not None:
        over = loop.stage_iteration >= stage.n
    elif loop.stage_iteration >= MOST:
        over, reason = True, f"{MOST} iterations of {type(stage).__name__}"
    elif loop.stage_iteration > 10 and len(error) > 10 and abs(error[-11] - error[-1]) < FLAT * error[-1]:
        over, reason = True, "converged: E changed by less than 0.1 % in 10 iterations"
    if job.setup.free is not None and free_pixels.back_to_minimum(job):
        return "over-fitting: pixels that the fit does not see are met worse and worse; fewer modes may help"
    if not over:
        return False
    return False if _next_stage(job) else reason


def _guard(job: Any, error: float) -> None:
    """Keep the best state; go back to it with half the step when the iteration diverges.

    Raises
    ------
    ConvergenceError
        After three times.
    """
    loop = job.loop
    stage = job.recipe.stages[loop.stage]
    if np.isnan(error) and getattr(stage, "keeps_waves", False):
        return  # these note an error now and then only
    if error <= loop.best_error and error < WORSE_THAN_NOTHING:
        loop.best_error, loop.bad_iterations = error, 0
        # the error is of the model before this iteration's step
        loop.best_object, loop.best_probe = job.before
        return
    finite = error < WORSE_THAN_NOTHING and bool(xp_of(loop.probe).isfinite(loop.probe).all())
    loop.bad_iterations += 1
    rise = HOVERS if getattr(stage, "keeps_waves", False) else RISES
    if finite and (error <= max(rise * loop.best_error, EXACT) or loop.bad_iterations < 3):
        return
    if loop.rollbacks == 3:
        raise ConvergenceError(
            f"the reconstruction diverged {loop.rollbacks + 1} times, E is {error:.3g} after "
            f"{loop.best_error:.3g} at best. " + " ".join(n for n in job.notes if "warning" in n)
        )
    loop.rollbacks += 1
    loop.bad_iterations, loop.damping = 0, loop.damping / 2
    loop.object, loop.probe = loop.best_object.copy(), loop.best_probe.copy()
    loop.v_object, loop.v_probe = 0 * loop.object, 0 * loop.probe
    loop.stage_iteration = -1  # 0 after this iteration: momenta and exit waves start anew
    job.probe_changed()
    job.say(f"it diverged at iteration {job.iteration + 1}: back to the best state, with half the step")


def _next_stage(job: Any) -> bool:
    loop = job.loop
    loop.best_error, loop.bad_iterations = np.inf, 0
    loop.free_best, loop.free_age = np.inf, 0
    loop.stage += 1
    loop.stage_iteration = 0
    stages = job.recipe.stages
    while loop.stage < len(stages) and isinstance(stages[loop.stage], Modes):
        _set_modes(job, stages[loop.stage].modes)
        loop.stage += 1
    return loop.stage < len(stages)


def _set_modes(job: Any, n: int) -> None:
    loop = job.loop
    probe = to_host(loop.probe)
    total = float((np.abs(probe) ** 2).sum())
    loop.probe = job.xp.asarray(scaled(more_modes(probe, n), total).astype(probe.dtype))
    loop.v_probe = 0 * loop.probe
    job.probe_changed()
