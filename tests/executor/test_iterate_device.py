"""Iterations whose frames, buffers and state lie on a device."""

from __future__ import annotations

import numpy as np
import pytest

from framefold.executor.iterate_host import HostLoop
from framefold.executor.iterate_team import LocalTeam, copied
from framefold.udfcore.iterative import IterativeUDF
from framefold.udfcore.namespace import is_device

FRAMES = np.arange(60, dtype=np.uint16).reshape(5, 3, 4)


class Walk(IterativeUDF):
    """Adds frames to what it has, and keeps the largest of each lane's values."""

    def __init__(self, xp):
        super().__init__()
        self._xp = xp

    @property
    def xp(self):
        return self._xp

    def copy(self):
        return Walk(self._xp)

    def get_loop_state(self):
        return {"x": self.xp.zeros((3, 4)), "steps": 0, "top": np.zeros(())}

    def get_partition_state(self):
        return {"seen": ((), "f4")}

    def get_pass_buffers(self):
        return {
            "sum": self.summed((3, 4), "f8", windowed=True),
            "top": self.summed((), "f8", reduce="max"),
        }

    def window(self, name):
        return (slice(0, 3), slice(0, 4))

    def process_rows(self, frames, rows):
        assert is_device(frames) == (self.xp is not np)
        for row in rows.tolist():
            self.results.sum[...] += frames[row]
            self.results.top[...] = self.xp.maximum(self.results.top, frames[row].max())
            self.state.seen[row] += 1

    def step(self, phase, results):
        self.loop.x = self.loop.x + results.sum
        self.loop.top = results.top
        self.loop.steps += 1


class Twin:
    """Another host that has the same frames and computes the same."""

    rank, size = 0, 2

    def allreduce(self, arrays):
        for array, reduce in arrays:
            assert isinstance(array, np.ndarray)
            if reduce == "sum":
                array *= 2

    def close(self):
        pass


def test_one_lane_does_all(xp):
    loop = HostLoop(Walk(xp), FRAMES, 0, 3)
    loop.iterate()
    loop.iterate()
    assert len(loop._udfs) == (3 if xp is np else 1)
    found = loop.publish()
    assert all(isinstance(v, np.ndarray) for v in found.values())
    np.testing.assert_array_equal(found["x"], 2 * FRAMES.sum(axis=0))
    assert found["top"] == 59
    np.testing.assert_array_equal(loop.gather_state("seen"), np.full(5, 2))
    loop.close()


def test_state_for_checkpoints_lies_on_the_host(device_xp):
    team = LocalTeam(lambda: HostLoop(Walk(device_xp), FRAMES, 0, 1))
    team.begin(None)
    team.advance(0, 1)
    for state in (team.state(), copied(team.loop)):
        assert isinstance(state.loop["x"], np.ndarray)
        assert state.loop["steps"] == 1
    assert is_device(team.loop.udf.loop.x)
    team.close()


def test_hosts_join_their_sums_and_stay_alike(device_xp):
    loop = HostLoop(Walk(device_xp), FRAMES, 0, 1, comm=Twin())
    for _ in range(10):  # then the loop states are compared
        loop.iterate()
    assert is_device(loop.udf.loop.x)
    np.testing.assert_array_equal(loop.publish()["x"], 20 * FRAMES.sum(axis=0))
    loop.close()


@pytest.mark.parametrize("fresh", [[3], [1, 4]])
def test_live_frames_follow_to_the_device(device_xp, fresh):
    frames = np.where(np.arange(5)[:, None, None] % 2 == 0, FRAMES, 0)
    loop = HostLoop(Walk(device_xp), frames, 0, 1, present=np.array([0, 2]))
    loop.iterate()
    np.testing.assert_array_equal(loop.publish()["x"], FRAMES[[0, 2]].sum(axis=0))
    frames[fresh] = FRAMES[fresh]
    loop.grow(np.array(fresh), growing=True)
    loop.iterate()
    expected = 2 * FRAMES[[0, 2]].sum(axis=0) + FRAMES[fresh].sum(axis=0)
    np.testing.assert_array_equal(loop.publish()["x"], expected)
    loop.close()
