"""LiberTEM's UDFs on a device give what they give on the host."""

import numpy as np
import pytest

import framefold as ff
from framefold.compat.libertem.udfs.com import CoMUDF
from framefold.compat.libertem.udfs.masks import ApplyMasksUDF

rng = np.random.default_rng(0)
DATA = rng.integers(0, 100, (4, 5, 8, 9)).astype("uint16")
MASK = rng.random((8, 9))
UDFS = {
    "dense masks": lambda: ApplyMasksUDF(mask_factories=[lambda: MASK, lambda: MASK > 0.9]),
    "sparse masks": lambda: ApplyMasksUDF(mask_factories=[lambda: MASK * (MASK > 0.9)], use_sparse=True),
    "com": lambda: CoMUDF.with_params(cy=4, cx=4),
}


@pytest.mark.parametrize("name", UDFS)
def test_equals_the_host(device_xp, name):
    with ff.Context(executor="inline") as ctx:
        ds = ctx.load(DATA, sig_dims=2)
        here, there = ctx.run_udf(ds, UDFS[name]()), ctx.run_udf(ds, UDFS[name](), backends="cupy")
    for key in here:
        np.testing.assert_allclose(there[key].data, here[key].data, rtol=1e-6, atol=1e-9, err_msg=key)
