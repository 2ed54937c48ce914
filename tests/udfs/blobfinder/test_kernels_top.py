"""Tops of correlations against scipy, and against disks whose centre is known."""

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from framefold.errors import DataError
from framefold.udfs.blobfinder.kernels_correlate import map_width
from framefold.udfs.blobfinder.kernels_top import mass_centre, upsampled


def flat(values):
    shifts = len(values) // 2
    width = map_width(shifts)
    out = np.full((len(values), width), 1e9, np.float32)  # what lies beside the map does not count
    out[:, : len(values)] = values
    return out.reshape(-1), width, shifts


def top_at(y, x):
    top = np.zeros(8, np.float32)
    top[:2] = y, x
    return top


def test_centre_of_mass_against_scipy():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(15, 15))
    corr, width, shifts = flat(values)
    top = top_at(2, -1)
    reach, mass = mass_centre(corr, width, shifts, 4.7, top)
    y, x = np.mgrid[-7:8, -7:8]
    inside = np.hypot(y - 2, x + 1) <= 4
    above = np.where(inside, values - values[inside].min(), 0.0)
    assert reach == 4 and mass == pytest.approx(above.sum(), rel=1e-5)
    np.testing.assert_allclose(top[2:4], np.array(center_of_mass(above)) - 7, atol=1e-5)


def test_centre_of_mass_stays_inside_the_map():
    corr, width, shifts = flat(np.ones((9, 9)))
    top = top_at(3, -3)
    assert mass_centre(corr, width, shifts, 6.0, top) == (1, 0.0)
    assert top[2:4].tolist() == [3.0, -3.0]


@pytest.mark.parametrize("fineness", [10, 50])
def test_upsampling_against_a_padded_transform(fineness):
    rng = np.random.default_rng(1)
    n = 33
    for _ in range(5):
        y, x = np.mgrid[:n, :n] - 16.0
        cy, cx = rng.uniform(-0.5, 0.5, 2)
        values = np.exp(-((y - cy) ** 2 + (x - cx) ** 2 + 0.7 * (y - cy) * (x - cx)) / (2 * 2.2**2))
        padded = np.zeros((n * fineness,) * 2, complex)
        half = n // 2
        spectrum = np.fft.fftshift(np.fft.fft2(values))
        middle = n * fineness // 2
        padded[middle - half : middle + half + 1, middle - half : middle + half + 1] = spectrum
        fine = np.fft.ifft2(np.fft.ifftshift(padded)).real
        truth = np.array(np.unravel_index(int(fine.argmax()), fine.shape)) / fineness - 16
        corr, width, shifts = flat(values)
        top = top_at(0, 0)
        upsampled(corr, width, shifts, fineness, top)
        # the window may choose the next point of the grid where two are nearly as high
        np.testing.assert_allclose(top[2:4], truth, atol=1.01 / fineness)
        np.testing.assert_allclose(top[2:4], [cy, cx], atol=1.01 / fineness)


@pytest.mark.parametrize("subpixel, bias", [("upsample", 0.06), ("upsample:100", 0.04), ("com", 0.15)])
def test_centres_of_disks_without_noise(disks, subpixel, bias):
    frames, at = disks.random(100, level=1000.0, noise=False)
    peaks = disks.measured(frames, subpixel=subpixel)
    assert np.abs(peaks.centers[:, 0] - at).max() < bias
    assert not (peaks.flags & 31).any()


@pytest.mark.parametrize("subpixel", ["parabola", "upsample:100", "com"])
def test_sigma_is_the_scatter_of_the_noise(disks, subpixel):
    """Without the bias, which is the same in frames without noise."""
    frames, at = disks.random(800, level=200.0, background=10.0, seed=2)
    expected, _ = disks.random(800, level=200.0, background=10.0, seed=2, noise=False)
    noisy = disks.measured(frames, subpixel=subpixel)
    biased = disks.measured(expected, subpixel=subpixel).centers
    z = (noisy.centers - biased)[:, 0] / noisy.sigma[:, 0]
    # the choice of the window, and of the least value in it, adds noise of its own
    assert np.std(z) == pytest.approx(1.0, abs=0.3 if subpixel == "com" else 0.25)
    assert np.abs(noisy.centers[:, 0] - at).max() < 0.5


@pytest.mark.parametrize("name", ["upsample:1", "upsample:x", "upsample:1000", "coms"])
def test_no_such_refinement(disks, name):
    frames, _ = disks.random(1)
    with pytest.raises(DataError, match="subpixel .*upsample:N"):
        disks.measured(frames, subpixel=name)
