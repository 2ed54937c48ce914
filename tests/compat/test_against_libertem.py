"""LiberTEM's own UDF files on framefold's engine give LiberTEM's results, which it computes in its own process."""

import functools
import importlib.util
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest

from framefold.compat.libertem import shim

MATRIX = Path(__file__).with_name("matrix.py")


@pytest.fixture(scope="session")
def matrix():
    spec = importlib.util.spec_from_file_location("compat_matrix", MATRIX)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def libertem_udfs(libertem_python):
    code = "from importlib.machinery import PathFinder as f; print(f.find_spec('libertem').submodule_search_locations[0])"
    return subprocess.run(
        [libertem_python, "-c", code], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


@pytest.fixture(scope="session")
def reference(libertem_python, tmp_path_factory):
    return functools.cache(
        lambda effort: _reference(libertem_python, tmp_path_factory.mktemp(effort), effort)
    )


def _reference(python, folder, effort):
    out = folder / "reference.pickle"
    subprocess.run([python, "-W", "ignore", str(MATRIX), str(out), effort], check=True, cwd=folder)
    with out.open("rb") as file:
        return pickle.load(file)


def compare(got, expected):
    wrong = []
    for case, ours in got.items():
        theirs = expected[case]
        if isinstance(ours, str) or isinstance(theirs, str):
            if ours != theirs:
                wrong.append(f"{case}: {ours if isinstance(ours, str) else 'a result'}, "
                             f"LiberTEM {theirs if isinstance(theirs, str) else 'a result'}")  # fmt: skip
            continue
        if set(ours) != set(theirs):
            wrong.append(f"{case}: buffers {set(ours)}, LiberTEM {set(theirs)}")
            continue
        for name in ours:
            problem = differ(ours[name], theirs[name])
            if problem:
                wrong.append(f"{case} {name}: {problem}")
    return wrong


def differ(ours, theirs):
    if isinstance(ours, np.ndarray):
        return None if ours.dtype == theirs.dtype and np.array_equal(ours, theirs) else "files differ"
    for what, a, b in zip(("data", "raw_data", "valid_mask"), ours, theirs, strict=False):
        if a.dtype != b.dtype or (what != "raw_data" and a.shape != b.shape) or a.size != b.size:
            return f"{what} is {a.dtype} {a.shape}, LiberTEM has {b.dtype} {b.shape}"
        b = b.reshape(a.shape)
        if a.dtype.kind in "fc":
            scale = np.abs(b[np.isfinite(b)]).max(initial=0) * np.finfo(a.dtype).eps * 32
            if not np.allclose(a, b, rtol=1e-6, atol=scale, equal_nan=True):
                return f"{what} differs by {np.nanmax(np.abs(a - b)):.3g}"
        elif not np.array_equal(a, b):
            return f"{what} differs"
    return None if ours[3:] == theirs[3:] else f"declared {ours[3:]}, LiberTEM {theirs[3:]}"


def check(matrix, expected, effort, sources):
    with shim(sources=sources):
        got = matrix.run(effort == "thorough")
    wrong = compare(got, expected)
    assert not wrong, f"{len(wrong)} of {len(got)}:\n" + "\n".join(wrong[:30])


@pytest.mark.timeout(400)
@pytest.mark.parametrize("files", ["theirs", "ours"])
def test_a_sample(matrix, reference, libertem_udfs, files):
    check(matrix, reference("sample"), "sample", libertem_udfs if files == "theirs" else None)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("files", ["theirs", "ours"])
def test_the_whole_matrix(matrix, reference, libertem_udfs, files):
    check(matrix, reference("thorough"), "thorough", libertem_udfs if files == "theirs" else None)
