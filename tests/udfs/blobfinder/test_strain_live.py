"""The strain map of a live stream, also when each receiver sees only a part of each frame."""

import numpy as np
import pytest

import framefold as ff
from framefold.io.live.memory import MemoryLiveSource
from framefold.sim import deformation
from framefold.sim.stem import cbed

SHAPE = (5, 6)


@pytest.fixture(scope="module")
def crystal():
    field = deformation.step(SHAPE, eps_xx=0.02)
    return cbed(SHAPE, (96, 96), strain=field, dose=60_000, falloff=0.5, seed=1), field


def udf_for(scan):
    t = scan.truth
    return ff.udfs.StrainUDF((t.zero, t.a, t.b), scan.radius, reference=np.stack([t.a, t.b]))


@pytest.fixture
def ctx():
    with ff.Context(executor="inline") as context:
        yield context


@pytest.mark.parametrize("sectors, pieces", [(1, 1), (3, 2)])
def test_stream_gives_what_a_file_gives(ctx, crystal, sectors, pieces):
    scan, _ = crystal
    frames = scan.array()
    source = MemoryLiveSource(frames.reshape(-1, 96, 96), sectors=sectors, pieces=pieces, block_frames=7)
    live = ctx.run_udf(ctx.load(source, nav_shape=SHAPE), udf_for(scan))
    file = ctx.run_udf(ctx.load(frames), udf_for(scan))
    np.testing.assert_allclose(live["centers"].data, file["centers"].data, atol=1e-4)
    np.testing.assert_allclose(live["eps_xx"].data, file["eps_xx"].data, atol=1e-6)
    assert live["valid"].data.all()


def test_lost_parts_are_masked_not_guessed(ctx, crystal):
    scan, field = crystal
    frames = scan.array().reshape(-1, 96, 96)
    arrived = np.ones((30, 2), bool)
    arrived[11, 1] = False  # half of a frame
    arrived[20] = False  # a whole frame
    source = MemoryLiveSource(frames, sectors=2, block_frames=10, valid=arrived)
    result = ctx.run_udf(ctx.load(source, nav_shape=SHAPE), udf_for(scan))
    valid = (result["valid"].data & result["valid"].valid_mask).reshape(-1)
    assert not valid[20]
    good = np.delete(np.arange(30), [11, 20])
    assert valid[good].all()
    z = (result["eps_xx"].data - field.eps_xx).reshape(-1)[good] / result["sigma_xx"].data.reshape(-1)[good]
    assert np.abs(z).max() < 5
    assert (
        not valid[11] or np.abs(result["eps_xx"].data.reshape(-1)[11] - field.eps_xx.reshape(-1)[11]) < 0.01
    )
