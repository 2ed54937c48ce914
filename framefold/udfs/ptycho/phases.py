"""What a lane does in each phase of a pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfs.ptycho.denominators import Histogram, power
from framefold.udfs.ptycho.free_pixels import deviances
from framefold.udfs.ptycho.kernels.protocol import FrameSet, KernelSet, SweepStep, Window

Rows = npt.NDArray[np.int64]
Phase = Callable[[Any, KernelSet, FrameSet, Rows, Window], None]


def residual(lane: Any, kernels: KernelSet, data: FrameSet, rows: Rows, target: Window) -> None:
    """Add the numerators of object and probe from the modulus residual."""
    loop, results = lane.loop, lane.results
    numerator = results.probe if loop.update_probe else None
    kernels.add_residuals(data, rows, loop.bank, loop.object, target, numerator, results.misfit)


def fill(lane: Any, kernels: KernelSet, data: FrameSet, rows: Rows, target: Window) -> None:
    """Start the exit waves as P O."""
    kernels.fill_waves(data, rows, lane.loop.bank, lane.loop.object, lane.state.waves)


def relax(lane: Any, kernels: KernelSet, data: FrameSet, rows: Rows, target: Window) -> None:
    """Move the exit waves and add the object's numerator."""
    loop = lane.loop
    kernels.relax(
        data,
        rows,
        loop.bank,
        loop.object,
        lane.state.waves,
        loop.beta,
        loop.gamma,
        target,
        lane.results.misfit,
    )


def waves_to_probe(lane: Any, kernels: KernelSet, data: FrameSet, rows: Rows, target: Window) -> None:
    """Add the probe's numerator from the exit waves."""
    loop = lane.loop
    kernels.add_wave_numerators(
        data, rows, loop.bank, loop.object, lane.state.waves, None, lane.results.probe
    )


def waves_to_object(lane: Any, kernels: KernelSet, data: FrameSet, rows: Rows, target: Window) -> None:
    """Add the object's numerator from the exit waves."""
    loop = lane.loop
    kernels.add_wave_numerators(data, rows, loop.bank, loop.object, lane.state.waves, target, None)


def roll(lane: Any, kernels: KernelSet, data: FrameSet, rows: Rows, target: Window) -> None:
    """Move the exit waves by whole pixels."""
    waves = lane.state.waves
    for part in kernels.parts(rows):
        waves[part] = lane.xp.roll(waves[part], lane.loop.shift, axis=(-2, -1))


def slopes(lane: Any, kernels: KernelSet, data: FrameSet, rows: Rows, target: Window) -> None:
    """Add half the negative gradient of the likelihood."""
    loop, results = lane.loop, lane.results
    kernels.add_slopes(
        data, rows, loop.bank, loop.object, target, results.probe, results.misfit, loop.poisson
    )


def line(lane: Any, kernels: KernelSet, data: FrameSet, rows: Rows, target: Window) -> None:
    """Add slope and curvature of the likelihood along the step."""
    loop = lane.loop
    kernels.add_line(
        data, rows, loop.bank, loop.object, loop.step_bank, loop.d_object, lane.results.line, loop.poisson
    )


def sweep(lane: Any, kernels: KernelSet, data: FrameSet, rows: Rows, target: Window) -> None:
    """Update private copies of object and probe frame after frame; add what changed, weighted.

    Object changes are weighted by the illumination through the lane's frames, probe changes by their number.
    """
    loop, results = lane.loop, lane.results
    if len(rows) == 0:
        return
    obj, probe = loop.object.copy(), loop.probe.copy()
    tops = (power(w).max() for w in (probe, obj))
    order = lane.rng(2, loop.sweeps, lane.lane_rows[0]).permutation(rows)
    step = SweepStep(loop.alpha, loop.mix, *tops)
    kernels.sweep(data, order, probe, obj, step, loop.update_probe, results.misfit)
    start, _ = lane.lane_rows
    corner, bank = lane.loop.corner[start + rows], np.zeros(len(rows), np.int64)
    counted = Histogram(corner, bank, 1, obj.shape[-2:], kernels.real, lane.xp)
    weight = counted.of_object(loop.probe[None])
    weight = weight + 1e-6 * weight.max()
    (ys, xs) = lane.windows["object"][1:]
    results.object += ((obj - loop.object) * weight)[:, ys, xs]
    results.weight += weight
    results.probe[0] += (probe - loop.probe) * len(rows)


def positions(lane: Any, kernels: KernelSet, data: FrameSet, rows: Rows, target: Window) -> None:
    """Write the step of each frame's position."""
    loop, moves = lane.loop, lane.results.moves
    for part in kernels.parts(rows):
        moves[lane.lane_rows[0] + part] = kernels.position_steps(
            data, part, loop.bank, loop.object, loop.slopes
        )


def background(lane: Any, kernels: KernelSet, data: FrameSet, rows: Rows, target: Window) -> None:
    """Add measured over modelled counts."""
    loop, xp = lane.loop, lane.xp
    for part in kernels.parts(rows):
        model = kernels.intensity(data, part, loop.bank, loop.object)
        counts, good = kernels.measured(data, part)
        lane.results.ratio[...] += xp.where(good > 0, counts / xp.maximum(model, 1e-6), 1).sum(axis=0)


def free(lane: Any, kernels: KernelSet, data: FrameSet, rows: Rows, target: Window) -> None:
    """Add the deviance of held-out pixels, and their number."""
    loop, sets = lane.loop, lane.task_data.hidden
    every = replace(data, good=lane.task_data.ones)
    for part in kernels.parts(rows):
        counts, hidden = kernels.measured(every, part)
        hidden = hidden * sets[(lane.lane_rows[0] + part) % len(sets)]
        model = kernels.intensity(data, part, loop.bank, loop.object)
        lane.results.free[0] += (hidden * deviances(counts, model)).sum(dtype=np.float64)
        lane.results.free[1] += hidden.sum(dtype=np.float64)


def survey(lane: Any, kernels: KernelSet, data: FrameSet, rows: Rows, target: Window) -> None:
    """Write the measured counts of each frame."""
    for part in kernels.parts(rows):
        counts, good = kernels.measured(data, part)
        lane.results.counts[lane.lane_rows[0] + part] = _sum(good * (counts - lane.setup.pedestal))


def brightness(lane: Any, kernels: KernelSet, data: FrameSet, rows: Rows, target: Window) -> None:
    """Write measured and modelled counts of each frame, both without background."""
    loop, out = lane.loop, lane.results.brightness
    for part in kernels.parts(rows):
        model = kernels.intensity(data, part, loop.bank, loop.object) - data.background
        counts, good = kernels.measured(data, part)
        out[lane.lane_rows[0] + part, 0] = _sum(good * (counts - data.background))
        out[lane.lane_rows[0] + part, 1] = _sum(good * model)


def _sum(frames: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return frames.sum(axis=(-2, -1), dtype=np.float64)


PHASES: dict[str, Phase] = {
    "residual": residual,
    "fill": fill,
    "relax": relax,
    "probe": waves_to_probe,
    "object": waves_to_object,
    "roll": roll,
    "slopes": slopes,
    "line": line,
    "sweep": sweep,
    "positions": positions,
    "background": background,
    "free": free,
    "survey": survey,
    "brightness": brightness,
}
