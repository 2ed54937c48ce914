"""Fourier rings against numpy in float64, peaks against plane waves."""

import numpy as np
import pytest

from framefold.kernels.mask_runs import runs_of_dense
from framefold.kernels.ring_std import ring_std, ring_std_reference
from framefold.kernels.spectral import (
    HalfTransform,
    half_ring,
    half_spectrum,
    ring_amplitude,
    ring_amplitude_reference,
    strongest_peaks,
)


@pytest.mark.parametrize("sig", [(16, 16), (15, 21), (32, 9)])
@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
def test_ring_amplitude(sig, dtype):
    data = np.random.default_rng(0).integers(0, 5000, (5, *sig)).astype(dtype)
    window = (np.random.default_rng(1).random(sig) > 0.2).astype(np.float32)
    for inner, outer in ((1, 3), (0, 100), (2.5, 4.1)):
        got = ring_amplitude(data, half_ring(sig, inner, outer), window)
        np.testing.assert_allclose(got, ring_amplitude_reference(data, inner, outer, window), rtol=1e-5)
    assert not ring_amplitude(data, half_ring(sig, 90, 100)).any()


@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
def test_transforms_agree(dtype):
    data = np.random.default_rng(0).integers(0, 5000, (3, 12, 15)).astype(dtype)
    window = np.random.default_rng(1).random((12, 15)).astype("f4")
    ring = half_ring((12, 15), 0, 5)
    transform = HalfTransform(ring, dtype == "f8")
    for w in (None, window):
        expected = half_spectrum(data, ring, w)
        for frame, one in zip(data, expected, strict=True):
            np.testing.assert_allclose(transform(frame, w), one, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_ring_std(dtype):
    data = np.random.default_rng(0).integers(100, 200, (5, 9, 12)).astype(dtype)
    mask = np.random.default_rng(1).random((9, 12)) > 0.5
    got = ring_std(data, runs_of_dense(mask[None]))
    np.testing.assert_allclose(got, ring_std_reference(data, mask), rtol=1e-12)
    assert np.isnan(ring_std(data, runs_of_dense(np.zeros((1, 9, 12), bool)))).all()


@pytest.mark.parametrize("waves", [[(3, 5), (-4, 2)], [(5, 0), (0, 4)], [(0, 3), (2, 0), (-6, 6)]])
def test_peaks_are_the_plane_waves(waves):
    n = 32
    y, x = np.mgrid[:n, :n]
    frame = sum(
        (len(waves) - i) * np.cos(2 * np.pi * (ky * y + kx * x) / n) for i, (ky, kx) in enumerate(waves)
    )
    ring = half_ring((n, n), 1, 12)
    power = np.abs(half_spectrum(frame[None], ring)[0]) ** 2
    power[power < 1e-6] = 0
    position, height = np.zeros((6, 2), np.int64), np.zeros(6)
    found = strongest_peaks(power, ring.mask, position, height)
    assert found == len(waves)
    np.testing.assert_array_equal(position[:found], [(ky % n, kx) for ky, kx in waves])
    np.testing.assert_allclose(height[:found], [((len(waves) - i) * n * n / 2) ** 2 for i in range(found)])


def test_peaks_keep_the_strongest():
    power = np.zeros((16, 9))
    for i, (y, x) in enumerate([(2, 2), (6, 3), (10, 5), (13, 7)]):
        power[y, x] = 10 + (i * 7) % 4
    position, height = np.zeros((2, 2), np.int64), np.zeros(2)
    assert strongest_peaks(power, np.ones((16, 9), bool), position, height) == 2
    np.testing.assert_array_equal(height, [13, 12])
    np.testing.assert_array_equal(position, [(6, 3), (10, 5)])
