"""Many random starts of one recipe: ranked by pixels that none has seen, aligned, compared."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import ConvergenceError, DataError
from framefold.udfs.cdi.algebra import Operator, run
from framefold.udfs.cdi.align import align, eigenmodes
from framefold.udfs.cdi.likelihood import Fit, fit
from framefold.udfs.cdi.prepare import FreePixels
from framefold.udfs.cdi.quality import Curve, prtf, shell_correlation
from framefold.udfs.cdi.recipe import parse
from framefold.udfs.cdi.state import CDI, FREE, random_object

RunTasks = Callable[[Callable[[int], "Start"], Iterable[int]], list["Start"]]


@dataclass(frozen=True, eq=False)
class Start:
    """One start: its figures, and its end state unless it was discarded.

    Attributes
    ----------
    seed
        Of the random object.
    fit
        At the end; None if it failed.
    support
        Share of pixels in the final support.
    end
        Final state, or None.
    reason
        Why it failed, or "".
    """

    seed: int
    fit: Fit | None
    support: float
    end: CDI | None
    reason: str = ""

    @property
    def rank(self) -> float:
        """Free likelihood per pixel, small is good; infinite if the start failed."""
        return float("inf") if self.fit is None else self.fit.llk_free


@dataclass(frozen=True, eq=False)
class Multistart:
    """What many starts agree on.

    Attributes
    ----------
    starts
        All, the best first; only the first `keep` have their end state.
    solutions
        Of the best ones, aligned, ``(keep, *shape)``.
    modes
        Eigenmodes of these; the first is what they share.
    weights
        Of the modes, their sum 1.
    prtf
        Phase retrieval transfer function.
    fsc
        Shell correlation of the means of every other solution; None with fewer than 4.
    best
        End state of the best start, its object the first mode.
    """

    starts: tuple[Start, ...]
    solutions: npt.NDArray[Any]
    modes: npt.NDArray[Any]
    weights: npt.NDArray[np.float64]
    prtf: Curve
    fsc: Curve | None
    best: CDI


def run_start(
    seed: int, cdi: CDI, recipe: Operator, counts: int = 1, backend: Literal["numpy", "cupy"] = "numpy"
) -> Start:
    """Return one start of a recipe; a start whose support vanishes is a failed one, not an error."""
    assert cdi.support is not None
    obj = random_object(cdi.data, cdi.support, seed, cdi.complex_dtype)
    begin = cdi.new(seed=seed, obj=obj, threads=counts)
    try:
        end = run(recipe, begin.on(backend))
        found = fit(end)
        end = end.on("numpy")
    except ConvergenceError as exc:
        return Start(seed, None, 0.0, None, str(exc))
    if not np.isfinite(found.llk_free):
        return Start(seed, None, 0.0, None, "the object is not finite")
    return Start(seed, found, float(end.parts[1].mean()), end)


def multistart(
    cdi: CDI,
    recipe: Operator | str,
    n: int = 50,
    keep: int = 5,
    *,
    free: float = 0.05,
    seed: int = 0,
    run_tasks: RunTasks | None = None,
    batch: int | None = None,
    on_batch: Callable[[Sequence[Start]], Any] | None = None,
    backend: Literal["numpy", "cupy"] = "numpy",
) -> Multistart:
    """Run a recipe from n random objects, and compare the best ends.

    Parameters
    ----------
    cdi
        Data, first support, pixel size.
    recipe
        Operator or text (`parse`).
    n, keep
        Starts in all, and how many of the best are compared.
    free
        Share of pixels held out to rank by, where `cdi` has none yet.
    seed
        Of the first start; the others follow.
    run_tasks
        ``run_tasks(function, items)``, such as ``ctx.run_tasks``, to run starts on its workers; None: here,
        one after the other, large transforms on all cores.
    batch
        Starts handed to `run_tasks` at a time; None: 16, or twice `keep`.
    on_batch
        Called with all starts so far, the best first, while they come. Returning False (not None) ends them
        there.
    backend
        ``"cupy"``: each start runs on a graphics card, its result comes back.

    Raises
    ------
    DataError
        For counts that make no sense, or a recipe that changes the held-out pixels.
    ConvergenceError
        If fewer than two starts succeed, with the reason of the first failure.

    Examples
    --------
    >>> from framefold.sim.coherent import coherent_pattern
    >>> cdi = CDI(coherent_pattern((24, 24)).iobs)
    >>> found = multistart(cdi, "ER**10*Sup*HIO**20*AutoCorrelationSupport", n=3, keep=2)
    >>> found.solutions.shape, len(found.starts)
    ((2, 24, 24), 3)
    """
    if not (n >= keep >= 2):
        raise DataError(f"multistart compares 2 solutions or more of the n starts, got n={n}, keep={keep}")
    op = parse(recipe) if isinstance(recipe, str) else recipe
    if not (cdi.data.code == FREE).any():
        cdi = FreePixels(free) * cdi
        if not (cdi.data.code == FREE).any():
            raise DataError(f"free={free} of the pixels is none: starts need held-out pixels to be ranked by")
    task = functools.partial(
        run_start, cdi=cdi, recipe=op, counts=0 if run_tasks is None else 1, backend=backend
    )
    starts: list[Start] = []
    size = 1 if run_tasks is None else max(16, 2 * keep) if batch is None else max(1, batch)
    for first in range(seed, seed + n, size):
        items = range(first, min(first + size, seed + n))
        starts += [task(i) for i in items] if run_tasks is None else run_tasks(task, items)
        starts.sort(key=lambda s: s.rank)
        # end states beyond the best are dropped at once: 50 volumes would not fit
        starts = starts[:keep] + [Start(s.seed, s.fit, s.support, None, s.reason) for s in starts[keep:]]
        if on_batch is not None and on_batch(tuple(starts)) is False:
            break
    ends = [s.end for s in starts[:keep] if s.end is not None]
    if len(ends) < 2:
        reason = next((s.reason for s in starts if s.reason), "none, they were ended")
        raise ConvergenceError(f"{len(ends)} of {len(starts)} starts succeeded; the first failure: {reason}")
    return compare(starts, ends)


def compare(starts: Sequence[Start], ends: Sequence[CDI]) -> Multistart:
    """Return what the end states of the best starts agree on; the first is the reference."""
    reference = ends[0].solution
    solutions = np.stack([reference, *(align(end.solution, reference).obj for end in ends[1:])])
    modes, weights = eigenmodes(solutions)
    halves = None
    if len(solutions) >= 4:
        halves = shell_correlation(solutions[::2].mean(0), solutions[1::2].mean(0), ends[0].pixel_size)
    transfer = prtf(solutions, ends[0])
    best = ends[0].new(obj=modes[0])
    return Multistart(tuple(starts), solutions, modes, weights, transfer, halves, best)
