"""The same run on a live stream as on a file."""

import numpy as np
import pytest

import framefold as ff
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
