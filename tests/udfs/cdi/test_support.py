"""Support, preparation, coherence and files against brute force."""

import h5py
import numpy as np
import pytest

from framefold.errors import ConvergenceError, DataError
from framefold.sim.coherent import coherent_pattern
from framefold.udfs.cdi import (
    CDI,
    ER,
    HIO,
    LLK,
    ML,
    AutoCorrelationSupport,
    Detwin,
    EstimatePSF,
    InterpMask,
    RandomObject,
    Save,
    ScaleObj,
    SupportUpdate,
    Upsample,
    fit,
)  # fmt: skip
from framefold.udfs.cdi.coherence import blur, gaussian_psf
from framefold.udfs.cdi.support import largest_part


def blob(shape=(20, 20)):
    y, x = np.indices(shape)
    obj = np.exp(-((y - 9) ** 2 + (x - 11) ** 2) / 8).astype(complex)
    return CDI(np.ones(shape), obj=obj, precision="double")


@pytest.mark.parametrize("relative_to", ["rms", "mean", "max"])
def test_support_is_where_the_blurred_modulus_is_large(relative_to):
    x = blob()
    new = SupportUpdate(0.3, relative_to, sigma=1e-6) * x
    m = np.abs(x.obj)
    level = {"rms": np.sqrt((m**2).mean()), "mean": m.mean(), "max": m.max()}[relative_to]
    np.testing.assert_array_equal(new.support, m > 0.3 * level)
    assert new.obj is x.obj


def test_blur_follows_the_schedule():
    op = SupportUpdate(sigma=(3.0, 1.0, 100))
    assert [op.sigma_at(n) for n in (0, 50, 100, 1000)] == [3, 2, 1, 1]
    assert SupportUpdate(sigma=1.5).sigma_at(7) == 1.5


def test_shrink_grow_and_largest_part():
    x = blob()
    small = np.zeros((20, 20), bool)
    small[9, 10:13] = True
    assert ((SupportUpdate(0.1, force_shrink=True) * x.new(support=small)).support <= small).all()
    plain, grown = (SupportUpdate(0.3, "max", 1e-6, border=b) * x for b in (0, 2))
    y, x_ = np.nonzero(grown.support)
    near = [np.abs(np.argwhere(plain.support) - (a, b)).sum(1).min() for a, b in zip(y, x_)]
    assert max(near) == 2
    two = np.zeros((9, 9), bool)
    two[:3, :3], two[6:8, 6:8] = True, True
    assert largest_part(two).sum() == 9
    lone = x.obj.copy()
    lone[0, 0] = 1
    kept = SupportUpdate(0.3, "max", 1e-6, keep_largest=True) * x.new(obj=lone)
    assert not kept.support[0, 0]
    assert kept.support[9, 11]


def test_vanished_support():
    with pytest.raises(ConvergenceError, match="the support vanished at iteration 0: lower threshold=99"):
        SupportUpdate(99.0) * blob()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SupportUpdate(0), "threshold=0 must be positive"),
        (lambda: SupportUpdate(relative_to="median"), "'rms', 'mean' or 'max'"),
        (lambda: SupportUpdate(sigma=(1, 2)), "a number or"),
        (lambda: Detwin(axis=4) * blob(), "axis=4 is not an axis"),
        (lambda: Upsample(0.5), "below 1"),
        (lambda: EstimatePSF(n=0), "must be positive"),
        (lambda: ScaleObj() * blob().new(obj=np.zeros((20, 20), complex)), "the object is 0"),
        (lambda: Save("x.tif") * blob(), "use .cxi or .npz"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(DataError, match=message):
        make()


def test_autocorrelation_holds_the_object():
    pattern = coherent_pattern((48, 48), 0.35, seed=2)
    x = AutoCorrelationSupport(0.04) * CDI(pattern.iobs, seed=5)
    truth = np.abs(np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(pattern.iobs))))
    truth[24, 24] = 0
    expected = truth > 0.04 * truth.max()
    expected[24, 24] = True
    np.testing.assert_array_equal(x.support, expected)
    # some translate of the object lies inside
    inside = np.fft.ifft2(np.fft.fft2(x.support) * np.fft.fft2(pattern.support).conj()).real
    assert inside.max() > 0.97 * pattern.support.sum()
    assert np.vdot(x.obj, x.obj).real == pytest.approx(pattern.iobs.sum(), rel=1e-5)
    assert not np.array_equal(x.obj, (AutoCorrelationSupport(0.04) * CDI(pattern.iobs, seed=6)).obj)


def test_detwin_uses_half_of_the_support_and_gives_it_back():
    pattern = coherent_pattern((32, 32), seed=1)
    x = CDI(pattern.iobs, pattern.support, seed=3)
    y = Detwin(n=3, axis=1) * x
    np.testing.assert_array_equal(y.support, x.support)
    cols = np.flatnonzero(pattern.support.any(0))
    assert not y.obj[:, int(cols.mean()) :].any()
    assert y.obj[:, : int(cols.mean())].any()
    assert y.cycle == 3


