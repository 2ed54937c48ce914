"""Anonymous memory stays at buffers and a few tiles, whatever the size of the file."""

import subprocess
import sys

import pytest

resource = pytest.importorskip("resource", reason="needs POSIX limits (ulimit -d)")

LIMIT = 512 * 1024**2
CODE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, ({limit}, {limit}))
import framefold as ff
with ff.Context(executor="threads") as ctx:
    ds = ctx.load({path!r}, nav_shape=(64, 128), sig_shape=(256, 256), dtype="uint16", format="raw")
    assert ds.shape.size * 2 > {limit}, "the file is larger than the limit"
    sums, std, frames = ctx.run_udf(ds, [ff.udfs.SumUDF(), ff.udfs.StdDevUDF(), ff.udfs.SumSigUDF()], corrections={corrections})
    print(int(sums["intensity"].data[3, 5]), int(frames["intensity"].data[0, 1]))
"""


@pytest.mark.parametrize("corrections", ["None", "ff.Corrections(gain=2.0)"])
def test_a_file_larger_than_the_memory_limit(tmp_path, corrections):
    path = tmp_path / "large.raw"
    with open(path, "wb") as f:
        f.truncate(64 * 128 * 256 * 256 * 2)  # 1 GiB, mostly a hole
        f.seek((256 * 256 + 3 * 256 + 5) * 2)
        f.write((7).to_bytes(2, "little"))
    code = CODE.format(limit=LIMIT, path=str(path), corrections=corrections)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    factor = 1 if corrections == "None" else 2
    assert run.stdout.split() == [str(7 * factor), str(7 * factor)]
