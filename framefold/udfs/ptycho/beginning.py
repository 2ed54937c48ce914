"""What happens before the first step: frames without light, orientation, defocus, overlap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from framefold.udfcore.iterative import Pass
from framefold.udfcore.namespace import to_host
from framefold.udfs.ptycho import diagnose
from framefold.udfs.ptycho.affine import find_affine
from framefold.udfs.ptycho.autofocus import find_defocus
from framefold.udfs.ptycho.denominators import Histogram, effective_overlap
from framefold.udfs.ptycho.orientation import find_orientation

LEAST_OVERLAP = 3.0  # frames that see a typical spot


def take_in(job: Any) -> Iterator[Pass]:
    """Look at the counts of frames that have come, and keep those without light from the fit."""
    loop = job.loop
    if loop.surveyed == len(job.present):
        return
    yield Pass("survey")
    dark = np.zeros_like(loop.dark)
    dark[job.present] = diagnose.dark_frames(to_host(job.sums.counts)[job.present])
    loop.dark, loop.surveyed = dark, len(job.present)
    job.positions_changed()
    if dark.any() and not job.growing:
        first = int(job.setup.order[dark].min())
        job.say(f"{int(dark.sum())} frames have no light and are left out, the first is number {first}")


def find_start(job: Any) -> Iterator[Pass]:
    """Find what the data set does not state, and look at the overlap."""
    loop = job.loop
    if job.setup.orientations:
        yield from find_orientation(job)
    if job.searches_defocus:
        yield from find_defocus(job)
        loop.best_probe = loop.probe.copy()
        job.before = loop.object.copy(), loop.probe.copy()
    look_at_overlap(job)
    if job.params.refine_positions == "affine":
        yield from find_affine(job)
        job.before = loop.object.copy(), loop.probe.copy()


def look_at_overlap(job: Any) -> None:
    """Note how many frames see a typical spot; engines choose their batches by it."""
    s, loop = job.setup, job.loop
    corner = loop.corner[job.lit]
    plain = Histogram(corner, np.zeros(len(corner), np.int64), 1, s.canvas.shape)
    loop.overlap = effective_overlap(plain, to_host(loop.probe)[None].astype(np.complex64))
    if loop.overlap < LEAST_OVERLAP and not job.growing:
        job.say(
            f"warning: the frames hardly overlap ({loop.overlap:.1f} of them see a typical spot, 3 "
            "are needed): "
            "check the positions and their unit, the wavelength and the distances"
        )
