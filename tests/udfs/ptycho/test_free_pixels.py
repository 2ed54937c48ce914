"""Held-out pixels: their deviance against plain numpy, and what over-fitting does to the object."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import poisson

import framefold as ff
from framefold.errors import UDFError
from framefold.sim.ptycho import ptycho_scan
from framefold.udfs.ptycho import Ptychography
from framefold.udfs.ptycho.free_pixels import deviances, hold_out


@pytest.fixture(scope="module")
def ctx():
    with ff.Context(executor="threads") as ctx:
        yield ctx


def test_history_holds_the_deviance_of_pixels_that_the_fit_does_not_see(ctx):
    scan = ptycho_scan(49, 24, probe_radius=4, step=2, photons=1e4, seed=1)
    kwargs = {
        "probe": scan.probe,
        "recipe": "5 AP",
        "subpixel": None,
        "precision": "double",
        "centre": "middle",
    }
    udf = Ptychography(free_pixels=0.05, **kwargs)
    it = ctx.iterate(scan.source(), udf)
    found = it.to_end()
    s = udf.setup
    free = np.fft.fftshift(s.free, axes=(1, 2))
    assert (free.sum(axis=(1, 2)) == round(0.05 * 24 * 24)).all()
    total, n = 0.0, 0
    hidden = [free[k % len(free)] for k in range(49)]
    for frame, (y, x), where in zip(scan.frames[s.order], s.corner, hidden, strict=True):
        wave = found["raw_probe"].data[0] * found["raw_object"].data[0, y : y + 24, x : x + 24]
        model = np.abs(np.fft.fftshift(np.fft.fft2(wave, norm="ortho"))) ** 2
        i, m = frame[where] + 0.25, model[where] + 0.25
        total, n = total + (m - i + i * np.log(i / m)).sum(), n + where.sum()
    llk = it.snapshot.history["llk_free"]
    assert np.isnan(llk[:4]).all()
    assert llk[4] == pytest.approx(total / n, rel=1e-6)
    assert found["llk_free"].data[4] == llk[4]
    assert [name for spec in udf.get_plots() for name in spec.results][-2:] == ["error", "llk_free"]
    changed = scan.frames.copy()
    for row, where in zip(s.order, hidden, strict=True):
        changed[row][where] = np.roll(changed[row][where], 5)  # nonsense where the fit does not look
    other = Ptychography(scan.geometry, scan.pixels * scan.pixel_size, free_pixels=0.05, **kwargs)
    same = ctx.iterate(changed, other).to_end()
    np.testing.assert_allclose(same["raw_object"].data, found["raw_object"].data, rtol=1e-6)
    assert (changed != scan.frames).any()


def test_deviance_is_the_likelihood_and_a_half_for_a_true_model():
    rng = np.random.default_rng(0)
    model = rng.uniform(50, 80, 4000)
    counts = rng.poisson(model)
    # differences of likelihoods: the soft quarter of a count changes them by less than 1 / 50
    other = 1.05 * model
    expected = poisson.logpmf(counts, model).sum() - poisson.logpmf(counts, other).sum()
    assert deviances(counts, other).sum() - deviances(counts, model).sum() == pytest.approx(
        expected, rel=0.02
    )
    assert deviances(counts, model).mean() == pytest.approx(0.5, abs=4 / np.sqrt(2 * 4000))
    good = rng.random((40, 40)) < 0.7
    free = hold_out(good, 0.02, rng)
    assert (free.sum(axis=(1, 2)) == round(0.02 * good.sum())).all()
    assert not (free & ~good).any()


def scan_of(photons, noise=True):
    return ptycho_scan(
        64, 32, probe_radius=6, step=3, photons=photons, noise=noise, dtype="u2" if noise else "f8", seed=2
    )


def test_fitting_of_noise_is_stopped_and_taken_back(ctx):
    scan = scan_of(3e3)
    kwargs = {"probe": scan.probe, "modes": 4, "recipe": "60 ML", "subpixel": None}
    udf = Ptychography(free_pixels=0.05, **kwargs)
    free = ctx.iterate(scan.source(), udf)
    stopped = free.to_end()
    assert free.snapshot.reason.startswith("over-fitting")
    assert free.snapshot.iteration < 60
    whole = ctx.iterate(scan.source(), Ptychography(**kwargs)).to_end()
    fresh = np.random.default_rng(5).poisson(scan_of(3e3, noise=False).frames)  # never seen by any fit

    def predicts(result):
        total = 0.0
        for frame, (y, x) in zip(fresh[udf.setup.order], udf.setup.corner, strict=True):
            waves = result["raw_probe"].data * result["raw_object"].data[0, y : y + 32, x : x + 32]
            model = (np.abs(np.fft.fftshift(np.fft.fft2(waves, norm="ortho"), axes=(1, 2))) ** 2).sum(axis=0)
            total += deviances(frame, model).sum()
        return total

    assert predicts(stopped) < 0.97 * predicts(whole)


def test_a_model_that_suits_the_data_is_not_stopped(ctx):
    scan = scan_of(3e4)
    free = ctx.iterate(scan.source(), Ptychography(probe=scan.probe, recipe="60 ML", free_pixels=0.05))
    free.to_end()
    llk = free.snapshot.history["llk_free"][4::5]
    assert free.snapshot.iteration == 60
    assert llk[-1] < 0.95 * llk[0]


def test_wrong_arguments():
    with pytest.raises(UDFError, match="free_pixels=0.7 must be in"):
        Ptychography(free_pixels=0.7)
    with pytest.raises(UDFError, match="free_pixels: a background that is estimated"):
        Ptychography(free_pixels=0.02, background="estimate")
    with pytest.raises(UDFError, match="free_pixels: EPIE takes frame after frame"):
        Ptychography(free_pixels=0.02, recipe="5 EPIE")
