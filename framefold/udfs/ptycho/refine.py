"""Refining what is not object or probe: positions, a constant background, the brightness of the beam."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.iterative import Pass
from framefold.udfcore.namespace import to_host
from framefold.udfs.ptycho.affine import affine_of, farthest, linear_part
from framefold.udfs.ptycho.kernels.shift_fit import object_slopes
from framefold.udfs.ptycho.positions import place

Float = npt.NDArray[np.float64]
START = 10  # iterations: before, object and probe are too rough to tell
EVERY = 5
BRIGHT = 4  # the counts of a frame are known early
LARGEST_STEP = 0.5  # px, at a time
TURNED = 0.5  # degrees; correct positions were turned by 0.1
REACH = 6.0  # px, in all


def reach(params: Any, pixels: Float) -> float:
    """Return how far positions may be moved in all, px: canvas and windows leave room for it."""
    if not params.refine_positions:
        return 0.0
    return REACH + (farthest(pixels) if params.refine_positions == "affine" else 0.0)


def refine_positions(job: Any) -> Iterator[Pass]:
    """Move the positions of all frames by one Gauss-Newton step; their mean stays.

    At most `LARGEST_STEP` at a time and `REACH` in all, beside what ``"affine"`` found to be common.
    """
    loop, pixels = job.loop, job.start_pixels
    loop.slopes = object_slopes(loop.object, job.xp)
    yield Pass("positions")
    steps = np.clip(to_host(job.sums.moves), -LARGEST_STEP, LARGEST_STEP)
    moved = loop.moves + steps
    moved -= moved.mean(axis=0)
    common = np.zeros_like(moved)
    if job.params.refine_positions == "affine":
        common = (pixels - pixels.mean(axis=0)) @ linear_part(pixels, moved).T
    loop.moves = np.clip(common + np.clip(moved - common, -REACH, REACH), -job.setup.reach, job.setup.reach)
    loop.corner, loop.bank_index = place(pixels + loop.moves, job.setup.canvas.steps)
    job.positions_changed()
    job.record(moved=float(np.sqrt((steps**2).sum(axis=1).mean())))


def told_moves(pixels: Float, moves: Float, affine: bool) -> str | None:
    """Return a sentence about what refined positions have in common, or that went as far as they may."""
    found, furthest = affine_of(pixels, moves), float(np.abs(moves).max())
    if affine:
        return f"the positions were corrected by {found}, and by their own steps"
    if abs(found.rotation_deg) > TURNED:
        return (
            f"warning: the refined positions are turned by {found.rotation_deg:.2g} degrees; of errors of "
            "all positions together single steps find a part only: refine_positions='affine' ; "
            "--refine-positions affine"
        )
    if furthest > 0.95 * REACH:
        return (
            f"warning: positions were moved by the {REACH:g} px that are allowed: their scale or rotation "
            "may be wrong, refine_positions='affine' ; --refine-positions affine finds them"
        )
    return None


def estimate_background(job: Any) -> Iterator[Pass]:
    """Scale the background pixel by pixel: ``b <- b mean_j(I_j / I_m)``, the EM step of a Poisson model."""
    loop = job.loop
    yield Pass("background")
    ratio = job.sums.ratio / job.n_frames
    good = job.xp.asarray(job.setup.good)
    loop.background = job.xp.where(good, loop.background * ratio, 0).astype(loop.background.dtype)


def refine_brightness(job: Any) -> Iterator[Pass]:
    """Scale the beam of each frame to the counts measured in it; the mean over all frames stays 1.

    What changes slowly along the scan could be the sample's absorption as well: only overlapping frames tell.
    """
    loop = job.loop
    yield Pass("brightness")
    measured, modelled = to_host(job.sums.brightness).T
    known = (measured > 0) & (modelled > 0)
    power = np.where(known, loop.power * measured / np.where(known, modelled, 1), 1)
    loop.power = power / power[known].mean() if known.any() else power
    job.record(brightness=float(loop.power[known].std()) if known.any() else 0.0)
