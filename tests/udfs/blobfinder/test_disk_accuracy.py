"""Centres against the Cramer-Rao bound, and error bars against scatter."""

import numpy as np
import pytest

import framefold as ff
from framefold.sim import kernels_disk as kd
from framefold.udfs.blobfinder import BlobfinderUDF
from framefold.udfs.blobfinder.patterns import Disk, Template


def rms(peaks, at):
    return float(np.sqrt(np.mean((peaks.centers[:, 0] - at) ** 2)))


@pytest.mark.parametrize(
    "subpixel, radius, bias",
    [
        ("ml4", 6.0, 0.005),
        ("ml6", 6.0, 0.005),
        ("auto", 9.5, 0.005),
        ("ml4", 3.2, 0.01),
        ("parabola", 6.0, 0.03),
    ],
)
def test_no_bias_without_noise(disks, subpixel, radius, bias):
    frames, at = disks.random(150, radius=radius, level=1000.0, noise=False)
    peaks = disks.measured(frames, radius, subpixel)
    assert np.abs(peaks.centers[:, 0] - at).max() < bias
    assert not (peaks.flags & 31).any()


# counts per pixel of disk and background: 340 to 10^5 electrons per disk
@pytest.mark.parametrize("level, background", [(3.0, 0.3), (20.0, 1.0), (900.0, 10.0)])
@pytest.mark.parametrize(
    "subpixel, factor", [("ml4", 1.15), ("ml6", 1.3), ("auto", 1.15), ("parabola", None)]
)
def test_near_the_bound(disks, level, background, subpixel, factor):
    n = 1000
    frames, at = disks.random(n, level=level, background=background, seed=1)
    peaks = disks.measured(frames, subpixel=subpixel)
    if factor is None:  # the fast mode: noise of about 1.4 bounds, and a bias of 0.02 px that no dose mends
        assert rms(peaks, at) < np.hypot(1.45 * disks.bound(6.0, level, background), 0.025)
        return
    # the RMS of 2 n numbers is known to 1 / sqrt(4 n): 1.6 %
    assert rms(peaks, at) < factor * disks.bound(6.0, level, background)
    assert rms(peaks, at) > 0.95 * disks.bound(6.0, level, background)
    assert np.mean((peaks.flags & 31) > 0) < 0.03


@pytest.mark.parametrize("subpixel", ["ml4", "ml6", "auto"])
def test_sigma_is_the_scatter(disks, subpixel):
    frames, at = disks.random(1500, seed=2)
    peaks = disks.measured(frames, subpixel=subpixel)
    z = (peaks.centers[:, 0] - at) / peaks.sigma[:, 0]
    assert np.std(z) == pytest.approx(1.0, abs=0.1)
    assert abs(np.mean(z)) < 4 / np.sqrt(z.size)
    assert np.median(peaks.chi2) == pytest.approx(1.0, abs=0.05)


def test_sigma_with_gain(disks):
    frames, at = disks.random(800, seed=3)
    peaks = disks.measured(7 * frames, gain=7.0)
    z = (peaks.centers[:, 0] - at) / peaks.sigma[:, 0]
    assert np.std(z) == pytest.approx(1.0, abs=0.1)
    assert np.median(peaks.chi2) == pytest.approx(1.0, abs=0.05)
    assert np.median(peaks.amplitude) == pytest.approx(140.0, rel=0.01)


@pytest.mark.parametrize(
    "structure, subpixel, limit",
    [("tilt", "ml6", 0.05), ("tilt", "auto", 0.05), ("half", "ml6", 0.06), ("half", "auto", 0.06),
     ("fringes", "ml4", 0.06), ("fringes", "auto", 0.06)],
)  # fmt: skip
def test_structure_inside_the_disk(disks, structure, subpixel, limit):
    frames, at = disks.random(600, structure=structure, seed=4)
    assert rms(disks.measured(frames, subpixel=subpixel), at) < limit


def test_auto_takes_the_tilt_only_where_there_is_one(disks):
    plain = disks.measured(disks.random(500, seed=5)[0])
    tilted = disks.measured(disks.random(500, structure="tilt", seed=5)[0])
    # two more parameters gain a chi2 of 2 degrees of freedom: above 8 in exp(-4) = 1.8 % of the cases
    assert np.mean((plain.flags & 32) > 0) < 0.018 + 4 * np.sqrt(0.018 / 500)
    assert np.mean((tilted.flags & 32) > 0) > 0.99
    length = np.hypot(*np.moveaxis(tilted.tilt[:, 0], -1, 0))
    assert np.median(length / tilted.amplitude[:, 0]) == pytest.approx(0.6, abs=0.03)


def test_levels(disks):
    peaks = disks.measured(disks.random(400, seed=6)[0], subpixel="ml4")
    assert np.mean(peaks.amplitude) == pytest.approx(20.0, rel=0.01)
    assert np.mean(peaks.background) == pytest.approx(1.0, rel=0.03)


