"""What `import framefold` may and may not do."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("heavy", ["distributed", "dask", "matplotlib", "bokeh", "cupy", "numba"])
def test_import_stays_light(heavy: str) -> None:
    code = f"import framefold, sys; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_first_small_result_does_not_wait_for_the_compiler(tmp_path: Path) -> None:
    code = """
import sys, numpy as np, framefold as ff
data = np.random.default_rng(0).integers(0, 60000, (10, 10, 32, 32)).astype("uint16")
ctx = ff.Context()
data.tofile(sys.argv[1])
ds = ctx.load(sys.argv[1], nav_shape=(10, 10), sig_shape=(32, 32), dtype="uint16")
total = ctx.run_udf(ds, ff.udfs.SumUDF())
assert "numba" not in sys.modules
large = np.tile(data, (300, 1, 1, 1))
again = ctx.run_udf(large, ff.udfs.SumUDF())
assert "numba" in sys.modules, "large jobs are compiled"
assert (total["intensity"].data == data.sum(axis=(0, 1), dtype="u8")).all()
assert (again["intensity"].data == 300 * total["intensity"].data).all()
"""
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.raw"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
