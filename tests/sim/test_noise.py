"""Noise against its distributions, detectors against arithmetic."""

import numpy as np
import pytest
import scipy.stats

from framefold.errors import DataError
from framefold.sim.kernels_noise import frame_seed
from framefold.sim.noise import Detector, poisson


@pytest.mark.parametrize("mean", [0.02, 0.7, 4.0, 11.9, 12.1, 300.0])
def test_counts_follow_the_poisson_distribution(mean):
    counts = poisson(np.full((4, 64, 64), mean), seed=5).ravel()
    assert counts.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean / counts.size))
    values, seen = np.unique(counts, return_counts=True)
    expected = scipy.stats.poisson.pmf(values, mean) * counts.size
    usual = expected > 8
    chi2 = ((seen - expected) ** 2 / expected)[usual].sum()
    # fixed seed; five sigma of the chi-squared distribution
    assert chi2 < usual.sum() + 5 * np.sqrt(2 * usual.sum())


def test_nothing_expected_gives_nothing():
    assert not poisson(np.array([[[0.0, -1.0]]])).any()


def test_frames_do_not_depend_on_how_they_are_cut():
    mean = np.full((6, 8, 8), 3.0)
    whole = poisson(mean, seed=1)
    np.testing.assert_array_equal(poisson(mean[2:5], seed=1, first=2), whole[2:5])
    assert not np.array_equal(whole[0], whole[1])
    assert not np.array_equal(whole, poisson(mean, seed=2))


def test_seeds_of_neighbours_differ():
    seeds = {int(frame_seed(run, frame)) for run in range(20) for frame in range(500)}
    # 10 000 draws from 2^32: a collision is expected once in 86 runs of this test
    assert len(seeds) >= 9999


def test_ideal_detector_stores_electrons_and_saturates():
    electrons = np.array([[[0, 5, 70_000]]])
    assert Detector().record(electrons).tolist() == [[[0, 5, 65535]]]


def test_gain_map_offset_and_rounding():
    gain = np.array([[1.0, 2.0], [0.5, 3.3]])
    stored = Detector(gain=gain, offset=10).record(np.full((1, 2, 2), 3), dtype="uint8")
    assert stored.tolist() == [[[13, 16], [12, 20]]]  # 1.5 and 9.9 above the offset, to the nearest even
    as_float = Detector(gain=gain, offset=10).record(np.full((1, 2, 2), 3), dtype="float64")
    np.testing.assert_allclose(as_float, [[[13, 16], [11.5, 19.9]]])


def test_integers_do_not_wrap():
    stored = Detector(offset=-5, gain=100).record(np.array([[[0, 1, 3]]]), dtype="uint8")
    assert stored.tolist() == [[[0, 95, 255]]]


def test_readout_noise_is_normal_and_reproducible():
    camera = Detector(readout=3.0, offset=100)
    stored = camera.record(np.zeros((4, 64, 64)), dtype="float64", seed=2)
    assert stored.std() == pytest.approx(3, rel=0.03)
    assert stored.mean() == pytest.approx(100, abs=5 * 3 / 128)
    again = camera.record(np.zeros((2, 64, 64)), dtype="float64", seed=2, first=1)
    np.testing.assert_array_equal(again, stored[1:3])


def test_bad_pixels():
    camera = Detector(hot=((0, 1),), dead=((1, 0), (1, 2)))
    stored = camera.record(np.full((2, 2, 3), 7))
    assert stored[0].tolist() == [[7, 65535, 7], [0, 7, 0]]
    assert camera.bad_pixels((2, 3)).tolist() == [[False, True, False], [True, False, True]]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: Detector(gain=0), "gain"),
        (lambda: Detector(gain=np.array([[1.0, -1.0]])), "gain"),
        (lambda: Detector(readout=-1), "readout"),
        (lambda: Detector(gain=np.ones((3, 3))).check((4, 4)), "gain map of shape"),
        (lambda: Detector(hot=((4, 0),)).check((4, 4)), "outside the detector"),
        (lambda: poisson(np.ones((4, 4))), "frames"),
    ],
)
def test_refusals(call, text):
    with pytest.raises(DataError, match=text):
        call()
