"""Built-in reductions against LiberTEM, run in its own environment as a black box."""

import os
import subprocess

import numpy as np
import pytest

from framefold.udfcore.corrections import Corrections
from framefold.udfs import LogSumUDF, PickUDF, StdDevUDF, SumSigUDF, SumUDF

SCRIPT = """
import sys
import numpy as np
from libertem.api import Context
from libertem.io.corrections import CorrectionSet
from libertem.udf.logsum import LogsumUDF
from libertem.udf.raw import PickUDF
from libertem.udf.stddev import StdDevUDF
from libertem.udf.sum import SumUDF
from libertem.udf.sumsigudf import SumSigUDF
import sparse

given = np.load(sys.argv[1])
ctx = Context.make_with("inline")
ds = ctx.load("memory", data=given["data"], sig_dims=2, num_partitions=3)
corrections = CorrectionSet(dark=given["dark"], gain=given["gain"], excluded_pixels=sparse.COO.from_numpy(given["bad"]))
out = {}
for corrected in (False, True):
    for udf in (SumUDF(), SumSigUDF(), StdDevUDF(), LogsumUDF(), PickUDF()):
        result = ctx.run_udf(ds, udf, roi=given["roi"], corrections=corrections if corrected else None)
        for name, buffer in result.items():
            out[f"{type(udf).__name__.lower()} {name} {corrected}"] = np.asarray(buffer.raw_data)
np.savez(sys.argv[2], **out)
"""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_same_numbers(run, tmp_path, dtype):
    python = os.environ.get("FRAMEFOLD_LIBERTEM_PYTHON")
    if python is None:
        pytest.skip("FRAMEFOLD_LIBERTEM_PYTHON does not name a Python with LiberTEM")
    rng = np.random.default_rng(31)
    data = rng.integers(0, 5000, (6, 7, 9, 8)).astype(dtype)
    roi = rng.random((6, 7)) < 0.6
    dark, gain = rng.random((9, 8)).astype("f4"), (rng.random((9, 8)) + 0.5).astype("f4")
    bad = np.zeros((9, 8), bool)
    bad[0, 0] = bad[4, 4] = bad[4, 5] = True
    np.savez(tmp_path / "in.npz", data=data, roi=roi, dark=dark, gain=gain, bad=bad)
    subprocess.run([python, "-c", SCRIPT, tmp_path / "in.npz", tmp_path / "out.npz"], check=True)
    theirs = np.load(tmp_path / "out.npz")
    compared = 0
    for corrected in (False, True):
        corrections = Corrections(dark, gain, bad) if corrected else None
        for udf in (SumUDF(), SumSigUDF(), StdDevUDF(), LogSumUDF(), PickUDF()):
            ours = run(udf, data, roi=roi, corrections=corrections)
            for name, buffer in ours.items():
                # they compute in float32
                want = theirs[f"{type(udf).__name__.lower()} {name} {corrected}"]
                np.testing.assert_allclose(buffer.raw_data, want, rtol=2e-5, err_msg=f"{udf} {name}")
                compared += 1
    assert compared == 2 * (1 + 1 + 6 + 1 + 1)
