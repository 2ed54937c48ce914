"""Phase of a scan that streams from a detector of four sectors, with and without loss."""

import numpy as np
import pytest

import framefold as ff
from framefold.io.live.memory import MemoryLiveSource
from framefold.sim.phase_scan import phase_scan
from framefold.udfs import SSBUDF, CoMUDF, ICoMUDF

SECTORS, PIECES, SIDE = 4, 2, 12


@pytest.fixture(scope="module")
def scan():
    y, x = np.indices((24, 24))
    phase = 0.1 * np.cos(2 * np.pi * (y + 2 * x) / 24) + 0.1 * np.sin(2 * np.pi * (3 * y - x) / 24)
    return phase_scan(phase, 0.3e-10, dose=2000)


def udfs(scan):
    o = scan.optics
    return [ICoMUDF(), CoMUDF(), SSBUDF(80e3, o.semiangle, o.radius, o.scan_step, precision="double")]


def stream(scan, valid=None):
    frames = scan.frames.reshape(-1, 24, 24)
    return MemoryLiveSource(frames, sectors=SECTORS, pieces=PIECES, block_frames=7, valid=valid)


NAMES = (("phase", "field_y", "field_x"), ("raw_shifts",), ("phase", "bright_field"))


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_pieces_of_frames_add_up(scan, executor):
    with ff.Context(executor=executor) as ctx:
        live = ctx.run_udf(ctx.load(stream(scan), nav_shape=(SIDE, SIDE)), udfs(scan))
        whole = ctx.run_udf(scan.frames, udfs(scan))
    for a, b, names in zip(live, whole, NAMES, strict=True):
        for name in names:
            scale = np.nanmax(np.abs(b[name].data))
            np.testing.assert_allclose(a[name].data, b[name].data, rtol=0, atol=1e-6 * scale)


def test_frames_that_arrived_in_part_are_not_believed(scan):
    rng = np.random.default_rng(0)
    valid = np.ones((SIDE * SIDE, SECTORS * PIECES), bool)
    hit = rng.choice(SIDE * SIDE, 6, replace=False)
    valid[hit, rng.integers(0, SECTORS * PIECES, 6)] = False
    valid[hit[0]] = False
    roi = np.ones(SIDE * SIDE, bool)
    roi[hit] = False
    with ff.Context(executor="inline") as ctx:
        live = ctx.run_udf(ctx.load(stream(scan, valid), nav_shape=(SIDE, SIDE)), udfs(scan))
        kept = ctx.run_udf(scan.frames, udfs(scan), roi=roi.reshape(SIDE, SIDE))
    for a, b, names in zip(live, kept, NAMES, strict=True):
        for name in names:
            where = b[name].valid_mask
            # side bands fill single gaps from the neighbours that the probe covered too
            assert a[name].valid_mask.sum() == (
                SIDE**2 if name == "phase" and "spectrum" in a else where.sum()
            )
            scale = np.abs(b[name].data[where]).max()
            np.testing.assert_allclose(a[name].data[where], b[name].data[where], rtol=0, atol=1e-6 * scale)
