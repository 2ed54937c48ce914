"""What stands still keeps its bits; what moves does not."""

from __future__ import annotations

import numpy as np
import pytest

import framefold as ff
from framefold.errors import UDFError
from framefold.sim.ptycho import ptycho_scan
from framefold.udfs.ptycho import Ptychography


@pytest.fixture(scope="module")
def ctx():
    with ff.Context(executor="threads") as ctx:
        yield ctx


@pytest.fixture(scope="module")
def scan():
    return ptycho_scan(36, 24, probe_radius=4, step=2, subpixel=True, seed=1)


@pytest.mark.parametrize("recipe", ["8 AP", "8 RPIE(batches=3)"])
@pytest.mark.parametrize("what", ["probe", "object"])
def test_frozen_factors_keep_their_bits(ctx, scan, recipe, what):
    start, stop = 3, 6
    udf = Ptychography(
        probe=scan.probe, recipe=recipe, probe_update_start=0, schedule=[(start, stop, what, False)]
    )
    found = [
        {name: s[f"raw_{name}"].data.copy() for name in ("probe", "object")}
        for s in ctx.iterate(scan.source(), udf, publish_every=0)
    ]
    other = "object" if what == "probe" else "probe"
    # found[i] is after iteration i, counted from 0
    same = [bool(np.array_equal(a[what], b[what])) for a, b in zip(found, found[1:], strict=False)]
    assert same == [start <= i < stop for i in range(1, 8)]
    assert not any(np.array_equal(a[other], b[other]) for a, b in zip(found, found[1:], strict=False))


def test_positions_wait_for_their_time(ctx, scan):
    kwargs = {"probe": scan.probe, "recipe": "5 RPIE; 12 AP", "refine_positions": True}
    moved = ctx.iterate(scan.source(), Ptychography(**kwargs))
    moved.to_end()
    later = ctx.iterate(scan.source(), Ptychography(schedule=[(0, 15, "positions", False)], **kwargs))
    later.to_end()
    steps = [it.snapshot.history["moved"] for it in (moved, later)]
    assert np.flatnonzero(np.isfinite(steps[0])).tolist() == [10, 15]  # every fifth from 10 on
    assert np.flatnonzero(np.isfinite(steps[1])).tolist() == [15]


@pytest.mark.parametrize(
    "entry, kwargs, message",
    [
        ((0, 5, "probes", False), {}, "no 'probes'.*Did you mean 'probe'"),
        ((5, 5, "probe", False), {}, "needs 0 <= start < stop"),
        ((0, 5, "probe", 1), {}, "True or False"),
        ((0, 5, "probe"), {}, "is not .start, stop, what, moves"),
        ((0, 5, "positions", False), {}, "only with refine_positions"),
        ((0, None, "object", False), {"recipe": "5 RPIE; 5 ML"}, "ML always moves the object"),
    ],
)
def test_entries_that_nothing_would_heed(entry, kwargs, message):
    with pytest.raises(UDFError, match=message):
        Ptychography(schedule=[entry], **kwargs)
