"""Steps back between iterations."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from framefold.udfcore.iterative import History
from framefold.udfs.ptycho import AP, DM, EPIE
from framefold.udfs.ptycho.progress import converged


def job_of(engine):
    wave = np.ones((1, 4, 4), complex)
    loop = SimpleNamespace(
        object=wave, probe=wave, best_object=wave, best_probe=wave, best_error=1e-3, bad_iterations=0,
        rollbacks=0, damping=1.0, stage=0, stage_iteration=20,
    )  # fmt: skip
    notes = []
    return SimpleNamespace(
        loop=loop, recipe=SimpleNamespace(stages=(engine,)), before=(wave, wave), growing=False, iteration=20,
        setup=SimpleNamespace(free=None), probe_changed=lambda: None, say=notes.append, notes=notes,
    )  # fmt: skip


@pytest.mark.parametrize(
    "engine, error, back",
    [
        (AP(500), 5e-3, True),
        (DM(500), 5e-3, False),  # hovers
        (DM(500), 5e-2, True),
        (AP(500), 1.5e-3, False),
        (DM(500), np.nan, False),  # looks at E every fifth time only
    ],
)
def test_what_hovers_is_not_sent_back_as_what_diverges(engine, error, back):
    job, history = job_of(engine), History()
    for _ in range(6):
        history.append({"error": error})
        assert converged(job, history) is False
    assert (job.loop.rollbacks > 0) is back
    assert (job.loop.damping < 1) is back
    assert len(job.notes) == job.loop.rollbacks


def test_epie_takes_the_halved_step():
    loop = SimpleNamespace(damping=0.25)
    job = SimpleNamespace(loop=loop, iteration=3, setup=SimpleNamespace(canvas=SimpleNamespace(steps=1)))
    next(EPIE(alpha=0.8).iterate(job, 0))
    assert loop.alpha == pytest.approx(0.2)
