"""LiberTEM's own test files pass under the shim, with its own UDF files and with framefold's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# these drive LiberTEM's task runner, pickle its UDF objects in mid-run, or replace its readers
INTERNAL = ("test_udf_pickle", "test_noncontiguous_tiles", "test_validation_skips", "test_mask_caching")
# tile shapes of LiberTEM's negotiation, and its executor of delayed arrays
NOT_PROVIDED = ("tileshape_adjustment", "test_with_main_gpu and delayed", "test_with_main_gpu and dask")

QUICK = (
    "valid_mask",
    "buffer_declarations",
    "aux_data",
    "coords",
    "meta",
    "by_tile",
    "by_partition",
    "auto",
    "pick",
    "simple_udf",
)
SLOW = ("sum", "sumsig", "stddev", "logsum", "com", "FEM", "crystallinity", "multi_udf")
OTHERS = ("test_context.py", "corrections", "test_masks.py", "common/test_shape.py", "common/test_mask_container.py",
          "common/test_math.py")  # fmt: skip


def run(folder: Path, files, sources, extra=""):
    """Run LiberTEM's test files in a process of their own; return its output, failing with it."""
    without = " and ".join(f"not ({t})" for t in (*INTERNAL, *NOT_PROVIDED))
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "framefold.compat.libertem.pytest", "--noconftest",
        "-c", os.devnull, "--rootdir", str(folder), "-p", "no:cacheprovider", "-W", "ignore",
        "-m", "not slow", "-k", f"{without}{extra}", *files,
    ]  # fmt: skip
    if sources:
        command += ["--libertem-sources", str(sources)]
    here = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{folder}"}
    done = subprocess.run(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout[-8000:]
    assert " passed" in done.stdout
    return done.stdout


@pytest.fixture(params=["theirs", "ours"])
def sources(request, libertem_tests):
    """LiberTEM's UDF files beside its tests, or None for framefold's."""
    return libertem_tests.parent / "src" / "libertem" / "udf" if request.param == "theirs" else None


def test_the_udf_interface(libertem_tests, sources):
    run(libertem_tests, [f"udf/test_{name}.py" for name in QUICK], sources)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_udfs(libertem_tests, sources):
    run(libertem_tests, [f"udf/test_{name}.py" for name in SLOW], sources)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_context_and_helpers(libertem_tests, sources):
    run(libertem_tests, OTHERS, sources)
