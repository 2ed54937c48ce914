"""Phase contrast on a device gives what it gives on the host."""

from __future__ import annotations

import numpy as np
import pytest

import framefold as ff
from framefold.testing import device
from framefold.testing.check_udf import check_udf
from framefold.udfcore.namespace import standing_in
from framefold.udfs import SSBUDF, ICoMUDF

rng = np.random.default_rng(0)
SHAPE = (6, 7, 16, 16)
OPTICS = {"voltage": 80e3, "semiangle": 20e-3, "radius": 4, "scan_step": 0.6e-10}
MAKE = {
    "icom": lambda: ICoMUDF(r=5, highpass=3),
    "icom, turned": lambda: ICoMUDF(scan_rotation="auto", **OPTICS),
    "ssb": lambda: SSBUDF(**OPTICS, precision="double"),
    "ssb, single": lambda: SSBUDF(**OPTICS, C1=5e-9, mode="wpoa"),
}


def results(udf, data, **options):
    with ff.Context(executor="inline") as ctx:
        found = ctx.run_udf(ctx.load(data, sig_shape=SHAPE[2:]), udf, partition_frames=10, **options)
        return {name: found[name].data for name in found}


@pytest.mark.parametrize("dtype", ["uint16", "bool", "float32"])
@pytest.mark.parametrize("name", MAKE)
def test_equals_the_host(device_xp, name, dtype):
    data = rng.poisson(2, SHAPE).astype(dtype)
    roi = rng.random(SHAPE[:2]) > 0.2
    host, there = (
        results(MAKE[name](), data, roi=roi if name.startswith("ssb") else None, backends=b)
        for b in ("numpy", "cupy")
    )
    tolerance = 1e-5 if name == "ssb, single" else 1e-11
    for key, values in host.items():
        top = np.nanmax(np.abs(values), initial=1e-12)
        np.testing.assert_allclose(there[key], values, atol=tolerance * top, err_msg=key)


@pytest.mark.parametrize("name", ["icom", "ssb"])
def test_any_cut_and_order(name):
    check_udf(MAKE[name](), shape=SHAPE, dtype="uint16", n=4, backend="cupy", rtol=1e-9)


def test_tiles_cross_once_and_nothing_comes_back_before_the_end():
    """A partition: its tile and the numbers of its scan rows go there, its results come back."""
    data = rng.poisson(2, SHAPE).astype("uint16")
    with standing_in(device):
        results(MAKE["ssb"](), data, backends="cupy")
        device.traffic.reset()
        results(MAKE["ssb"](), data, backends="cupy")
        t = device.traffic
        partitions = -(-42 // 10)
        assert t.syncs == 0
        assert t.to_host <= 3 * partitions
