"""Kernels against plain numpy in float64, and that against the definitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from framefold.udfs.ptycho.kernels.fftw import FFTWKernels
from framefold.udfs.ptycho.kernels.propagate import fresnel_factor, from_detector, to_detector
from framefold.udfs.ptycho.kernels.protocol import FrameSet, SweepStep, Window
from framefold.udfs.ptycho.kernels.reference import ReferenceKernels
from framefold.udfs.ptycho.kernels.rows import momentum_step
from framefold.udfs.ptycho.kernels.shift_fit import object_slopes


def problem(n, m, modes, objects, bank=1, frames=5, seed=0):
    rng = np.random.default_rng(seed)

    def wave(*shape):
        return rng.normal(size=shape) + 1j * rng.normal(size=shape)

    probe, obj = wave(bank, modes, n, m), wave(objects, n + 12, m + 10)
    corner = np.stack([rng.integers(0, 12, frames), rng.integers(0, 10, frames)], axis=1)
    good = (rng.random((n, m)) > 0.1).astype(float)
    data = FrameSet(
        rng.poisson(3, (frames, n, m)).astype(np.uint16), corner, rng.integers(0, bank, frames), good,
        rng.random((n, m)), 8.0, rng.uniform(0.7, 1.3, frames),
    )  # fmt: skip
    return data, probe, obj, wave(frames, objects * modes, n, m)


def single(data):
    return replace(data, good=data.good.astype("f4"), background=data.background.astype("f4"))


def close(a, b, tolerance):
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


CASES = [(16, 16, 1, 1, 1), (31, 16, 2, 1, 1), (16, 20, 3, 2, 4), (64, 64, 1, 1, 1)]


@pytest.mark.parametrize("n, m, modes, objects, bank", CASES)
@pytest.mark.parametrize("near", [False, True])
def test_fftw_kernels_agree_with_the_reference(n, m, modes, objects, bank, near):
    data, probe, obj, waves = problem(n, m, modes, objects, bank)
    factor = fresnel_factor((n, m), (1e-7, 1e-7), 1e-10, 2e-3) if near else None
    ref = ReferenceKernels((n, m), modes * objects, factor)
    fast = FFTWKernels((n, m), modes * objects, factor)
    rows = np.arange(4)
    found = []
    for kernels, d, cast in ((ref, data, "c16"), (fast, single(data), "c8")):
        p, o, w = probe.astype(cast), obj.astype(cast), waves.astype(cast)
        num_o, num_p, sums = np.zeros_like(o), np.zeros_like(p), np.zeros(3)
        kernels.add_residuals(d, rows, p, o, Window(num_o), num_p, sums)
        window = np.zeros_like(o[:, :, 1:])
        shifted = replace(d, corner=d.corner + [0, 1])
        o2 = np.concatenate([o[:, :, :1], o], axis=2)
        kernels.add_residuals(shifted, rows, p, o2, Window(np.zeros_like(o), 0, 1), None, np.zeros(3))
        kernels.relax(d, rows, p, o, w, 0.75, -0.5, Window(num_o), np.zeros(3))
        kernels.add_wave_numerators(d, rows, p, o, w, Window(num_o), num_p)
        lines = np.zeros(3)
        for poisson in (True, False):
            kernels.add_slopes(d, rows, p, o, Window(num_o), num_p, sums, poisson)
            kernels.add_line(d, rows, p, o, p[:, ::-1], o[::-1].copy(), lines, poisson)
        filled = np.zeros_like(w)
        kernels.fill_waves(d, rows, p, o, filled)
        found.append(
            (num_o, num_p, sums, w, filled, kernels.intensity(d, np.array([2, 3]), p, o), window, lines)
        )
    for a, b in zip(found[1], found[0], strict=True):
        if np.abs(b).max() > 0:
            close(a, b, 2e-5)  # float32 transforms of 64 x 64: about 1e-6, sums over frames


@pytest.mark.parametrize(
    "modes, objects, mix, with_probe", [(1, 1, 1, True), (2, 2, 0.3, True), (1, 2, 1, False)]
)
def test_sweeps_update_frame_after_frame(modes, objects, mix, with_probe):
    data, probe, obj, _ = problem(16, 12, modes, objects)
    step = SweepStep(0.9, mix, 20.0, 15.0)
    rows = np.array([3, 0, 4, 1])
    found = []
    for make, d, cast in ((ReferenceKernels, data, "c16"), (FFTWKernels, single(data), "c8")):
        p, o, sums = probe[0].astype(cast), obj.astype(cast), np.zeros(3)
        make((16, 12), modes * objects).sweep(d, rows, p, o, step, with_probe, sums)
        found.append((p, o, sums))
    for a, b in zip(found[1], found[0], strict=True):
        close(a, b, 2e-5)
    # one frame: a step of the numerators over the denominators of the old pair
    p, o = probe[0].copy(), obj.copy()
    kernels = ReferenceKernels((16, 12), modes * objects)
    kernels.sweep(data, rows[:1], p, o, step, with_probe, np.zeros(3))
    num_o, num_p = np.zeros_like(obj), np.zeros_like(probe)
    kernels.add_residuals(data, rows[:1], probe, obj, Window(num_o), num_p, np.zeros(3))
    y, x = data.corner[3]
    part = obj[:, y : y + 16, x : x + 12]
    d_p = (1 - mix) * (np.abs(part) ** 2).sum(axis=0) + mix * 15
    np.testing.assert_allclose(p, probe[0] + with_probe * 0.9 * num_p[0] / d_p, rtol=1e-12)
    d_o = (1 - mix) * (np.abs(probe[0]) ** 2).sum(axis=0) + mix * 20
    np.testing.assert_allclose(
        o[:, y : y + 16, x : x + 12], part + 0.9 * num_o[:, y : y + 16, x : x + 12] / d_o, rtol=1e-12
    )


def test_windows_of_the_numerator_are_parts_of_it():
    data, probe, obj, _ = problem(16, 16, 2, 1)
    kernels = FFTWKernels((16, 16), 2)
    d, p, o = single(data), probe.astype("c8"), obj.astype("c8")
    rows = np.array([1, 3])
    whole = np.zeros_like(o)
    kernels.add_residuals(d, rows, p, o, Window(whole), None, np.zeros(3))
    low = d.corner[rows].min(axis=0)
    high = d.corner[rows].max(axis=0) + 16
    part = np.zeros((1, *(high - low)), "c8")
    kernels.add_residuals(d, rows, p, o, Window(part, *map(int, low)), None, np.zeros(3))
    np.testing.assert_array_equal(part, whole[:, low[0] : high[0], low[1] : high[1]])


@pytest.mark.parametrize("near", [False, True])
def test_propagation_is_unitary(near):
    rng = np.random.default_rng(0)
    x, y = (
        rng.normal(size=(2, 15, 12)) @ [1, 1j]
        if False
        else rng.normal(size=(15, 12)) + 1j * rng.normal(size=(15, 12))
        for _ in range(2)
    )
    factor = fresnel_factor((15, 12), (2e-7, 1e-7), 1e-10, 1e-3) if near else None
    ax = to_detector(x, factor)
    assert np.linalg.norm(ax) == pytest.approx(np.linalg.norm(x), rel=1e-12)
    assert np.vdot(ax, y) == pytest.approx(np.vdot(x, from_detector(y, factor)), rel=1e-12)
    np.testing.assert_allclose(from_detector(ax, factor), x, atol=1e-12)


def test_fresnel_propagation_spreads_a_gaussian_beam_as_it_should():
    # w(z) = w0 sqrt(1 + (z lambda / (pi w0^2))^2): Siegman, Lasers, 17.1
    n, p, lam, w0 = 256, 1e-7, 1e-10, 1.5e-6
    z = np.pi * w0**2 / lam  # one Rayleigh length
    r = (np.arange(n) - n // 2) * p
    beam = np.exp(-(r[:, None] ** 2 + r[None] ** 2) / w0**2)
    far = np.abs(to_detector(beam, fresnel_factor((n, n), (p, p), lam, z))) ** 2
    width = 2 * np.sqrt((far * r[:, None] ** 2).sum() / far.sum())
    assert width == pytest.approx(w0 * np.sqrt(2), rel=1e-3)


@pytest.mark.parametrize("modes, objects", [(1, 1), (2, 2)])
def test_numerators_are_the_gradient_of_the_misfit(modes, objects):
    """d misfit = -2 Re <numerator, d factor>, by finite differences in float64."""
    data, probe, obj, _ = problem(9, 8, modes, objects, frames=3)
    data = replace(data, power=None)  # frames count alike, whatever their brightness
    kernels = ReferenceKernels((9, 8), modes * objects)
    rows = np.arange(3)

    def misfit(p, o):
        sums = np.zeros(3)
        kernels.add_residuals(data, rows, p, o, Window(np.zeros_like(o)), None, sums)
        return sums[0]

    num_o, num_p = np.zeros_like(obj), np.zeros_like(probe)
    kernels.add_residuals(data, rows, probe, obj, Window(num_o), num_p, np.zeros(3))
    rng = np.random.default_rng(3)
    for name, numerator in (("object", num_o), ("probe", num_p)):
        d = rng.normal(size=numerator.shape) + 1j * rng.normal(size=numerator.shape)
        h = 1e-5
        plus = misfit(probe, obj + h * d) if name == "object" else misfit(probe + h * d, obj)
        minus = misfit(probe, obj - h * d) if name == "object" else misfit(probe - h * d, obj)
        # the derivative of sqrt(I) - |F| leaves |F|: background 1e-6 of the projection is the tolerance
        assert (plus - minus) / (2 * h) == pytest.approx(-2 * np.vdot(numerator, d).real, rel=1e-5)


@pytest.mark.parametrize("poisson", [True, False])
def test_slopes_and_line_are_the_derivatives_of_the_likelihood(poisson):
    data, probe, obj, _ = problem(9, 8, 2, 1, bank=2, frames=3)
    kernels = ReferenceKernels((9, 8), 2)
    rng = np.random.default_rng(3)
    d_obj = rng.normal(size=obj.shape) + 1j * rng.normal(size=obj.shape)
    d_probe = rng.normal(size=probe.shape) + 1j * rng.normal(size=probe.shape)
    rows = np.arange(3)

    def likelihood(p, o):
        total = 0.0
        for row in rows:
            model, counts = kernels.intensity(data, rows[[row]], p, o)[0], data.frames[row]
            each = (
                model - (counts + 0.25) * np.log(model + 0.25)
                if poisson
                else (np.sqrt(model) - np.sqrt(counts)) ** 2
            )
            total += (data.good * each).sum()
        return total

    num_o, num_p = np.zeros_like(obj), np.zeros_like(probe)
    kernels.add_slopes(data, rows, probe, obj, Window(num_o), num_p, np.zeros(3), poisson)
    h = 1e-5
    for dp, do in ((d_probe, 0 * d_obj), (0 * d_probe, d_obj)):
        values = [likelihood(probe + a * dp, obj + a * do) for a in (-h, h)]
        slope = (values[1] - values[0]) / (2 * h)
        assert slope == pytest.approx(-2 * (np.vdot(num_o, do) + np.vdot(num_p, dp)).real, rel=1e-5)
        sums = np.zeros(3)
        kernels.add_line(data, rows, probe, obj, dp, do, sums, poisson)
        assert sums[0] == pytest.approx(slope, rel=1e-5)
        h2 = 1e-4
        three = [likelihood(probe + a * dp, obj + a * do) for a in (-h2, 0, h2)]
        assert sums[1] == pytest.approx((three[0] - 2 * three[1] + three[2]) / h2**2, rel=1e-4)


@pytest.mark.parametrize("fast", [False, True])
def test_position_step_finds_a_small_shift(fast):
    """A smooth object moved by a known fraction of a pixel: two steps of Gauss-Newton find it."""
    n = 32
    rng = np.random.default_rng(0)
    freq = np.fft.fftfreq(48)
    low = np.exp(-((freq[:, None] ** 2 + freq[None] ** 2) / 0.06**2))
    texture = np.fft.ifft2(np.fft.fft2(rng.normal(size=(48, 48))) * low).real
    obj = np.exp(2j * texture / texture.std() * 0.4)[None]
    y = np.arange(n) - n // 2
    probe = (
        30 * np.exp(-(y[:, None] ** 2 + y[None] ** 2) / 60) * np.exp(0.02j * (y[:, None] ** 2 + y[None] ** 2))
    )[None, None]
    true = np.array([0.3, -0.2])
    ramps = np.exp(2j * np.pi * (true[0] * freq[:, None] + true[1] * freq[None]))
    moved = np.fft.ifft2(np.fft.fft2(obj) * ramps)
    ones, zeros = np.ones((n, n)), np.zeros((n, n))
    at = FrameSet(np.zeros((1, n, n)), np.array([[8, 8]]), np.array([0]), ones, zeros)
    reference = ReferenceKernels((n, n), 1)
    frames = reference.intensity(at, np.array([0]), probe, moved)
    data = FrameSet(frames, at.corner, at.bank, ones, zeros)
    kernels = reference
    if fast:
        kernels, data = FFTWKernels((n, n), 1), single(data)
        probe, obj = probe.astype("c8"), obj.astype("c8")
    (step,) = kernels.position_steps(data, np.array([0]), probe, obj, object_slopes(obj))
    assert np.abs(step - true).max() < 0.06  # one step; central differences cut the highest frequencies


@pytest.mark.parametrize("real, tolerance", [("f4", 1e-6), ("f8", 1e-14)])
def test_momentum_step_is_its_formula(real, tolerance):
    rng = np.random.default_rng(0)
    cast = "c8" if real == "f4" else "c16"
    wave, velocity, numerator = (
        (rng.normal(size=(2, 5, 6)) + 1j * rng.normal(size=(2, 5, 6))).astype(cast) for _ in range(3)
    )
    d = rng.random((5, 6)).astype(real)
    v = 0.5 * velocity + 0.8 * numerator / (0.9 * d + 0.1)
    expected = wave + v
    momentum_step(wave.view(real), velocity.view(real), numerator.view(real), d, 0.9, 0.1, 0.5, 0.8)
    np.testing.assert_allclose(velocity, v, rtol=10 * tolerance, atol=10 * tolerance)
    np.testing.assert_allclose(wave, expected, rtol=10 * tolerance, atol=10 * tolerance)
