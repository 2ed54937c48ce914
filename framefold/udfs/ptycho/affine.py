"""Errors that all positions share, a scale, a rotation and a shear: short trials in the middle of the scan.

A scan that is stretched is nearly the same as another defocus of the probe, and one that is sheared as
astigmatism (the Fresnel scaling theorem: what a curved wave shows magnified, it shows out of focus). Steps
of single positions do not find such errors, for object and probe follow wrong positions closely. What is left
is the distortion within the probe: E of a reconstruction that begins anew has its minimum at the truth.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.iterative import Pass
from framefold.udfcore.namespace import to_host
from framefold.udfs.ptycho.autofocus import middle
from framefold.udfs.ptycho.engines.ap import AP
from framefold.udfs.ptycho.engines.rpie import RPIE
from framefold.udfs.ptycho.kernels.shift_fit import object_slopes
from framefold.udfs.ptycho.positions import place

Float = npt.NDArray[np.float64]
Parameters = tuple[float, float, float, float]
RANGES = (0.05, 0.05, 0.02, 0.02)  # of scale, rotation, stretch, shear: errors beyond are not looked for
FEWEST = 16  # frames
# E from counting: amplitudes fit best at scales 1 % too large where it is 0.003, and 4 % at 0.008
FEW = 0.005
FROZEN = 2  # iterations before the probe moves
BATCHES, POLISH = 12, 8  # iterations of RPIE, then of AP
OWN_STEPS = (5, 7, 9, 11)  # after these of RPIE, single positions move
OWN = 0.5  # px, at a time
# what is varied (scale, rotation, stretch, shear), by how much, round after round
ROUNDS = ((0.02, (0, 1)), (0.01, (0, 1)), (0.01, (2, 3)), (0.005, (0, 1)))
NOTHING: Parameters = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Affine:
    """A linear map of positions (y, x) about their centre, near to the identity.

    Attributes
    ----------
    scale
        Common magnification.
    rotation_deg
        With the sign of `ScanPositions.rotation_deg`.
    stretch
        Scale along y over that along x.
    shear
        By how much the angle between the axes is below 90 degrees, degrees.
    """

    scale: float
    rotation_deg: float
    stretch: float
    shear: float

    def __str__(self) -> str:
        return (
            f"scale {self.scale:.4f}, rotation {self.rotation_deg:.2f} degrees, y / x {self.stretch:.4f}, "
            f"shear {self.shear:.2f} degrees"
        )


def matrix_of(parameters: Parameters) -> Float:
    """Return ``exp(s I + r J + a D + b X)``, 2 x 2, which acts on columns (y, x)."""
    s, r, a, b = parameters
    generator = np.array([[s + a, b - r], [b + r, s - a]])
    # exp of a 2 x 2 matrix of small entries
    out, term = np.eye(2), np.eye(2)
    for k in range(1, 8):
        term = term @ generator / k
        out = out + term
    return out


def affine_of(pixels: Float, moves: Float) -> Affine:
    """Return the linear map in ``pixels + moves``, fitted."""
    m = np.eye(2) + linear_part(pixels, moves)
    scale = float(np.sqrt(abs(np.linalg.det(m))))
    turn = float(np.arctan2(m[1, 0] - m[0, 1], m[0, 0] + m[1, 1]))
    y, x = np.linalg.norm(m, axis=0)
    angle = float(np.arcsin(np.clip(m[:, 0] @ m[:, 1] / (y * x), -1, 1)))
    return Affine(scale, float(np.degrees(turn)), float(y / x), float(np.degrees(angle)))


def linear_part(pixels: Float, moves: Float) -> Float:
    """Return L of the least-squares fit ``moves = L (r - <r>) + t``; 0 where the positions lie on a line."""
    design = np.column_stack([pixels - pixels.mean(axis=0), np.ones(len(pixels))])
    if len(pixels) < 6 or np.linalg.matrix_rank(design) < 3:
        return np.zeros((2, 2))
    return np.asarray(np.linalg.lstsq(design, moves, rcond=None)[0][:2].T)


def farthest(pixels: Float) -> float:
    """Return how far `find_affine` may move a position, px."""
    # |exp G - 1| <= exp |G| - 1, and |G| is that of the turned and scaled part plus that of the traceless one
    most = np.expm1(np.hypot(*RANGES[:2]) + np.hypot(*RANGES[2:]))
    return float(most * np.linalg.norm(pixels - pixels.mean(axis=0), axis=1).max())


def find_affine(job: Any) -> Iterator[Pass]:
    """Set the loop's moves to those of the linear map that fits frames in the middle best."""
    loop = job.loop
    rows = middle(job)
    if len(rows) < FEWEST:
        return
    start, probe, dark = loop.object.copy(), loop.probe.copy(), loop.dark
    update = loop.update_probe
    loop.dark = np.ones_like(dark)
    loop.dark[rows] = False
    tried: dict[Parameters, float] = {}
    best = NOTHING
    few = job.setup.noise > FEW
    for width, axes in ROUNDS:
        for axis in (axis for axis in axes if axis == 1 or not few):
            best = yield from _along(job, tried, best, axis, width, start, probe)
    loop.dark, loop.update_probe = dark, update
    loop.object, loop.probe = start, probe
    loop.v_object, loop.v_probe = 0 * start, 0 * probe
    loop.momentum_age, loop.last_error = 0, np.inf
    _lay(job, best)
    job.probe_changed()
    found = affine_of(job.start_pixels, loop.moves)
    if few:
        job.say(
            "too few counts to tell a scale of the positions from another defocus: only their rotation was "
            "looked for, check distance and wavelength"
        )
    job.say(
        f"the positions as a whole were corrected by {found} (trial error {tried[NOTHING]:.4g} -> "
        f"{min(tried.values()):.4g})"
    )