def test_saturated_and_bad_pixels_are_left_out(disks):
    frames, at = disks.random(300, level=40.0, seed=7)
    broken = frames.copy()
    broken[:, 31, 27] = 65535  # saturated, inside the disk
    good = np.ones(frames.shape[1:], bool)
    good[26, 32] = False
    broken[:, 26, 32] = 30000
    peaks = disks.measured(broken, subpixel="ml4", good=good, saturation=1000)
    assert rms(peaks, at) < 1.15 * 1.1 * disks.bound(6.0, 40.0, 1.0)
    assert ((peaks.flags & 16) > 0).all() and ((peaks.flags & 2) > 0).all()


def test_nan_pixels(disks):
    frames, at = disks.random(100, level=40.0, noise=False)
    frames[:, 33, 33] = np.nan
    peaks = disks.measured(frames, subpixel="ml4")
    assert np.abs(peaks.centers[:, 0] - at).max() < 0.01


@pytest.mark.parametrize("value", [0, 7])
def test_constant_frames_give_no_peak(disks, value):
    peaks = disks.measured(np.full((3, 60, 60), value, np.uint16))
    assert ((peaks.flags & 12) > 0).all()


def test_half_hidden_disk_is_flagged(disks):
    frames, _ = disks.random(20, seed=8)
    good = np.ones((60, 60), bool)
    good[:, 29:] = False
    peaks = disks.measured(frames, good=good)
    assert ((peaks.flags & 2) > 0).all()
    assert (peaks.sigma > 0.05).all() or np.isnan(peaks.centers).any()


def test_soft_edge(disks):
    from scipy.ndimage import gaussian_filter

    frames, at = disks.random(200, level=500.0, noise=False)
    blurred = gaussian_filter(frames, (0, 0.8, 0.8))
    sharp = disks.measured(blurred, Disk(6.0), "ml4")
    soft = disks.measured(blurred, Disk(6.0, softness=0.8), "ml4")
    # the spline has no tails: of them comes a bias of a hundredth of the distance from the pixel's middle
    assert np.abs(soft.centers[:, 0] - at).max() < 0.02
    assert np.median(soft.chi2) < 0.1 * np.median(sharp.chi2)


def test_measured_template(disks):
    """A probe with an edge wider than a pixel, as optics make them: better than the disk that it is not."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(9)
    template = Template(gaussian_filter(disks.expected(30.0, 30.0, 6.0, 1000.0, 3.0), 1.0))
    assert template.radius == pytest.approx(6.0, abs=0.1)
    frames, at = disks.random(600, level=100.0, noise=False)
    counts = rng.poisson(gaussian_filter(frames, (0, 1.0, 1.0))).astype(np.float32)
    fitted = disks.measured(counts, template, "ml4")
    assert rms(fitted, at) < rms(disks.measured(counts, 6.0, "ml4"), at)
    assert rms(fitted, at) == pytest.approx(np.sqrt(np.mean(fitted.sigma**2)), rel=0.15)
    assert np.median(fitted.chi2) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("scaling", ["sqrt", "log", "none"])
def test_scalings_find_the_same_disks(disks, scaling):
    frames, at = disks.random(200, seed=10)
    peaks = disks.measured(frames, subpixel="parabola", scaling=scaling)
    assert rms(peaks, at) < 0.15


def test_bright_neighbour(disks):
    """A direct beam 40 times as bright as its neighbours neither attracts nor repels them."""
    frames, at = disks.random(50, seed=11, noise=False)
    bright = (
        np.random.default_rng(0).poisson(frames + 40 * (np.roll(frames, 22, axis=2) - 1)).astype(np.uint16)
    )
    peaks = disks.measured(bright, spacing=22.0)
    assert np.abs(peaks.centers[:, 0] - at).max() < 1.0


def test_tilts_too_weak_for_one_disk_show_in_all_disks_of_a_frame():
    """A quarter more light on the right: below the noise of a disk, 0.1 px if left out."""
    zero, a, b = (80.0, 80.0), (0.0, 26.0), (26.0, 0.0)
    lattice = np.array([(h, k) for h in range(-2, 3) for k in range(-2, 3)])
    rng = np.random.default_rng(8)
    frames, truth = {}, None
    for strength in (0.0, 0.25):
        frames[strength] = np.full((40, 160, 160), 1.0)
        truth = np.array(zero) + lattice @ np.array([a, b]) + rng.uniform(-0.5, 0.5, (40, 25, 2))
        for frame, disks in zip(frames[strength], truth, strict=True):
            for y, x in disks:
                kd.add_structured_disk(frame, y, x, 6.0, 6.0, kd.TILT, 0.0, 1.0, strength, 0.0, 0.0, 0.0)
    even, tilted = (rng.poisson(f).astype(np.uint16) for f in frames.values())

    def run(data, subpixel):
        with ff.Context(executor="inline") as ctx:
            return ctx.run_udf(ctx.load(data), BlobfinderUDF((zero, a, b), 6.0, subpixel=subpixel))

    shifts = {}
    for subpixel in ("ml4", "auto"):
        res = run(tilted, subpixel)
        order = np.lexsort(res["indices"].data.T[::-1])
        shifts[subpixel] = float((res["centers"].data[:, order] - truth)[..., 1].mean())
    assert shifts["ml4"] > 0.08
    assert abs(shifts["auto"]) < 0.02
    # where there is none, one disk in exp(-4) and one frame in some hundred show one by chance
    assert np.mean((run(even, "auto")["flags"].data & 32) > 0) < 0.05
