"""Masks, centre of mass, FEM and crystallinity as LiberTEM computes them, in a process of its own."""

import os
import subprocess

import numpy as np
import pytest

import framefold as ff
from framefold.udfs.com_fields import guess_corrections

PEER = os.environ.get("FRAMEFOLD_LIBERTEM_PYTHON")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PEER, reason="FRAMEFOLD_LIBERTEM_PYTHON does not name a Python with LiberTEM"),
]

SCRIPT = """
import sys
import numpy as np
from libertem.api import Context
from libertem.udf.com import CoMUDF, guess_corrections
from libertem.udf.crystallinity import CrystallinityUDF
from libertem.udf.FEM import FEMUDF
from libertem.udf.masks import ApplyMasksUDF

given = np.load(sys.argv[1])
data, masks, shifts, roi = (given[k] for k in ("data", "masks", "shifts", "roi"))
ctx = Context.make_with("inline")
ds = ctx.load("memory", data=data, sig_dims=2)
out = {}
aux = ApplyMasksUDF.aux_data(shifts.ravel(), kind="nav", extra_shape=(2,), dtype=int)
udfs = {
    "masks": ApplyMasksUDF(mask_factories=[lambda i=i: masks[i] for i in range(len(masks))]),
    "shifted": ApplyMasksUDF(mask_factories=[lambda i=i: masks[i] for i in range(len(masks))], shifts=aux),
    "fem": FEMUDF(center=(9, 8), rad_in=3, rad_out=6),
    "crystallinity": CrystallinityUDF(rad_in=2, rad_out=5, real_center=(9, 8), real_rad=3),
    "com": CoMUDF(),
    "disk": CoMUDF.with_params(cy=8.3, cx=9.1, r=6, scan_rotation=33, flip_y=True, regression=1),
    "ring": CoMUDF.with_params(cy=8.3, cx=9.1, r=7, ri=2, regression=0, scan_rotation=-70),
}
for name, udf in udfs.items():
    for where, region in (("all", None), ("roi", roi)):
        result = ctx.run_udf(dataset=ds, udf=udf, roi=region)
        for key, buf in result.items():
            out[f"{name}/{where}/{key}"] = buf.data
fields = given["fields"]
for i, (y, x) in enumerate(fields):
    out[f"guess/{i}"] = np.array(guess_corrections(y, x), dtype=float)
np.savez(sys.argv[2], **out)
"""

RNG = np.random.default_rng(7)
DATA = RNG.poisson(50, (6, 7, 18, 16)).astype("f4")
MASKS = np.stack([RNG.random((18, 16)) > 0.5, RNG.random((18, 16))]).astype("f4")
SHIFTS = RNG.integers(-4, 5, (6, 7, 2))
ROI = RNG.random((6, 7)) > 0.3
FIELDS = RNG.normal(size=(4, 2, 12, 13)).cumsum(axis=2).cumsum(axis=3)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peer")
    np.savez(folder / "in.npz", data=DATA, masks=MASKS, shifts=SHIFTS, roi=ROI, fields=FIELDS)
    subprocess.run(
        [PEER, "-c", SCRIPT, folder / "in.npz", folder / "out.npz"], check=True, capture_output=True
    )
    return np.load(folder / "out.npz")


OURS = {
    "masks": lambda: ff.udfs.ApplyMasksUDF(MASKS),
    "shifted": lambda: ff.udfs.ApplyMasksUDF(MASKS, shifts=ff.UDF.aux_data(SHIFTS, "nav", (2,), "int64")),
    "fem": lambda: ff.udfs.FEMUDF(center=(9, 8), rad_in=3, rad_out=6),
    "crystallinity": lambda: ff.udfs.CrystallinityUDF(2, 5, (9, 8), 3),
    "com": lambda: ff.udfs.CoMUDF(),
    "disk": lambda: ff.udfs.CoMUDF(8.3, 9.1, 6, scan_rotation=33, flip_y=True, regression=1),
    "ring": lambda: ff.udfs.CoMUDF(8.3, 9.1, 7, 2, scan_rotation=-70, regression=0),
}


@pytest.mark.parametrize("where", ["all", "roi"])
@pytest.mark.parametrize("name", OURS)
def test_same_results(theirs, name, where):
    ctx = ff.Context(executor="inline")
    result = ctx.run_udf(ctx.load(DATA), OURS[name](), roi=ROI if where == "roi" else None)
    for key, buf in result.items():
        expected = theirs[f"{name}/{where}/{key}"]
        got = buf.data.reshape(expected.shape)
        # they sum in float32; the linear fit amplifies that
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-4, err_msg=key)


def test_same_guess(theirs):
    for i, (y, x) in enumerate(FIELDS):
        np.testing.assert_allclose(np.array(guess_corrections(y, x), float), theirs[f"guess/{i}"], rtol=1e-9)
