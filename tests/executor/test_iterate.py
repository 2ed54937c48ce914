"""Lanes, joining and checkpoints of iterative reductions."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.executor.iterate_checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from framefold.executor.iterate_lanes import Lanes
from framefold.executor.iterate_reduce import allocate, join, neutral
from framefold.udfcore.iterative import PassBuffer


def test_all_lanes_run_at_once_and_errors_wait_for_the_others():
    lanes = Lanes(3)
    meeting = threading.Barrier(3, timeout=30)
    seen = []
    lanes.run(lambda lane: (meeting.wait(), seen.append(lane)))
    assert sorted(seen) == [0, 1, 2]
    done = []

    def work(lane):
        if lane == 1:
            raise ValueError("lane 1")
        done.append(lane)

    with pytest.raises(ValueError, match="lane 1"):
        lanes.run(work)
    assert sorted(done) == [0, 2]
    lanes.run(done.append)  # still usable
    lanes.close()


@pytest.mark.parametrize("dtype", ["i8", "f4"])
def test_maxima_may_be_negative(dtype):
    decl = PassBuffer((3,), np.dtype(dtype), "max", windowed=True)
    parts = [(allocate(decl, (s,)), (s,)) for s in (slice(0, 2), slice(1, 3))]
    for i, (array, _) in enumerate(parts):
        array[...] = -5 + i
    np.testing.assert_array_equal(join(decl, parts), [-5, -4, -4])
    assert neutral(decl) < -(2**60)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_join_sums_or_takes_the_maximum(n):
    rng = np.random.default_rng(0)
    arrays = rng.integers(0, 100, (n, 4, 3)).astype(float)
    total = PassBuffer((4, 3), np.dtype("f8"))
    np.testing.assert_array_equal(join(total, [(a.copy(), None) for a in arrays]), arrays.sum(axis=0))
    top = PassBuffer((4, 3), np.dtype("f8"), "max")
    np.testing.assert_array_equal(join(top, [(a.copy(), None) for a in arrays]), arrays.max(axis=0))


def test_windows_are_added_where_they_belong():
    decl = PassBuffer((5, 6), np.dtype("f8"), windowed=True)
    windows = [(slice(0, 3), slice(1, 5)), (slice(2, 5), slice(0, 6))]
    parts = [(allocate(decl, w) + i + 1, w) for i, w in enumerate(windows)]
    expected = np.zeros((5, 6))
    expected[0:3, 1:5] += 1
    expected[2:5, 0:6] += 2
    np.testing.assert_array_equal(join(decl, parts), expected)


def test_checkpoints_round_trip(tmp_path):
    path = tmp_path / "c.h5"
    loop = {
        "x": np.arange(6).reshape(2, 3) * 1j,
        "n": 3,
        "rate": np.float64(0.5),
        "shift": (1, -2),
        "none": None,
    }
    save_checkpoint(path, Checkpoint(loop, {"e": np.array([1.0, np.nan])}, 2, "U", "data"))
    found = load_checkpoint(path, "U", "data")
    np.testing.assert_array_equal(found.loop["x"], loop["x"])
    assert found.loop["n"] == 3
    assert found.loop["rate"] == 0.5
    assert found.loop["shift"] == [1, -2]
    assert found.loop["none"] is None
    assert found.iteration == 2
    np.testing.assert_array_equal(found.history["e"], [1.0, np.nan])
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError, match="written by U, not V"):
        load_checkpoint(path, "V", "data")
    with pytest.raises(DataError, match="there data"):
        load_checkpoint(path, "U", "other")
    with pytest.raises(DataError, match="'bad' is a object"):
        save_checkpoint(path, Checkpoint({"bad": object()}, {}, 1, "U", "data"))
    with pytest.raises(DataError, match="could not be written"):
        save_checkpoint(tmp_path / "absent" / "c.h5", Checkpoint({}, {}, 1, "U", "data"))
