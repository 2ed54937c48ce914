"""Finding how the axes of the scan lie on the detector: short trials with positions flipped and transposed.

Of the eight ways, pairs half a turn apart fit equally well with ``P*(-r), O*(-r)`` in the place of P and O:
no fit can tell the sign of the phase. With a probe from the data four are tried, with a known one all eight.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.iterative import Pass
from framefold.udfcore.namespace import to_host
from framefold.udfs.ptycho import autofocus
from framefold.udfs.ptycho.positions import FLIPS, Flip, flipped

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]
DISTINCT: tuple[Flip, ...] = ("none", "y", "transpose", "transpose-y")
BETTER = 0.9  # of the error as stated: more is chance
CLEAR = 0.95  # best over second best


def candidates(params: Any) -> tuple[Flip, ...]:
    """Return the orientations to try, the stated one first; empty: nobody asked."""
    if params.orientation == "given":
        return ()
    knows_phase = params.probe is not None or (params.geometry is not None and params.geometry.defocus)
    return FLIPS if knows_phase else DISTINCT


def oriented(pixels: Float, size: tuple[float, float], flip: Flip) -> Float:
    """Return positions in px flipped about their centre, in lengths: pixels need not be square."""
    if flip == "none":
        return pixels
    centre, scale = pixels.mean(axis=0), np.asarray(size)
    return np.asarray(flipped((pixels - centre) * scale, flip) / scale + centre)


def find_orientation(job: Any) -> Iterator[Pass]:
    """Choose the orientation whose trial error is smallest, if it is clearly below that of the stated one."""
    loop = job.loop
    rows = autofocus.middle(job)
    start, probe = loop.object.copy(), to_host(loop.probe)
    searches = job.searches_defocus
    found: dict[Flip, float] = {}
    for flip in job.setup.orientations:
        job.orient(flip)
        if searches:
            trials = yield from autofocus.coarse(job, probe, start, rows)
            found[flip] = min(trials.values())
        else:
            found[flip] = yield from autofocus.trial(job, probe, start, rows)
    best = min(found, key=lambda flip: found[flip])
    stated: Flip = "none"
    others = [e for flip, e in found.items() if flip != best]
    errors = ", ".join(f"{flip} {error:.3g}" for flip, error in found.items())
    if best != stated and found[best] > BETTER * found[stated]:
        best = stated
        job.say(f"orientation: no flip of the positions fits clearly better (trial errors {errors})")
    else:
        sure = found[best] < CLEAR * min(others)
        twin = "" if len(found) == len(FLIPS) else "; half a turn more fits as well, with the phase reversed"
        job.say(
            f"orientation: flip={best!r} fits best{'' if sure else ', though not clearly'} "
            f"(trial errors {errors}){twin}"
        )
    job.orient(best)
    loop.object[...] = start
    loop.probe = job.xp.asarray(probe)
    job.probe_changed()