def _along(
    job: Any,
    tried: dict[Parameters, float],
    best: Parameters,
    axis: int,
    width: float,
    start: Any,
    probe: Any,
) -> Generator[Pass, None, Parameters]:
    """Return the best point of a parabola through three along one axis, going downhill until it is inside."""
    centre = best[axis]

    def at(value: float) -> Parameters:
        point = list(best)
        point[axis] = round(value, 6)
        return point[0], point[1], point[2], point[3]

    def error(value: float) -> Generator[Pass, None, float]:
        point = at(value)
        if point not in tried:
            tried[point] = yield from _trial(job, point, start, probe)
        return tried[point]

    while True:
        low = yield from error(centre - width)
        mid = yield from error(centre)
        high = yield from error(centre + width)
        if mid <= min(low, high) or abs(centre) + 2 * width > RANGES[axis] + 1e-9:
            break
        centre += width if high < low else -width
    bend = low - 2 * mid + high
    shift = 0.5 * (low - high) / bend if bend > 0 else 0.0
    yield from error(centre + width * float(np.clip(shift, -1, 1)))
    line = {p: e for p, e in tried.items() if p == at(p[axis])}
    return min(line, key=lambda p: line[p])


def _lay(job: Any, parameters: Parameters) -> None:
    loop, pixels = job.loop, job.start_pixels
    centred = pixels - pixels.mean(axis=0)
    loop.moves = centred @ (matrix_of(parameters) - np.eye(2)).T
    _placed(job)


def _placed(job: Any) -> None:
    loop = job.loop
    loop.corner, loop.bank_index = place(job.start_pixels + loop.moves, job.setup.canvas.steps)
    job.positions_changed()


def _trial(job: Any, parameters: Parameters, start: Any, probe: Any) -> Generator[Pass, None, float]:
    """Return E after a short reconstruction with positions that are so mapped."""
    loop = job.loop
    loop.object, loop.probe = start.copy(), probe.copy()
    _lay(job, parameters)
    job.probe_changed()
    loop.update_object = True
    for iteration in range(BATCHES):
        loop.update_probe = iteration >= FROZEN
        yield from RPIE(batches=8, denominators="exact").iterate(job, iteration)
        if iteration in OWN_STEPS:
            yield from _own_steps(job)
    loop.last_error = np.inf
    for iteration in range(POLISH):
        yield from AP().iterate(job, iteration)
    yield Pass("residual", job.lit)
    misfit = to_host(job.sums.misfit)
    return float(misfit[0] / misfit[1])


def _own_steps(job: Any) -> Iterator[Pass]:
    """Move single positions by what they have not in common, which would hide the rest."""
    loop, rows = job.loop, job.lit
    loop.slopes = object_slopes(loop.object, job.xp)
    yield Pass("positions", rows)
    steps = np.clip(to_host(job.sums.moves)[rows], -OWN, OWN)
    pixels = job.start_pixels[rows]
    steps -= (pixels - pixels.mean(axis=0)) @ linear_part(pixels, steps).T + steps.mean(axis=0)
    loop.moves[rows] += steps
    _placed(job)
