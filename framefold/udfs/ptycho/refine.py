"""Refining what is not object or probe: positions, a constant background, the brightness of the beam."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.iterative import Pass
from framefold.udfcore.namespace import to_host
from framefold.udfs.ptycho.kernels.shift_fit import object_slopes
from framefold.udfs.ptycho.positions import place

Float = npt.NDArray[np.float64]
START = 10  # iterations: before, object and probe are too rough to tell
EVERY = 5
BRIGHT = 4  # the counts of a frame are known early
LARGEST_STEP = 0.5  # px, at a time
TURNED = 0.5  # degrees; correct positions were turned by 0.1
REACH = 6.0  # px, in all: windows and canvas have a margin of 8


def refine_positions(job: Any) -> Iterator[Pass]:
    """Move the positions of all frames by one Gauss-Newton step; their mean stays.

    Twice the reach of `LARGEST_STEP` per call at most; ``"affine"`` halves what is not a common scale,
    rotation and shear of the scan.
    """
    loop = job.loop
    loop.slopes = object_slopes(loop.object, job.xp)
    yield Pass("positions")
    steps = np.clip(to_host(job.sums.moves), -LARGEST_STEP, LARGEST_STEP)
    moved = loop.moves + steps
    if job.params.refine_positions == "affine":
        fitted = affine_part(job.start_pixels, moved)
        moved = fitted + 0.5 * (moved - fitted)
    moved -= moved.mean(axis=0)
    loop.moves = np.clip(moved, -REACH, REACH)
    loop.corner, loop.bank_index = place(job.start_pixels + loop.moves, job.setup.canvas.steps)
    job.positions_changed()
    job.record(moved=float(np.sqrt((steps**2).sum(axis=1).mean())))


def affine_part(pixels: Float, moves: Float) -> Float:
    """Return the part of `moves` that is linear in `pixels`: ``r -> A r + t``."""
    design = np.column_stack([pixels - pixels.mean(axis=0), np.ones(len(pixels))])
    if len(pixels) < 6 or np.linalg.matrix_rank(design) < 3:
        return np.asarray(np.broadcast_to(moves.mean(axis=0), moves.shape).copy())
    solution = np.linalg.lstsq(design, moves, rcond=None)[0]
    return np.asarray(design @ solution)


def turn(pixels: Float, moves: Float) -> float:
    """Return the rotation in degrees that `moves` contain, with the sign of `ScanPositions.rotation_deg`."""
    design = np.column_stack([pixels - pixels.mean(axis=0), np.ones(len(pixels))])
    if len(pixels) < 6 or np.linalg.matrix_rank(design) < 3:
        return 0.0
    a = np.linalg.lstsq(design, moves, rcond=None)[0]
    return float(np.degrees((a[0, 1] - a[1, 0]) / 2))


def told_turn(pixels: Float, moves: Float) -> str | None:
    """Return a sentence where refined positions are turned, or went as far as they may.

    Not the scale: E hardly tells a common scale of the positions from another probe.
    """
    angle, reach = turn(pixels, moves), float(np.abs(moves).max())
    if abs(angle) > TURNED:
        return (
            f"the refined positions are turned by {angle:.2g} degrees; of errors of all positions "
            "together only a part is found: add it to rotation_deg= ; --rotation, and run again"
        )
    if reach > 0.95 * REACH:
        return (
            f"positions were moved by the {REACH:g} px that are allowed: their scale or rotation may be "
            "wrong, correct distance, wavelength or rotation_deg= ; --rotation"
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