def test_interpolated_pixels_stay_free():
    pattern = coherent_pattern((40, 40), 0.3, seed=1)
    mask = np.zeros((40, 40), bool)
    mask[18:23, 18:23] = True
    mask[::7, ::5] = True
    x = InterpMask() * CDI(np.where(mask, 0, pattern.iobs), mask=mask, precision="double")
    filled = np.fft.fftshift(x.data.intensity)
    np.testing.assert_array_equal(filled[~mask], pattern.iobs[~mask])
    assert (filled[mask] > 0).all()
    ratio = np.log1p(filled[mask]) / np.log1p(pattern.iobs[mask])
    assert np.median(np.abs(ratio - 1)) < 0.3
    assert ((np.fft.fftshift(x.data.code) == 0) == mask).all()
    whole = CDI(pattern.iobs)
    assert (InterpMask() * whole) is whole


def test_scale_is_the_least_squares_one():
    pattern = coherent_pattern((32, 32), phase=1.0)
    x = ScaleObj() * CDI(pattern.iobs, pattern.support, 7.3 * pattern.obj, precision="double")
    np.testing.assert_allclose(x.obj, pattern.obj, atol=1e-9 * np.abs(pattern.obj).max())


def test_random_starts():
    x = blob()
    a, b = RandomObject() * x, RandomObject(seed=9) * x
    assert not np.array_equal(a.obj, b.obj)
    np.testing.assert_array_equal(a.obj, (RandomObject() * b).obj)


@pytest.mark.parametrize("shape", [(16, 20), (15, 12)])
def test_finer_pixels(shape):
    pattern = coherent_pattern(shape, 0.45, phase=0.5, seed=1)
    x = CDI(pattern.iobs, pattern.support, pattern.obj, precision="double", pixel_size=2e-9)
    y = Upsample(2) * x
    assert y.shape == tuple(2 * n - n % 2 for n in shape)
    # the same amplitudes where they were measured, nothing known beyond
    before, after = (np.fft.fftshift(np.fft.fft2(v.obj, norm="ortho")) for v in (x, y))
    at = [m // 2 - n // 2 for n, m in zip(shape, y.shape, strict=True)]
    window = tuple(slice(a, a + n) for a, n in zip(at, shape, strict=True))
    np.testing.assert_allclose(after[window], before, atol=1e-9)
    code = np.fft.fftshift(y.data.code)
    assert code[window].all()
    assert code.sum() == code[window].sum()
    assert fit(y.new(support=np.ones(y.shape, bool))).error < 1e-6
    assert y.pixel_size == pytest.approx(2e-9 * shape[1] / y.shape[1])


def test_partial_coherence_is_found():
    pattern = coherent_pattern((48, 48), 0.3, blur=0.9, seed=2)
    x = CDI(pattern.iobs, pattern.support, pattern.obj, precision="double")
    y = EstimatePSF(n=60) * x
    truth = gaussian_psf((48, 48), 0.9)
    assert y.psf.sum() == pytest.approx(1)
    assert np.abs(y.psf - truth).max() < 0.15 * truth.max()
    assert fit(y).error < 0.2 * fit(x).error
    better = ER() ** 20 * y
    assert fit(better).error <= fit(y).error
    with pytest.raises(DataError, match="does not model partial coherence"):
        ML() * y


def test_blur_is_a_circular_convolution():
    rng = np.random.default_rng(0)
    values, psf = rng.random((2, 5, 6))
    brute = sum(psf[i, j] * np.roll(values, (i, j), (0, 1)) for i in range(5) for j in range(6))
    np.testing.assert_allclose(blur(values, psf), brute)


def test_history_is_recorded():
    pattern = coherent_pattern((24, 24))
    x = (LLK() * ER() ** 5) ** 3 * CDI(pattern.iobs, pattern.support)
    assert [cycle for cycle, _ in x.history] == [5, 10, 15]
    errors = [figures["error"] for _, figures in x.history]
    assert errors == sorted(errors, reverse=True)
    assert x.history[0][1]["support"] == pytest.approx(pattern.support.mean())


def test_saved_states(tmp_path):
    pattern = coherent_pattern((24, 20), beam_stop=3)
    x = LLK() * HIO() ** 4 * CDI(pattern.iobs, pattern.support, mask=pattern.mask, pixel_size=3e-9)
    Save(str(tmp_path / "at{cycle}.npz")) * x
    with np.load(tmp_path / "at4.npz") as stored:
        np.testing.assert_array_equal(stored["obj"], x.solution)
        np.testing.assert_array_equal(stored["support"], x.support)
        assert stored["history_cycle"].tolist() == [4]
    Save(str(tmp_path / "state.cxi")) * x
    with h5py.File(tmp_path / "state.cxi") as f:
        assert f["cxi_version"][()] == 160
        np.testing.assert_array_equal(f["entry_1/data_1/data"][()], x.solution)
        np.testing.assert_array_equal(f["entry_1/image_1/mask"][()] == 0, x.support)
        assert f["entry_1/image_1/image_size"][()].tolist() == pytest.approx([20 * 3e-9, 24 * 3e-9])
        detector = f["entry_1/instrument_1/detector_1"]
        np.testing.assert_allclose(detector["data"][()], pattern.iobs, rtol=1e-6)
        np.testing.assert_array_equal(detector["mask"][()] > 0, pattern.mask)
        assert f["entry_1/image_1/process_1/results/history/error"][()].shape == (1,)
    assert not list(tmp_path.glob("*.part"))
