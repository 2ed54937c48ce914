"""A frame to drag detectors over where no UDF of the run makes one: the mean of a few frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from framefold.executor.drive import Run
from framefold.executor.follow import to_end
from framefold.executor.inline import InlineExecutor
from framefold.plot.panels import Field, field_of
from framefold.udfcore.results import Snapshot
from framefold.udfs.mean import MeanUDF
from framefold.web.geometry import grip_of
from framefold.web.hub import pattern_of

FRAMES = 16


def sample_pattern(plan: Any, udfs: Sequence[Any], first: Snapshot) -> Field | None:
    """Return the mean of 16 frames spread over the dataset, seen as the UDFs see them.

    None if nothing can be dragged, if a result of the run shows a frame anyway, or if the data come live.
    """
    if plan is None or not any(grip_of(u) is not None for u in udfs) or pattern_of(first.buffers) is not None:
        return None
    options = getattr(plan, "options", None)
    source = plan.dataset.source
    if options is None or not hasattr(source, "read"):
        return None
    nav = tuple(plan.dataset.shape.nav)
    inside = np.ones(nav, dtype=bool) if options.roi is None else options.roi
    if plan.dataset.valid is not None:
        inside = inside & np.asarray(plan.dataset.valid).reshape(nav)
    known = np.flatnonzero(inside)
    if not known.size:
        return None
    roi = np.zeros(nav, dtype=bool)
    roi.reshape(-1)[known[np.linspace(0, known.size - 1, min(FRAMES, known.size)).astype(np.int64)]] = True
    run = Run(InlineExecutor(), plan.dataset, [MeanUDF()], replace(options, roi=roi), validate=False)
    return field_of(to_end(run).buffers[0]["mean"])
