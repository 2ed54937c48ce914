"""The same run on a live stream as on a file."""

import numpy as np
import pytest

import framefold as ff
from framefold.io.live.memory import MemoryLiveSource
from framefold.sim.fxs import simulate
from framefold.sim.fxs_particle import Particle
from framefold.testing.emulator import DetectorEmulator
from framefold.udfs.fxs import C2UDF, Geometry, PolarGrid

GEO = Geometry(distance=0.5, pixel_size=2e-3, wavelength=2e-10, centre=(16, 16), shape=(32, 32))


@pytest.mark.parametrize("protocol", ["merlin", "karabo"])
def test_live_frames_are_correlated_as_those_of_a_file(protocol):
    if protocol == "karabo":
        pytest.importorskip("zmq", reason="pyzmq is not installed")
        pytest.importorskip("msgpack", reason="msgpack is not installed")
    frames = simulate(Particle.blobs(10, 1), GEO, 100, photons=5000).array()
    udf = C2UDF(GEO, PolarGrid(6, 16, 0.01, 0.09), mask=np.eye(32, dtype=bool))
    with ff.Context(executor="inline") as ctx:
        stored = udf.correlation(ctx.run_udf(ctx.load(frames, sig_dims=2), udf.copy()))
        with DetectorEmulator(protocol, frames) as detector:
            live = udf.correlation(ctx.run_udf(ctx.load(detector.url), udf.copy(), on_ready=detector.start))
    np.testing.assert_array_equal(live.frames, stored.frames)
    np.testing.assert_allclose(live.c_m(), stored.c_m(), atol=1e-5 * abs(stored.c_m()).max())


@pytest.mark.parametrize("sectors, pieces", [(2, 1), (4, 2)])
def test_sectors_give_what_whole_frames_give(sectors, pieces):
    """Oracle 5: photons are integers, the operator sees the same frames, so the sums are the same bits."""
    frames = simulate(Particle.blobs(10, 1), GEO, 100, photons=5000).array()
    udf = C2UDF(GEO, PolarGrid(6, 16, 0.01, 0.09), mask=np.eye(32, dtype=bool), precision="float64")
    with ff.Context(executor="inline") as ctx:
        whole, parts = (
            ctx.run_udf(ctx.load(MemoryLiveSource(frames, sectors=s, pieces=p, block_frames=64)), udf.copy())
            for s, p in ((1, 1), (sectors, pieces))
        )
        stored = ctx.run_udf(ctx.load(frames, sig_dims=2), udf.copy())
    for name in ("products", "amplitudes", "product_frames", "saxs", "score", "veto_code"):
        np.testing.assert_array_equal(parts[name].data, whole[name].data, err_msg=name)
        np.testing.assert_allclose(parts[name].data, stored[name].data, rtol=1e-12, atol=1e-12, err_msg=name)


def test_a_lost_sector_is_a_lost_frame():
    """The correlations are those of the frames that arrived whole."""
    frames = simulate(Particle.blobs(10, 1), GEO, 40, photons=5000).array()
    arrived = np.ones((40, 4), bool)
    arrived[[3, 17], 2] = False
    udf = C2UDF(GEO, PolarGrid(6, 16, 0.01, 0.09), precision="float64")
    with ff.Context(executor="inline") as ctx:
        source = MemoryLiveSource(frames, sectors=4, valid=arrived)
        live = ctx.run_udf(ctx.load(source), udf.copy())
        rest = ctx.run_udf(ctx.load(np.delete(frames, [3, 17], axis=0), sig_dims=2), udf.copy())
    assert live["product_frames"].data.sum() == 38
    np.testing.assert_allclose(live["saxs"].data, rest["saxs"].data, rtol=1e-12)
    total, expected = (r["products"].data.sum(axis=0) for r in (live, rest))
    np.testing.assert_allclose(total, expected, rtol=1e-9, atol=1e-12)
