"""Gain and pedestal of simulated cameras, and that strain and its errors do not depend on them."""

import numpy as np
import pytest

import framefold as ff
from framefold.sim.stem import cbed
from framefold.udfs.blobfinder.find import find_lattice


@pytest.fixture(scope="module")
def electrons():
    scan = cbed((4, 6), (96, 96), ((49.0, 47.5), (2.0, 22.0), (22.0, -2.0)), 6.0, dose=20_000, background=0.3)
    return scan.array()


@pytest.mark.parametrize(
    ("gain", "offset", "read", "dtype"),
    [
        (1.0, 100.0, 0.0, np.uint16),
        (8.0, 1000.0, 6.0, np.uint16),
        (40.0, 0.0, 8.0, np.int32),
        (3.0, -60.0, 2.0, np.float32),
    ],
)
def test_camera(inline, electrons, gain, offset, read, dtype):
    noise = np.random.default_rng(0).normal(0.0, read, electrons.shape) if read else 0.0
    counts = electrons * gain + offset + noise
    found = find_lattice(
        inline, inline.load((np.rint(counts) if dtype != np.float32 else counts).astype(dtype))
    )
    # 24 frames of 4000 pixels beside the disks: 1 % of a variance, and structure at the edges
    assert found.gain == pytest.approx(gain, rel=0.1)
    # the variance is gain times what is above the pedestal
    assert found.pedestal == pytest.approx(offset - read**2 / gain, abs=0.1 * gain)
    assert found.radius == pytest.approx(6.0, abs=0.1)


def test_strain_and_errors_do_not_know_the_pedestal(inline, electrons):
    plain = ff.strain_map(inline, electrons)
    raised = ff.strain_map(inline, electrons + np.uint16(400))
    assert plain.valid.all() and raised.valid.all()
    ratio = raised.sigma_xx / plain.sigma_xx
    assert np.median(ratio) == pytest.approx(1.0, abs=0.1)
    assert np.abs(raised.eps_xx - plain.eps_xx).max() < 0.5 * plain.sigma_xx.max()


def test_plain_counts_are_left_alone(inline, electrons):
    found = find_lattice(inline, inline.load(electrons))
    assert (found.gain, found.pedestal) == (1.0, 0.0)
