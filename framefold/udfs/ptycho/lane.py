"""What one lane has and does: kernels, weights, the places of its frames, a pass over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfs.ptycho.kernels.choose import make_kernels
from framefold.udfs.ptycho.kernels.protocol import FrameSet, Window
from framefold.udfs.ptycho.phases import PHASES

Array = npt.NDArray[Any]


class Stripe:
    """Corners, shifts and brightness of a lane's frames: the same arrays until they change.

    Kernels that copy them to a device see by that whether they have them.
    """

    def __init__(self, start: int, stop: int) -> None:
        self._rows = slice(start, stop)
        self._whole: tuple[Array, ...] = ()
        self._mine: tuple[Array, ...] = ()

    def of(self, loop: Any) -> tuple[Array, ...]:
        """Return the part of the loop state that belongs to the lane."""
        whole = loop.corner, loop.bank_index, loop.power
        if len(self._whole) == 0 or any(a is not b for a, b in zip(whole, self._whole, strict=True)):
            self._whole, self._mine = whole, tuple(a[self._rows] for a in whole)
        return self._mine


def task_data(job: Any) -> dict[str, Any]:
    """Return the kernels of the lane, with their plans and scratch memory, and the weights of the pixels."""
    shape = job.setup.window.shape
    waves = len(job.loop.probe) * len(job.loop.object)
    factor = job.setup.geometry.factor(shape)
    kernels = make_kernels(job.params, shape, waves, factor, len(job.setup.corner))
    free = job.setup.free
    seen = job.setup.good[None] if free is None else job.setup.good & ~free
    arrays = {"good": seen.astype(kernels.real), "ones": np.ones(shape, kernels.real)}
    if free is not None:
        arrays["hidden"] = free.astype(kernels.real)
    stripe = Stripe(*job.lane_rows)
    return {"kernels": kernels, "stripe": stripe, **{name: job.xp.asarray(a) for name, a in arrays.items()}}


def box(job: Any) -> tuple[list[int], list[int]]:
    """Return first and last (y, x) of the object that the lane's frames cover."""
    if job.setup.orientations:  # nobody knows yet where frames will lie
        return [0, 0], list(job.setup.canvas.shape)
    start, stop = job.lane_rows
    corner = job.setup.corner[start:stop]
    high = corner.max(axis=0) + np.asarray(job.setup.window.shape)
    low = corner.min(axis=0)
    if job.setup.reach:  # frames may move
        room = int(np.ceil(job.setup.reach)) + 1
        low = np.maximum(low - room, 0)
        high = np.minimum(high + room, job.setup.canvas.shape)
    return low.tolist(), high.tolist()


def process(job: Any, frames: Array, rows: npt.NDArray[np.int64]) -> None:
    """Add what the phase asks for, over the frames `rows` of the lane."""
    task, loop = job.task_data, job.loop
    start = job.lane_rows[0]
    target = getattr(job.results, "object", None)
    low, _ = box(job)
    window = Window(job.loop.object if target is None else target, *low)
    rows = rows[~loop.dark[start + rows]]
    corner, bank, power = task.stripe.of(loop)
    for k, good in enumerate(task.good):
        mine = rows if len(task.good) == 1 else rows[(start + rows) % len(task.good) == k]
        data = FrameSet(frames, corner, bank, good, loop.background, job.setup.limit, power)
        PHASES[job.phase](job, task.kernels, data, mine, window)
